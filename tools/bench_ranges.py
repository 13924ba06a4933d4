"""Compare ways to choose activation ranges: agreement with the float model, on EfficientNet-Lite0 or any model name.

Calibrates on the calibration split and measures on the test split of the data, several crops of each picture to lower
the noise. Every variant has the same weights' grids and the same calibration. The int8 files run in onnxruntime, with
exact sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from benchmarking import Figure, arguments, machine_figures, note, print_document
from edgekit.core.artifact import ModelCard
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QuantizeSection
from edgekit.data.opening import open_source
from edgekit.data.reading import FitFunction, iterate_batches
from edgekit.data.source import PictureSource
from edgekit.evaluate.metrics import agreement
from edgekit.export.onnx_writer import build_onnx, with_all_outputs
from edgekit.export.torch_graph import trace
from edgekit.models.weights import load_weights
from edgekit.quantize.calibration import calibrate, observed_activations
from edgekit.quantize.entropy import limit_bytes
from edgekit.quantize.ptq import quantize_static
from edgekit.runtime.preprocess import fit_picture, normalize

BATCH_SIZE = 25
CROPS = ((0.5, 0.5, False), (0.1, 0.1, False), (0.5, 0.5, True), (0.9, 0.1, True))
"""Views of a test picture: where the crop lies vertically and horizontally (share of the room), and mirrored or not."""

VARIANTS: dict[str, QuantizeSection] = {
    "mse": QuantizeSection(ranges="mse"),
    "minmax": QuantizeSection(ranges="minmax"),
    "percentile_99.99": QuantizeSection(ranges="percentile", percentile=99.99),
    "percentile_99.999": QuantizeSection(ranges="percentile", percentile=99.999),
    "mse_no_bias_correction": QuantizeSection(ranges="mse", bias_correction=False),
    "mse_reduce_range": QuantizeSection(ranges="mse", reduce_range=True),
    "mse_w6": QuantizeSection(scheme="static_wi6_ai8"),
}

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def session_of(content: bytes) -> ort.InferenceSession:
    """One thread, and sums of int8 products that do not saturate."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def crop_at(top: float, left: float, mirrored: bool) -> FitFunction:
    """A `fit` function that cuts a square of 0.875 of the short side at another place than the centre."""

    def fit(picture: Pixels, spec: PreprocessSpec) -> Pixels:
        height, width = picture.shape[:2]
        side = round(min(height, width) * spec.crop_fraction)
        y, x = round((height - side) * top), round((width - side) * left)
        whole = msgspec.structs.replace(spec, crop_fraction=1.0)
        fitted = fit_picture(picture[y : y + side, x : x + side], whole)
        return np.ascontiguousarray(fitted[:, ::-1]) if mirrored else fitted

    return fit


def inputs_of(
    source: PictureSource, spec: PreprocessSpec, num: int, fit: FitFunction | None = None
) -> Iterator[Floats]:
    """Normalized batches of the first `num` pictures."""
    indices = np.arange(min(num, len(source)))
    for batch in iterate_batches(source, spec, batch_size=BATCH_SIZE, indices=indices, fit=fit):
        yield normalize(batch.pictures, spec)


def activations_of(graph: Graph, card: ModelCard, inputs: Iterator[Floats]) -> Iterator[Mapping[str, Floats]]:
    """What calibration watches, batch by batch."""
    session = session_of(with_all_outputs(build_onnx(graph, card), observed_activations(graph)).SerializeToString())
    names = [output.name for output in session.get_outputs()]
    for x in inputs:
        outputs = [np.asarray(output, np.float32) for output in session.run(None, {graph.input: x})]
        yield {graph.input: x, **dict(zip(names, outputs, strict=True))}


def logits_of(model: Graph | QuantizedGraph, card: ModelCard, views: list[Floats]) -> Floats:
    """Answers of the exported file."""
    session = session_of(build_onnx(model, card).SerializeToString())
    name = session.get_inputs()[0].name
    return np.concatenate([np.asarray(session.run(None, {name: x})[0], np.float32) for x in views])


def main() -> None:
    """Run the comparison and print its JSON document."""
    parser = arguments(__doc__)
    parser.add_argument("--model", default="efficientnet_lite0", help="alias, run folder or checkpoint with weights")
    parser.add_argument("--data", default="imagenet", help="dataset for calibration and test pictures")
    options = parser.parse_args()
    num, crops = (40, CROPS[:1]) if options.quick else (256, CROPS)
    module, checkpoint = load_weights(options.model)
    spec = checkpoint.preprocess
    graph = trace(module, (spec.num_channels, *spec.input_size), name=options.model)
    card = ModelCard(model=options.model, scheme="float", labels=(), preprocess=spec)
    test = open_source(options.data, "test")
    views = [x for crop in crops for x in inputs_of(test, spec, num, crop_at(*crop))]
    exact = logits_of(graph, card, views)
    calibration = calibrate(
        graph, activations_of(graph, card, inputs_of(open_source(options.data, "calibration"), spec, num))
    )
    figures: dict[str, Figure] = {
        "model": options.model,
        "num_calibration": calibration.num_pictures,
        "num_views": len(exact),
        "crops_per_picture": len(crops),
    }
    for name, config in VARIANTS.items():
        model = quantize_static(graph, calibration, config)
        logits = logits_of(model, card, views)
        signal, noise = float((exact**2).sum()), float(((logits - exact) ** 2).sum())
        figures[f"{name}_agreement_percent"] = round(100 * agreement(logits, exact).top1, 2)
        figures[f"{name}_sqnr_db"] = round(10 * np.log10(signal / noise), 2)
        figures[f"{name}_limit_bytes"] = limit_bytes(model)
        note(f"{name}: {figures[f'{name}_agreement_percent']} %, {figures[f'{name}_sqnr_db']} dB")
    print_document({**figures, **machine_figures()})


if __name__ == "__main__":
    main()
