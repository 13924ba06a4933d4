"""From the torch module to float and int8 ONNX and TFLite: how long it takes, beside litert-torch's float conversion.

    python tools/bench_export.py [--quick] [--peers-python PATH] [--models NAME ...]

Ours is everything but calibration: trace, quantize, and four files. litert-torch's is `convert(module, (x,)).export()`,
one float TFLite file. Both start from the same weights, have converted a small model before (imports and caches do not
count), and take turns. Bars: 5 s, 1 s for one TFLite lowering, 1/4 of litert-torch. One JSON document on standard
output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarking import (
    NUM_ROUNDS,
    Figure,
    Sample,
    add_peers_argument,
    arguments,
    interleave,
    machine_figures,
    median_sample,
    note,
    print_document,
    quotient,
    time_figures,
    timed,
)
from contestants import ARCHITECTURES, Contestant, calibrate_on, noise_pictures, random_contestant
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QuantizeSection
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.models.architecture import BuildOptions
from edgekit.models.zoo import parse_model_name
from edgekit.quantize.calibration import Calibration
from edgekit.quantize.ptq import quantize_static
from peers import Peers, start_peers

QUICK_MODELS = ("squeezenet1_1", "mobilenet_v2")
WARM_UP = BuildOptions(variant="mobilenet_v2", width=0.25, input_size=32, num_classes=10)
PHASES = ("trace", "float_onnx", "float_tflite", "quantize", "int8_onnx", "int8_tflite")


def export_phases(contestant: Contestant, calibration: Calibration, folder: Path) -> dict[str, Sample]:
    """Make the four files; the time of each phase, in the order of `PHASES`."""
    card = contestant.card
    graph = contestant.trace()
    quantized: list[QuantizedGraph] = []
    work: dict[str, Callable[[], object]] = {
        "trace": contestant.trace,
        "float_onnx": lambda: write_onnx(graph, folder / "float.onnx", card),
        "float_tflite": lambda: write_tflite(graph, folder / "float.tflite", card),
        "quantize": lambda: quantized.append(quantize_static(graph, calibration, QuantizeSection())),
        "int8_onnx": lambda: write_onnx(quantized[0], folder / "int8.onnx", card),
        "int8_tflite": lambda: write_tflite(quantized[0], folder / "int8.tflite", card),
    }
    return {phase: timed(work[phase]) for phase in PHASES}


def sum_samples(samples: Sequence[Sample]) -> Sample:
    """One time for several phases."""
    return Sample(wall_s=sum(sample.wall_s for sample in samples), cpu_s=sum(sample.cpu_s for sample in samples))


def compare(options: BuildOptions, peers: Peers, folder: Path, num_rounds: int) -> dict[str, Figure]:
    """Figures of one architecture."""
    contestant = random_contestant(options, folder)
    spec = contestant.card.preprocess
    calibration = calibrate_on(contestant.trace(), spec, noise_pictures(spec))
    rounds: list[dict[str, Sample]] = []

    def ours() -> Sample:
        rounds.append(export_phases(contestant, calibration, folder))
        return sum_samples(list(rounds[-1].values()))

    def litert_torch() -> Sample | None:
        return peers.ask("litert_torch", output=str(folder / "peer.tflite"), **contestant.settings)

    samples = interleave({"ours": ours, "litert_torch": litert_torch}, num_rounds)
    name = options.variant
    figures: dict[str, Figure] = {}
    for who, taken in samples.items():
        figures |= time_figures(f"{name}_{who}", taken)
    for phase in PHASES:
        figures |= time_figures(f"{name}_ours_{phase}", [taken[phase] for taken in rounds])
    ours_middle, peer = median_sample(samples["ours"]), median_sample(samples["litert_torch"])
    figures[f"{name}_wall_ratio"] = quotient(ours_middle and ours_middle.wall_s, peer and peer.wall_s)
    figures[f"{name}_cpu_ratio"] = quotient(ours_middle and ours_middle.cpu_s, peer and peer.cpu_s)
    return figures


def worst_figures(figures: dict[str, Figure], names: Sequence[str]) -> dict[str, Figure]:
    """The largest of every bar's figure over the architectures; None where none was measured."""

    def worst(*endings: str) -> float | None:
        values = [figures.get(f"{name}_{ending}") for name in names for ending in endings]
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        return max(numbers, default=None)

    return {
        "worst_ours_wall_s": worst("ours_wall_s"),
        "worst_ours_cpu_s": worst("ours_cpu_s"),
        "worst_tflite_lowering_wall_s": worst("ours_float_tflite_wall_s", "ours_int8_tflite_wall_s"),
        "worst_tflite_lowering_cpu_s": worst("ours_float_tflite_cpu_s", "ours_int8_tflite_cpu_s"),
        "worst_wall_ratio": worst("wall_ratio"),
        "worst_cpu_ratio": worst("cpu_ratio"),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    add_peers_argument(parser)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="architectures; default: one of each family")
    parser.add_argument("--input-size", type=int, default=224, help="pixels; default: 224")
    options = parser.parse_args(words)
    names = options.models or (QUICK_MODELS if options.quick else ARCHITECTURES)
    num_rounds = 1 if options.quick else NUM_ROUNDS
    figures = machine_figures() | {"rounds": num_rounds}
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder, start_peers(options.peers_python) as peers:
        note("warm-up")
        compare(WARM_UP, peers, Path(folder), 1)
        for name in names:
            sized = msgspec.structs.replace(parse_model_name(name), input_size=options.input_size)
            measured = compare(sized, peers, Path(folder), num_rounds)
            note(f"{name}: ours {measured[f'{name}_ours_cpu_s']} s of CPU, ratio {measured[f'{name}_cpu_ratio']}")
            figures |= measured
    print_document(figures | worst_figures(figures, names))


if __name__ == "__main__":
    main()
