"""Latency of our files beside the peers', in the same runtime, taking turns.

    python tools/bench_latency.py [--quick] [--peers-python PATH] [--models NAME ...]

Per model: float TFLite (litert-torch), int8 TFLite (ai-edge-quantizer, on litert-torch's file), float ONNX
(torch.onnx.export), int8 ONNX (onnxruntime.quantization), all from the same weights; int8 ONNX with exact integer sums
and without. One thread, batch 1, `edgekit.runtime.benchmark.compare`, five loads of both files. Medians of wall and CPU
time in ms, and ratios of ours over the peer's. Bar: 1.02. One JSON document on standard output.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from benchmarking import NUM_ROUNDS, Figure, add_peers_argument, arguments, machine_figures, note, print_document
from contestants import ARCHITECTURES, Contestant, calibrate_on, noise_pictures, random_contestant
from edgekit.core.measurement import Latency
from edgekit.core.recipe import QuantizeSection
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.models.zoo import parse_model_name
from edgekit.quantize.ptq import quantize_static
from edgekit.runtime import benchmark
from edgekit.runtime.preprocess import normalize
from peers import Peers, start_peers

QUICK_MODELS = ("squeezenet1_1",)
NUM_QUERIES, QUICK_QUERIES = 662, 64
NUM_WARMUP = 16


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Two files that do the same.

    Args:
        ours: Our file.
        peer: The peer's.
        exact: ONNX Runtime keeps integer sums exact.
    """

    ours: str
    peer: str
    exact: bool = True


MATCHES = {
    "float_tflite": Match(ours="float.tflite", peer="peer_float.tflite"),
    "int8_tflite": Match(ours="int8.tflite", peer="peer_int8.tflite"),
    "float_onnx": Match(ours="float.onnx", peer="peer_float.onnx"),
    "int8_onnx": Match(ours="int8.onnx", peer="peer_int8.onnx"),
    "int8_onnx_inexact": Match(ours="int8.onnx", peer="peer_int8.onnx", exact=False),
}


def write_ours(contestant: Contestant, folder: Path) -> None:
    """Our four files, and the calibration pictures for the peers."""
    graph, card = contestant.trace(), contestant.card
    pictures = noise_pictures(card.preprocess)
    quantized = quantize_static(graph, calibrate_on(graph, card.preprocess, pictures), QuantizeSection())
    write_onnx(graph, folder / "float.onnx", card)
    write_tflite(graph, folder / "float.tflite", card)
    write_onnx(quantized, folder / "int8.onnx", card)
    write_tflite(quantized, folder / "int8.tflite", card)
    np.save(folder / "calibration.npy", normalize(pictures, card.preprocess))


def write_peers(contestant: Contestant, peers: Peers, folder: Path) -> None:
    """The peers' four files; those of missing peers are left out.

    onnxruntime.quantization starts from our float file: torch's differs in nothing that matters, and may be missing.
    litert-torch takes NCHW pictures, so ai-edge-quantizer is given those.
    """
    calibration = str(folder / "calibration.npy")
    peers.ask("torch_onnx", output=str(folder / "peer_float.onnx"), **contestant.settings)
    peers.ask(
        "ort_quantize",
        input=str(folder / "float.onnx"),
        output=str(folder / "peer_int8.onnx"),
        calibration=calibration,
        method="MinMax",
    )
    converted = folder / "peer_float.tflite"
    if peers.ask("litert_torch", output=str(converted), **contestant.settings) is not None:
        output = str(folder / "peer_int8.tflite")
        peers.ask("ai_edge_quantizer", input=str(converted), output=output, calibration=calibration, layout="nchw")


def compare(contestant: Contestant, peers: Peers, folder: Path, num_queries: int, num_loads: int) -> dict[str, Figure]:
    """Figures of one model."""
    write_ours(contestant, folder)
    write_peers(contestant, peers, folder)
    figures: dict[str, Figure] = {}
    for kind, match in MATCHES.items():
        prefix = f"{contestant.options.variant}_{kind}"
        figures |= match_figures(match, folder, prefix, num_queries, num_loads)
        note(f"  {prefix}: {figures[f'{prefix}_cpu_ratio']} of the peer's CPU time")
    return figures


def match_figures(match: Match, folder: Path, prefix: str, num_queries: int, num_loads: int = 1) -> dict[str, Figure]:
    """Medians of both files and their ratio; None where the peer's file is missing.

    How a runtime's memory happens to lie after a load moves its latency by a few percent for as long as it is loaded,
    so both files are loaded `num_loads` times, in alternating order, and the median over loads is given.
    """
    paths = [folder / match.ours, folder / match.peer]
    if not paths[1].is_file():
        paths.pop()
    settings = benchmark.BenchmarkSettings(
        num_queries=math.ceil(num_queries / num_loads),
        num_warmup=NUM_WARMUP,
        max_seconds=600.0,
        exact=match.exact,
        isolate=False,
    )
    loads: list[list[Latency]] = []
    for turn in range(num_loads):
        order = slice(None, None, -1 if turn % 2 else 1)
        loads.append(benchmark.compare(paths[order], settings)[order])
    figures: dict[str, Figure] = {f"{prefix}_n": sum(load[0].n for load in loads)}
    for who, results in itertools.zip_longest(("ours", "peer"), zip(*loads, strict=True), fillvalue=()):
        figures[f"{prefix}_{who}_p50_ms"] = rounded_median([result.p50_ms for result in results], 4)
        figures[f"{prefix}_{who}_cpu_p50_ms"] = rounded_median([result.cpu_p50_ms for result in results], 4)
    ratios = [benchmark.ratio(load[0], load[1]) for load in loads if len(load) == 2]
    figures[f"{prefix}_wall_ratio"] = rounded_median([each.wall for each in ratios], 3)
    figures[f"{prefix}_cpu_ratio"] = rounded_median([each.cpu for each in ratios], 3)
    return figures


def rounded_median(values: Sequence[float], num_digits: int) -> float | None:
    """Median; None of nothing."""
    return round(median(values), num_digits) if values else None


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    add_peers_argument(parser)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="architectures; default: one of each family")
    parser.add_argument("--input-size", type=int, default=224, help="pixels; default: 224")
    parser.add_argument("--queries", type=int, help=f"per file; default: {NUM_QUERIES}, quick {QUICK_QUERIES}")
    options = parser.parse_args(words)
    names = options.models or (QUICK_MODELS if options.quick else ARCHITECTURES)
    num_queries = options.queries or (QUICK_QUERIES if options.quick else NUM_QUERIES)
    num_loads = 1 if options.quick else NUM_ROUNDS
    figures = machine_figures() | {"threads": 1, "queries": num_queries, "loads": num_loads}
    with start_peers(options.peers_python) as peers:
        for name in names:
            note(name)
            sized = msgspec.structs.replace(parse_model_name(name), input_size=options.input_size)
            with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
                contestant = random_contestant(sized, Path(folder))
                figures |= compare(contestant, peers, Path(folder), num_queries, num_loads)
    for kind in ("wall", "cpu"):
        ratios = [value for key, value in figures.items() if key.endswith(f"_{kind}_ratio")]
        figures[f"worst_{kind}_ratio"] = max((float(v) for v in ratios if isinstance(v, (int, float))), default=None)
    print_document(figures)


if __name__ == "__main__":
    main()
