"""What is verified: the files of a run, and the model they came from."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.graph import Graph
from edgekit.core.layout import FLOAT_ONNX, MODEL_ONNX, MODEL_TFLITE
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.data.dataset import Source
from edgekit.export.hub import HubModel
from edgekit.quantize.schemes import parse_scheme
from edgekit.verify.answers import Predictor, check_classes


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is verified.

    Args:
        graph: Float graph that `float_path` was written from.
        spec: Picture to input.
        class_names: In output order.
        float_path: Float ONNX file.
        onnx_path: Quantized ONNX file.
        tflite_path: Quantized TFLite file.
        torch_logits: Normalized float input [n, c, h, w] -> logits of the torch model; None without one.
        trained: Whether the weights mean anything.
        labels_fit: Whether the source's labels are the model's classes; otherwise pictures count as unlabelled.
        is_dynamic: Whether activations become integers only inside the kernels.
    """

    graph: Graph
    spec: PreprocessSpec
    class_names: tuple[str, ...]
    float_path: Path
    onnx_path: Path
    tflite_path: Path
    torch_logits: Predictor | None
    trained: bool
    labels_fit: bool
    is_dynamic: bool = False


def make_subject(hub: HubModel, run_dir: Path, source: Source, scheme: str) -> Subject:
    """What verification looks at in a run folder, whose files were quantized by a scheme.

    Raises:
        UsageError: The scheme is not in the grammar.
        DataError: As `labels_fit`.
    """
    return Subject(
        graph=hub.graph,
        spec=hub.card.preprocess,
        class_names=hub.card.labels,
        float_path=run_dir / FLOAT_ONNX,
        onnx_path=run_dir / MODEL_ONNX,
        tflite_path=run_dir / MODEL_TFLITE,
        torch_logits=hub.torch_logits,
        trained=hub.trained,
        labels_fit=labels_fit(hub, source),
        is_dynamic=parse_scheme(scheme).mode == "dynamic",
    )


def labels_fit(hub: HubModel, source: Source) -> bool:
    """Whether the pictures' labels say what the model's answer should be; False without labels, training or classes.

    Raises:
        DataError: The pictures' classes are not the model's.
    """
    if source.labels is None or not hub.trained or hub.card.kind == "features":
        return False
    check_classes(source, hub.card.labels, hub.graph.shapes[hub.graph.output][-1])
    return True
