"""The content of `report.json`, versioned. `report/` draws it; nothing in it is HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from edgekit.core.features import FeaturesReport
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


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """The model before pruning and sharing, quantized and packed in the same way.

    Args:
        num_params: Weights and biases of the torch model, or of the graph for an ONNX file.
        macs: Multiply-accumulates at batch 1.
        float_bytes: Float ONNX file.
        tflite_bytes: Quantized TFLite file.
        ekz_bytes: The same, packed.
        accuracy: Of the float model on the pictures of the report; None when unlabelled.
    """

    num_params: int
    macs: int
    float_bytes: int
    tflite_bytes: int
    ekz_bytes: int
    accuracy: Accuracy | None


class PrunedChannels(msgspec.Struct, frozen=True, kw_only=True):
    """One group of channels that were decided together.

    Args:
        layers: Layers that make them.
        num_channels: Before.
        num_kept: After.
        reason: Why the group stayed; None for a group that could be narrowed.
    """

    layers: tuple[str, ...]
    num_channels: int
    num_kept: int
    reason: str | None


class CodingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One layer in the table of Deep Compression (Han et al. 2016, tables 2 to 5), from the exported integers.

    P is pruning, Q is quantization by sharing, H is Huffman coding.

    Args:
        layer: Layer name; "total" for the last row.
        num_weights: Of the layer.
        kept: Share of weights that are not zero.
        num_levels: Distinct integers in the exported file, zero among them; None in the total.
        max_levels: Most that sharing allows; None where nothing is shared.
        weight_bits: Bits per stored weight before coding.
        coded_weight_bits: The same after Huffman coding.
        index_bits: Bits per relative index before coding; 0 where nothing is pruned.
        coded_index_bits: The same after Huffman coding.
        shared_bytes: P+Q, with codebook and biases.
        classic_bytes: P+Q+H, with codebook and biases.
        ekz_bytes: The weights alone in the .ekz file; of tensors too small to be coded, as they are in the TFLite
            file. None where there is no such tensor.
    """

    layer: str
    num_weights: int
    kept: float
    num_levels: int | None
    max_levels: int | None
    weight_bits: float
    coded_weight_bits: float
    index_bits: float
    coded_index_bits: float
    shared_bytes: int
    classic_bytes: int
    ekz_bytes: int | None


class ShrinkReport(msgspec.Struct, frozen=True, kw_only=True):
    """What pruning, sharing and coding made of the original.

    Args:
        original: The model before.
        pruning_ratio: Share of channels asked to go; 0 for none.
        channels: Every group of channels; empty when none were to go.
        sparsity: Share of zeros among the exported weights.
        pattern: "2:4", or None.
        method: How the zeros were placed ("global", "layer_wise", "2:4"); None when no weights were pruned.
        conv_bits: Of shared convolutions, 0 when they are not shared.
        fc_bits: Of shared fully connected layers.
        num_epochs: Fine-tuning in all.
        code: "ekz" or "huffman".
        coding: The table, a row per layer and a total.
        float_weight_bytes: Weights and biases of the original in 32-bit floats: what the paper divides by.
        notes: What was done otherwise than asked.
    """

    original: Original
    pruning_ratio: float
    channels: tuple[PrunedChannels, ...]
    sparsity: float
    pattern: str | None
    method: str | None
    conv_bits: int
    fc_bits: int
    num_epochs: int
    code: str
    coding: tuple[CodingRow, ...]
    float_weight_bytes: int
    notes: tuple[str, ...] = ()


class BitsRow(msgspec.Struct, frozen=True, kw_only=True):
    """The grid of one layer's weights, and what it costs.

    Args:
        layer: Layer name.
        op: Canonical operator; "DepthwiseConv" for depthwise.
        num_weights: Of the layer.
        grid_bits: Grid that was decided.
        wide_because: Why the layer stayed at 8 bits where others did not ("depthwise", "first layer", ...); None where
            it did not, or where a budget decided.
        method: How weights were rounded: "nearest", "gptq", "adaround", "qat" ...
        output_sqnr_db: Signal to noise at the layer's output, of its own rounding alone (the inputs are the same);
            None when not measured.
        bits_per_weight: Order-0 entropy of the integers, per weight.
        entropy_bytes: The same for the layer.
    """

    layer: str
    op: str
    num_weights: int
    grid_bits: int
    wide_because: str | None
    method: str
    output_sqnr_db: float | None
    bits_per_weight: float
    entropy_bytes: int


class ParetoPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One model in the trade of size against accuracy, all on the same pictures.

    Args:
        label: Name for people.
        kind: "float", "int8" (8 bits everywhere), or "lowbit".
        size_bytes: Packed file; of the float model, the float ONNX file.
        grid_bits: Mean over weights; None for float.
        top1: Share of right answers; None when unlabelled.
        agreement: Share of the float model's answers that are given too.
        n: Pictures.
        is_chosen: Whether this is the model of the run.
    """

    label: str
    kind: str
    size_bytes: int
    grid_bits: float | None
    top1: float | None
    agreement: float
    n: int
    is_chosen: bool = False


class BitsReport(msgspec.Struct, frozen=True, kw_only=True):
    """How bits were given to layers, and how weights were put on their grids.

    Args:
        asked: What was asked for: a number of bits, or "mixed".
        budget_bytes: Most bytes of the packed file; None when none were asked for.
        max_drop: Most top-1 points to lose, where that decided the bits; None where it did not.
        drop: Points lost on the held-out pictures that decided; None where none did.
        num_held_out: Those pictures.
        equalized: Whether channels were balanced across layers first.
        num_calibration: Calibration pictures.
        engine: "edgekit" or "nncf".
        compute: Type of the narrowest weight tensors that kernels are given: "int8" or "int4".
        num_epochs: Training with quantized weights (QAT); 0 for none.
        layers: In the order they run.
        pareto: The sweep, with the float model and 8 bits everywhere; empty when none was asked for.
        notes: What was done otherwise than asked.
    """

    asked: str
    budget_bytes: int | None
    max_drop: float | None
    drop: float | None
    num_held_out: int
    equalized: bool
    num_calibration: int
    engine: str
    compute: Literal["int8", "int4"]
    num_epochs: int
    layers: tuple[BitsRow, ...]
    pareto: tuple[ParetoPoint, ...] = ()
    notes: tuple[str, ...] = ()


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
    """Everything a run measured. See docs/report.md for the schema.

    A feature extractor has `features`, and no `agreement`: it gives no answers.
    """

    model: str
    scheme: str
    trained: bool
    num_params: int
    macs: int
    input_shape: tuple[int, ...]
    dataset: ReportDataset
    sizes: Sizes
    accuracy: AccuracyTable
    agreement: AgreementTable | None
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
    shrink: ShrinkReport | None = None
    bits: BitsReport | None = None
    features: FeaturesReport | None = None
    version: int = REPORT_VERSION
