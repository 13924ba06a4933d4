"""The content of `report.json`, versioned. `report/` draws it; nothing in it is HTML."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgekit.core.measurement import Accuracy, Agreement, Latency

REPORT_VERSION = 1


class ReportDataset(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on: dataset name, split and number of pictures.

    Args:
        name: Dataset name or folder.
        split: "test", "train" or "calibration".
        n: Pictures measured.
        labelled: Whether right answers are known.
        class_names: In label order; empty when unlabelled.
        num_left_out: Pictures asked for that could not be read.
    """

    name: str
    split: str
    n: int
    labelled: bool
    class_names: tuple[str, ...]
    num_left_out: int = 0


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on disk, and the limit that no lossless coder of independent symbols goes below.

    Args:
        float_bytes: Float ONNX file.
        onnx_bytes: Quantized ONNX file.
        tflite_bytes: Quantized TFLite file.
        ekz_bytes: Packed TFLite file; None in reports that are older than the packer.
        limit_bytes: Order-0 entropy of the shipped integers plus side information (scales, biases).
    """

    float_bytes: int
    onnx_bytes: int
    tflite_bytes: int
    ekz_bytes: int | None
    limit_bytes: int


class AccuracyTable(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of each file on the same pictures; all None when the pictures have no labels."""

    float: Accuracy | None
    onnx: Accuracy | None
    tflite: Accuracy | None


class AgreementTable(msgspec.Struct, frozen=True, kw_only=True):
    """Each file beside the float model, and the two quantized files beside each other.

    Args:
        onnx: Quantized ONNX against float.
        tflite: Quantized TFLite against float.
        float_onnx: Float ONNX against the torch model; None when there is no torch model (a user's own file).
        tflite_onnx_max_steps: Largest difference between the two quantized files' outputs, in output steps.
        tflite_onnx_mean_steps: Mean of it.
    """

    onnx: Agreement
    tflite: Agreement
    float_onnx: Agreement | None
    tflite_onnx_max_steps: int
    tflite_onnx_mean_steps: float


class LayerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One weighted layer.

    Args:
        name: Layer name.
        op: Canonical operator; "DepthwiseConv" for depthwise.
        shape: Weight shape, OIHW.
        macs: Multiply-accumulates at batch 1.
        grid_bits: Levels used.
        density: Share of non-zero integers.
        scale_granularity: "per_channel" or "per_tensor".
        bytes: Bytes of the stored integers (storage before coding).
        entropy_bytes: Order-0 entropy of the integers.
        sqnr_db: Signal to quantization noise at the layer's output, against float; None if not measured.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    grid_bits: int
    density: float
    scale_granularity: str
    bytes: int
    entropy_bytes: int
    sqnr_db: float | None


class StageRow(msgspec.Struct, frozen=True, kw_only=True):
    """Time and memory of one stage of the pipeline."""

    name: str
    seconds: float
    peak_rss_mib: float


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of verification: what was measured, against what, and whether it was met."""

    name: str
    passed: bool
    measured: str
    bar: str
    layer: str | None = None


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """A picture on which the int8 TFLite file and float answer differently.

    Args:
        index: Position in the dataset.
        png_base64: The picture.
        label: Right answer; None when unlabelled.
        float_answer: Class name and confidence (0..1) of the float model.
        int8_answer: The same of the TFLite file.
    """

    index: int
    png_base64: str
    label: str | None
    float_answer: tuple[str, float]
    int8_answer: tuple[str, float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run measured. See docs/report.md for the schema."""

    model: str
    scheme: str
    trained: bool
    num_params: int
    macs: int
    input_shape: tuple[int, ...]
    dataset: ReportDataset
    sizes: Sizes
    accuracy: AccuracyTable
    agreement: AgreementTable
    checks: tuple[Check, ...]
    latency: tuple[Latency, ...]
    layers: tuple[LayerRow, ...]
    first_divergent_layer: str | None
    confusion: tuple[tuple[int, ...], ...] | None
    disagreements: tuple[Disagreement, ...]
    stages: tuple[StageRow, ...]
    environment: Mapping[str, str]
    command: str
    created: str
    version: int = REPORT_VERSION
