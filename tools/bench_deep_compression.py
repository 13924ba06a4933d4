"""Deep Compression's networks, made smaller still.

    python tools/bench_deep_compression.py [--quick] [--part PART ...] [--rate-weights NATS ...] [--keep DIR]
        [--runs DIR] [--peers-python PATH]

Part `squeezenet`: the published SqueezeNet of the Deep Compression authors, rounded again at a price per bit. Its
curvature is measured on one half of the ImageNet sample pictures (two crops of each, without their labels) and put on
one scale by rounding each layer alone (on 96 of those). The other half is measured on, in four crops of each, through
the runtime, on what comes out of the `.ekz` file. Per price: bytes of that file, top-1 agreement with the published
network, top-1 accuracy, with 95 % intervals (Wilson, over pictures: crops of one picture are no independent answers).
Bars: at most 420,000 bytes at 92 % agreement, at most 380,000 bytes at 87 %, each with top-1 within 1.5 points.

Part `pipeline`: every shipped recipe that prunes or shares, trained and shrunk by itself (what lies in `--runs` already
is used): whole-file ratio, the classic coding, accuracy and latency before and after. Hours, from nothing.

Data is looked for in `$EDGEKIT_DATA`: `imagenet-sample/` and `models/compressed_SqueezeNet.net`. One JSON document on
standard output.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench_accuracy import fit_pictures
from bench_ranges import CROPS, crop_at
from benchmarking import Figure, arguments, machine_figures, note, print_document
from edgekit.core.artifact import ModelCard
from edgekit.core.curvature import LayerCurvature
from edgekit.core.errors import DataError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.core.measurement import wilson_interval
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.data.locate import data_dirs
from edgekit.data.opening import open_source
from edgekit.encode.files import pack_file, unpack_file
from edgekit.evaluate.metrics import accuracy, agreement
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.torch_graph import trace
from edgekit.models.importer import import_weights
from edgekit.quantize.reconstruction import ReconstructionConfig, reconstruct
from edgekit.quantize.sensitivity import rescale
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.predict import predict_logits
from edgekit.runtime.preprocess import normalize
from edgekit.shrink.loss import log_softmax
from edgekit.train.curvature import measure_curvature
from peers import start_peers
from shrunk_runs import measure_runs, shrinking_recipes

Logits: TypeAlias = npt.NDArray[np.float32]
Pixels: TypeAlias = npt.NDArray[np.uint8]

RATE_WEIGHTS = (2e-8, 4e-8, 6e-8, 8e-8, 1.6e-7)
"""Nats of divergence that a bit may cost, from the largest file to the smallest."""

BARS = ((420_000, 92.0), (380_000, 87.0))
"""Most bytes, and least agreement in percent at that size."""

TOP1_BAR_POINTS = 1.5
TRIAL_RATE_WEIGHT = 1e-7
TRIAL_PICTURES = 96
"""Tuning pictures on which each layer's rounding is tried alone."""
TUNING_CROPS = ((0.5, 0.5, False), (0.2, 0.8, True))
NNCODEC_QPS = (-36, -34, -32, -30, -28)
"""Quantization parameters of NNCodec: its step halves with every four."""

QUICK_PICTURES = 24
QUICK_RECIPE = "lenet_300_100"
BATCH_SIZE = 16
ORIGINAL_PATH = Path("models") / "compressed_SqueezeNet.net"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for.

    Args:
        quick: Few pictures.
        rate_weights: Prices of a bit, in nats.
        keep_dir: Where the `.ekz` files stay; None drops them.
        runs_dir: Where part `pipeline` looks for its runs and makes them; None for a temporary folder.
        peers_python: Interpreter with NNCodec; None leaves it out.
    """

    quick: bool
    rate_weights: tuple[float, ...]
    keep_dir: Path | None
    runs_dir: Path | None
    peers_python: str | None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The network that is made smaller, and what it is tuned and measured on.

    Args:
        module: In eval mode.
        graph: The same as hub graph.
        card: Without labels, which would weigh as much as a layer.
        original_bytes: Size of the file it came in.
        tuning: uint8 [n, height, width, 3]; their labels are not read.
        test: uint8 [views * num_pictures, height, width, 3], crop by crop.
        labels: int64 of `test`.
        num_pictures: Test pictures, each counted once.
    """

    module: nn.Module
    graph: Graph
    card: ModelCard
    original_bytes: int
    tuning: Pixels
    test: Pixels
    labels: npt.NDArray[np.int64]
    num_pictures: int


def find_original() -> Path:
    """The published file, in a folder of `$EDGEKIT_DATA`.

    Raises:
        DataError: It is in none.
    """
    tried = [folder / ORIGINAL_PATH for folder in data_dirs()]
    for path in tried:
        if path.is_file():
            return path
    places = ", ".join(map(str, tried)) or "nowhere, EDGEKIT_DATA is not set"
    raise DataError(f"no {ORIGINAL_PATH.name} found; looked at: {places}", hint="set EDGEKIT_DATA to the data folder")


def open_subject(original: Path, max_pictures: int | None) -> Subject:
    """Import the network and fit the pictures of both halves."""
    module, imported = import_weights("squeezenet-dc", original)
    spec = imported.card.preprocess
    chosen = None if max_pictures is None else np.arange(max_pictures)
    halves = (open_source("imagenet", "calibration"), TUNING_CROPS), (open_source("imagenet", "test"), CROPS)
    tuning, test = ([fit_pictures(source, spec, chosen, crop_at(*crop)) for crop in crops] for source, crops in halves)
    name = imported.card.options.variant
    return Subject(
        module=module,
        graph=trace(module, (spec.num_channels, *spec.input_size), name=name),
        card=ModelCard(model=name, scheme="float", labels=(), preprocess=spec),
        original_bytes=original.stat().st_size,
        tuning=np.concatenate([pictures for pictures, _ in tuning]),
        test=np.concatenate([pictures for pictures, _ in test]),
        labels=np.concatenate([labels for _, labels in test]),
        num_pictures=len(test[0][1]),
    )


def batches_of(pictures: Pixels, spec: PreprocessSpec) -> Iterator[Tensor]:
    """Normalized pictures, in the memory layout that convolutions are fastest in."""
    for begin in range(0, len(pictures), BATCH_SIZE):
        batch = torch.from_numpy(normalize(pictures[begin : begin + BATCH_SIZE], spec))
        yield batch.contiguous(memory_format=torch.channels_last)


def measure_layers(subject: Subject) -> dict[str, LayerCurvature]:
    """Curvature on the tuning pictures, put on one scale by trial."""
    module = subject.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - of the stubs
    curvatures = measure_curvature(module, batches_of(subject.tuning, subject.card.preprocess))
    note("curvature measured")
    pictures = subject.tuning[:TRIAL_PICTURES]
    exact = log_softmax(answers_of_graph(subject.graph, subject.card, pictures).astype(np.float64))

    def divergence(graph: Graph) -> float:
        other = log_softmax(answers_of_graph(graph, subject.card, pictures).astype(np.float64))
        return float((np.exp(exact) * (exact - other)).sum(axis=1).mean())

    return rescale(subject.graph, curvatures, ReconstructionConfig(rate_weight=TRIAL_RATE_WEIGHT), divergence)


def answers_of_graph(graph: Graph, card: ModelCard, pictures: Pixels) -> Logits:
    """What a float graph says, through its runtime."""
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(graph, path, card)
        return predict_logits(load_interpreter(path), pictures, card.preprocess)


def pack_graph(graph: Graph, card: ModelCard, target: Path) -> int:
    """Write a graph as `.ekz`; its bytes."""
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(graph, path, card)
        pack_file(path, target)
    return target.stat().st_size


def answers_of(packed: Path, subject: Subject) -> Logits:
    """What the model in an `.ekz` file says to the test pictures, through its runtime."""
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        path = Path(folder) / "model.onnx"
        unpack_file(packed, path)
        return predict_logits(load_interpreter(path), subject.test, subject.card.preprocess)


def share_figures(key: str, share: float, num: int) -> dict[str, Figure]:
    """A share in percent with its 95 % interval."""
    low, high = wilson_interval(share * num, num)
    shares = {"": share, "_low": low, "_high": high}
    return {f"{key}{suffix}_percent": round(100 * value, 2) for suffix, value in shares.items()}


def score(key: str, answers: Logits, original: Logits, subject: Subject) -> dict[str, Figure]:
    """Agreement over all views and on the centre crop, accuracy, and points of accuracy lost."""
    num = subject.num_pictures
    top1, top1_original = (accuracy(each, subject.labels).top1 for each in (answers, original))
    centre = agreement(answers[:num], original[:num]).top1
    return {
        **share_figures(f"{key}_agreement", agreement(answers, original).top1, num),
        f"{key}_centre_agreement_percent": round(100 * centre, 2),
        **share_figures(f"{key}_top1", top1, num),
        f"{key}_top1_lost_points": round(100 * (top1_original - top1), 2),
    }


def judge(points: Mapping[str, tuple[int, float, float]]) -> dict[str, Figure]:
    """For every bar, the best agreement of the files that are small enough, and whether one of them meets it.

    Args:
        points: Name -> bytes, agreement in percent, points of top-1 lost.
    """
    figures: dict[str, Figure] = {}
    for most_bytes, least_percent in BARS:
        key = f"bar_{most_bytes}_bytes"
        fitting = [point for point in points.values() if point[0] <= most_bytes]
        best = max(fitting, key=lambda point: point[1], default=None)
        figures[f"{key}_least_agreement_percent"] = least_percent
        figures[f"{key}_best_agreement_percent"] = None if best is None else best[1]
        figures[f"{key}_is_met"] = any(
            point[1] >= least_percent and abs(point[2]) <= TOP1_BAR_POINTS for point in fitting
        )
    return figures


def measure_squeezenet(settings: Settings) -> dict[str, Figure]:
    """Part `squeezenet`."""
    subject = open_subject(find_original(), QUICK_PICTURES if settings.quick else None)
    started = time.process_time()
    curvatures = measure_layers(subject)
    figures: dict[str, Figure] = {
        "squeezenet_curvature_cpu_s": round(time.process_time() - started, 1),
        "squeezenet_num_tuning_pictures": len(subject.tuning) // len(TUNING_CROPS),
        "squeezenet_num_test_pictures": subject.num_pictures,
        "squeezenet_num_test_views": len(subject.test),
        "squeezenet_original_bytes": subject.original_bytes,
    }
    points: dict[str, tuple[int, float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        kept = settings.keep_dir or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        packed = kept / "original.ekz"
        figures["squeezenet_lossless_ekz_bytes"] = pack_graph(subject.graph, subject.card, packed)
        original = answers_of(packed, subject)
        top1 = accuracy(original, subject.labels).top1
        figures |= share_figures("squeezenet_original_top1", top1, subject.num_pictures)
        for weight in settings.rate_weights:
            key = f"squeezenet_{weight:.1e}".replace("-", "m").replace(".", "p")
            started = time.process_time()
            result = reconstruct(subject.graph, curvatures, ReconstructionConfig(rate_weight=weight))
            seconds = time.process_time() - started
            packed = kept / f"{key}.ekz"
            size = pack_graph(result.graph, subject.card, packed)
            scores = score(key, answers_of(packed, subject), original, subject)
            figures |= {
                f"{key}_rate_weight_nats_per_bit": weight,
                f"{key}_ekz_bytes": size,
                f"{key}_entropy_bytes": round(result.entropy_bytes),
                f"{key}_foreseen_divergence_nats": round(result.divergence, 4),
                f"{key}_round_cpu_s": round(seconds, 1),
                **scores,
            }
            agreed, lost = scores[f"{key}_agreement_percent"], scores[f"{key}_top1_lost_points"]
            points[key] = (size, float(agreed or 0), float(lost or 0))
            note(f"{weight:.1e}: {size:,} bytes, agreement {agreed} %, top-1 lost {lost} points")
    return figures | judge(points) | compare_nncodec(subject, original, settings)


def compare_nncodec(subject: Subject, original: Logits, settings: Settings) -> dict[str, Figure]:
    """The same weights through NNCodec at several steps, each for all layers; nothing where it is missing.

    Its bytes are those of the weights' streams alone, without biases and graph: in its favour.
    """
    if settings.peers_python is None:
        return {}
    weights = {
        node.inputs[1]: np.asarray(subject.graph.constants[node.inputs[1]], np.float32)
        for node in subject.graph.nodes
        if node.op in WEIGHTED_OPS
    }
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as name, start_peers(settings.peers_python) as peers:
        source, streams, restored = (Path(name) / f"{each}.npz" for each in ("weights", "streams", "restored"))
        np.savez(source, **weights)  # pyright: ignore[reportArgumentType] - the stubs take the keywords for its own
        for qp in NNCODEC_QPS[: 1 if settings.quick else None]:
            encoded = peers.ask("nncodec_encode", input=str(source), output=str(streams), qp=str(qp))
            decoded = peers.ask("nncodec_decode", input=str(streams), tensors=str(source), output=str(restored))
            if encoded is None or decoded is None:
                return figures
            key = f"nncodec_qp_minus_{-qp}"
            with np.load(streams) as coded, np.load(restored) as values:
                figures[f"{key}_weight_bytes"] = sum(coded[each].size for each in coded.files)
                constants = {**subject.graph.constants, **{each: values[each] for each in values.files}}
            answers = answers_of_graph(subject.graph.replace(constants=constants), subject.card, subject.test)
            figures |= score(key, answers, original, subject)
            note(f"NNCodec {qp}: {figures[f'{key}_weight_bytes']} bytes, {figures[f'{key}_agreement_percent']} %")
    return figures


def measure_pipeline(settings: Settings) -> dict[str, Figure]:
    """Part `pipeline`; quick: the recipe that trains fastest, one epoch of everything."""
    recipes = shrinking_recipes()
    if settings.quick:
        recipes = [path for path in recipes if path.stem.startswith(QUICK_RECIPE)]
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        return measure_runs(recipes, settings.runs_dir or Path(folder) / "runs", quick=settings.quick)


PARTS: Mapping[str, Callable[[Settings], dict[str, Figure]]] = {
    "squeezenet": measure_squeezenet,
    "pipeline": measure_pipeline,
}


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--part", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="default: all")
    parser.add_argument("--rate-weights", nargs="+", type=float, metavar="NATS", help="prices of a bit")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the .ekz files here")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="runs of part pipeline, to go on with")
    parser.add_argument("--peers-python", metavar="PATH", help="interpreter that has nncodec; default: not compared")
    options = parser.parse_args(words)
    settings = Settings(
        quick=options.quick,
        rate_weights=tuple(options.rate_weights or (RATE_WEIGHTS[2:3] if options.quick else RATE_WEIGHTS)),
        keep_dir=options.keep,
        runs_dir=options.runs,
        peers_python=options.peers_python,
    )
    torch.set_num_threads(1)
    figures = machine_figures()
    for part in options.part:
        note(part)
        figures |= PARTS[part](settings)
    print_document(figures)


if __name__ == "__main__":
    main()
