"""The hub graph and its integers as files: those of a run folder, or one float file."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.artifact import Artifact
from edgekit.core.errors import UnknownNameError
from edgekit.core.layout import FLOAT_ONNX, FLOAT_TFLITE, MODEL_ONNX, MODEL_TFLITE
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import ModelSection
from edgekit.export.choices import hub_request
from edgekit.export.hub import HubModel, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.export.tflite_nibbles import Compute


def write_run(
    hub: HubModel, quantized: QuantizedGraph, folder: Path, *, float_io: bool, compute: Compute
) -> dict[str, Artifact]:
    """Write the float ONNX file and both lowerings of the quantized graph; of an extractor float TFLite, too.

    Args:
        hub: The float model that was quantized.
        quantized: Its integers.
        folder: The run folder.
        float_io: As for `write_tflite`.
        compute: As for `write_tflite`.

    Returns:
        File name -> what was written.

    Raises:
        EdgekitError: As `write_onnx` and `write_tflite` raise it.
    """
    card = hub.card
    artifacts = {
        FLOAT_ONNX: write_onnx(hub.graph, folder / FLOAT_ONNX, card),
        MODEL_ONNX: write_onnx(quantized, folder / MODEL_ONNX, card),
        MODEL_TFLITE: write_tflite(quantized, folder / MODEL_TFLITE, card, float_io=float_io, compute=compute),
    }
    if card.kind == "features":  # a search on a board may want them as they are, too
        artifacts[FLOAT_TFLITE] = write_tflite(hub.graph, folder / FLOAT_TFLITE, card)
    return artifacts


def export_float(model: ModelSection, path: Path) -> Artifact:
    """Write a model as a float file, .onnx or .tflite by the path's extension.

    Raises:
        UnknownNameError: Another extension.
    """
    formats = {".onnx": write_onnx, ".tflite": write_tflite}
    write = formats.get(path.suffix.lower())
    if write is None:
        raise UnknownNameError("format", path.suffix or path.name, formats)
    hub = load_hub(hub_request(model))
    return write(hub.graph, path, hub.card)
