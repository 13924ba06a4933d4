"""int8 accuracy beside the peers: same float model, same calibration pictures, same test pictures.

    python tools/bench_accuracy.py [--quick] [--peers-python PATH] [--models NAME ...]

Ours (ONNX and TFLite) against onnxruntime.quantization (MinMax, Entropy) and nncf on our float ONNX file, and
ai-edge-quantizer on our float TFLite file, each in its defaults for int8. Every file runs in `edgekit.runtime` with
exact integer sums. Models trained on Fashion-MNIST are calibrated on the embedded calibration pictures and tested on
the 10,000 test pictures; ImageNet's on one half of the sample pictures, tested on the other, several crops of each to
lower the noise. Per file: top-1 accuracy and agreement with float, each with its 95 % interval (Wilson, over pictures:
crops of one picture are no independent answers). Bar: never more than 0.2 points below the best peer. One JSON document
on standard output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from bench_ranges import CROPS, crop_at
from benchmarking import (
    Figure,
    add_peers_argument,
    arguments,
    machine_figures,
    note,
    print_document,
)
from edgekit.core.errors import EdgekitError
from edgekit.core.measurement import wilson_interval
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Silent
from edgekit.core.recipe import QuantizeSection
from edgekit.data.dataset import Source
from edgekit.data.drawing import draw_order
from edgekit.data.opening import open_source
from edgekit.data.reading import FitFunction, iterate_batches
from edgekit.evaluate.metrics import accuracy, agreement
from edgekit.export.hub import HubModel, HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.lowbit.calibrating import run_calibration
from edgekit.quantize.ptq import quantize_static
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.predict import predict_logits
from edgekit.runtime.preprocess import normalize
from peers import Peers, start_peers

MODELS = ("mobilenet", "squeezenet", "shufflenet", "efficientnet_lite0")
QUICK_MODELS = ("mobilenet",)
QUICK_PICTURES = 1000
ENTROPY_PICTURES = 64
"""Entropy calibration of onnxruntime keeps every activation of every picture in memory."""
BATCH_SIZE = 32
OURS = ("ours_onnx", "ours_tflite")


class Pictures(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is tested on.

    Args:
        calibration: Source of the calibration pictures.
        test: uint8 [n, height, width, channels], fitted to the model: every picture, or every crop of it.
        labels: int64 [n].
        num_pictures: Pictures, each counted once.
    """

    calibration: Source
    test: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    num_pictures: int


def fit_pictures(
    source: Source,
    spec: PreprocessSpec,
    indices: npt.NDArray[np.int64] | None = None,
    fit: FitFunction | None = None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Pictures at the model's size, uint8 [n, height, width, channels], and their labels, int64 [n].

    Raises:
        EdgekitError: The source has no labels.
    """
    batches = list(iterate_batches(source, spec, batch_size=BATCH_SIZE, indices=indices, fit=fit))
    labels = [batch.labels for batch in batches if batch.labels is not None]
    if len(labels) != len(batches):
        raise EdgekitError(f"{source.name} has no labels to measure accuracy with")
    return np.concatenate([batch.pictures for batch in batches]), np.concatenate(labels)


def open_pictures(hub: HubModel, max_pictures: int | None) -> Pictures:
    """The pictures that go with a model's training data."""
    dataset = hub.dataset or "fashion_mnist"
    own = "fashion_mnist_mini" if dataset == "fashion_mnist" else dataset
    source = open_source(dataset, "test")
    chosen = None if max_pictures is None else draw_order(len(source), seed=0)[:max_pictures]
    spec = hub.card.preprocess
    views = [crop_at(*crop) for crop in CROPS] if spec.crop_fraction < 1.0 else [None]
    test, labels = zip(*(fit_pictures(source, spec, chosen, fit) for fit in views), strict=True)
    return Pictures(
        calibration=open_source(own, "calibration"),
        test=np.concatenate(test),
        labels=np.concatenate(labels),
        num_pictures=len(labels[0]),
    )


def write_ours(hub: HubModel, calibration: Source, folder: Path) -> dict[str, Path]:
    """Our float and int8 files, with the defaults of `edgekit compress`."""
    config = QuantizeSection()
    quantized = quantize_static(hub.graph, run_calibration(hub, calibration, config, Silent()), config)
    paths = {
        "float": folder / "float.onnx",
        "ours_onnx": folder / "ours.onnx",
        "ours_tflite": folder / "ours.tflite",
        "float_tflite": folder / "float.tflite",
    }
    write_onnx(hub.graph, paths["float"], hub.card)
    write_tflite(hub.graph, paths["float_tflite"], hub.card)
    write_onnx(quantized, paths["ours_onnx"], hub.card)
    write_tflite(quantized, paths["ours_tflite"], hub.card)
    return paths


def write_calibration(hub: HubModel, source: Source, path: Path) -> None:
    """The very pictures that ours is calibrated on, for the peers: float32 [n, channels, height, width]."""
    config = QuantizeSection()
    chosen = draw_order(len(source), seed=config.seed)[: config.num_calibration]
    pictures, _ = fit_pictures(source, hub.card.preprocess, chosen)
    np.save(path, normalize(pictures, hub.card.preprocess))


def ask_peers(peers: Peers, paths: Mapping[str, Path], calibration: Path) -> dict[str, Path]:
    """Have every peer quantize; the files of those that could."""
    folder = calibration.parent
    onnx = {"input": str(paths["float"]), "calibration": str(calibration)}
    tflite = {"input": str(paths["float_tflite"]), "calibration": str(calibration)}
    few = str(ENTROPY_PICTURES)
    jobs: dict[str, tuple[str, str, dict[str, str]]] = {
        "onnxruntime_minmax": ("ort_quantize", ".onnx", {**onnx, "method": "MinMax"}),
        "onnxruntime_entropy": ("ort_quantize", ".onnx", {**onnx, "method": "Entropy", "num_pictures": few}),
        "nncf": ("nncf", ".onnx", onnx),
        "ai_edge_quantizer": ("ai_edge_quantizer", ".tflite", tflite),
    }
    made: dict[str, Path] = {}
    for name, (job, extension, settings) in jobs.items():
        path = folder / f"{name}{extension}"
        taken = peers.ask(job, output=str(path), **settings)
        if taken is not None:
            note(f"  {name}: quantized in {taken.cpu_s:.1f} s of CPU")
            made[name] = path
    return made


def score(logits: Mapping[str, npt.NDArray[np.float32]], pictures: Pictures, prefix: str) -> dict[str, Figure]:
    """Accuracy of every file and its agreement with `float`, in percent, with 95 % intervals."""
    num = pictures.num_pictures
    figures: dict[str, Figure] = {f"{prefix}_n": num, f"{prefix}_views": len(pictures.labels)}
    for name, answers in logits.items():
        figures |= _share_figures(f"{prefix}_{name}_top1", accuracy(answers, pictures.labels).top1, num)
        if name != "float":
            same = agreement(answers, logits["float"])
            figures |= _share_figures(f"{prefix}_{name}_agreement", same.top1, num)
    return figures


def _share_figures(key: str, share: float, num: int) -> dict[str, Figure]:
    low, high = wilson_interval(share * num, num)
    return {
        f"{key}_percent": round(100 * share, 3),
        f"{key}_low_percent": round(100 * low, 3),
        f"{key}_high_percent": round(100 * high, 3),
    }


def behind_figures(figures: Mapping[str, Figure], prefix: str, peers: Sequence[str]) -> dict[str, Figure]:
    """Points that each of our files lies behind the best peer; negative is ahead, None without peers."""
    found: dict[str, Figure] = {}
    for measure in ("top1", "agreement"):
        values = [figures.get(f"{prefix}_{peer}_{measure}_percent") for peer in peers]
        best = max((float(value) for value in values if isinstance(value, (int, float))), default=None)
        for name in OURS:
            own = figures.get(f"{prefix}_{name}_{measure}_percent")
            behind = None if best is None or not isinstance(own, (int, float)) else round(best - own, 3)
            found[f"{prefix}_{name}_{measure}_behind_points"] = behind
    return found


def compare(name: str, peers: Peers, max_pictures: int | None) -> dict[str, Figure]:
    """Figures of one model; only None for one whose weights are not at hand."""
    prefix = Path(name).name
    try:
        hub = load_hub(HubRequest(model=name))
    except EdgekitError as error:
        note(f"{name}: left out, {error}")
        return {f"{prefix}_n": None}
    prefix = hub.card.model if "/" in name else name
    pictures = open_pictures(hub, max_pictures)
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        paths = write_ours(hub, pictures.calibration, Path(folder))
        calibration = Path(folder) / "calibration.npy"
        write_calibration(hub, pictures.calibration, calibration)
        made = ask_peers(peers, paths, calibration)
        files = {"float": paths["float"], **{each: paths[each] for each in OURS}, **made}
        logits: dict[str, npt.NDArray[np.float32]] = {}
        for each, path in files.items():
            logits[each] = predict_logits(load_interpreter(path), pictures.test, hub.card.preprocess)
            note(f"  {each}: {100 * accuracy(logits[each], pictures.labels).top1:.2f} %")
    figures = score(logits, pictures, prefix)
    return figures | behind_figures(figures, prefix, list(made))


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    add_peers_argument(parser)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="embedded models, or run folders")
    parser.add_argument("--max-pictures", type=int, help="test on so many, drawn with a seed; default: all")
    options = parser.parse_args(words)
    names = options.models or (QUICK_MODELS if options.quick else MODELS)
    max_pictures = options.max_pictures or (QUICK_PICTURES if options.quick else None)
    figures = machine_figures()
    with start_peers(options.peers_python) as peers:
        for name in names:
            note(name)
            figures |= compare(name, peers, max_pictures)
    for measure in ("top1", "agreement"):
        behind = [value for key, value in figures.items() if key.endswith(f"_{measure}_behind_points")]
        numbers = [value for value in behind if isinstance(value, (int, float))]
        figures[f"worst_{measure}_behind_points"] = max(numbers, default=None)
    print_document(figures)


if __name__ == "__main__":
    main()
