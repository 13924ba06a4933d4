"""Every architecture at the size of its paper: packed files of 8 and 6 bits, export time, latency beside VGG-16.

The weights are random, as the initialisation draws them, because the full-size systems are not trained here. Their time
and latency do not depend on it. Their packed size does: random weights are normal, trained ones have longer tails, and
code in fewer bits. Both sizes are of rounding to the nearest level, with the layers spared that `--bits 6` spares; what
`--bits 6` does besides (docs/low-bits.md) makes trained networks smaller still. Where trained weights are at hand,
`measure_compressed` takes those.

A row is a file of its own in the work folder, and is not made again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from bench_export import export_phases, sum_samples
from benchmarking import note, quotient
from contestants import Contestant, calibrate_on, noise_pictures, random_contestant
from edgekit.core.errors import UnsupportedOpError
from edgekit.core.measurement import Latency
from edgekit.core.quant import QuantizedGraph, QuantTensor
from edgekit.core.recipe import QuantizeSection
from edgekit.core.storage import write_bytes
from edgekit.encode.files import pack_file
from edgekit.export.tflite import write_tflite
from edgekit.models.counting import measure
from edgekit.models.listing import SIZES_PATH, PackedSize, PackedSizes
from edgekit.models.zoo import parse_model_name, variant_names
from edgekit.quantize.bit_plan import plan_bits
from edgekit.quantize.calibration import Calibration
from edgekit.quantize.ptq import DecidedLayer, finish_quantization, guarded_grid, nearest, start_quantization
from edgekit.report.files import JSON_NAME, read_report
from edgekit.runtime.benchmark import BenchmarkSettings, compare
from shrunk_runs import run

YARDSTICK = "vgg16"
NUM_QUERIES = 30
UNTRAINED = ("--untrained", "--data", "imagenet", "--set", "verify.num_pictures=16")
"""Options of `edgekit compress` for random weights: few pictures, because only the size is asked for."""
_TFLITE = "int8.tflite"


class SizeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One architecture.

    Args:
        variant: Its name.
        float_bytes: Float TFLite file.
        tflite_bytes: Int8 TFLite file.
        ekz8_bytes: The same, packed.
        ekz6_bytes: Packed with weights on 6 bits.
        export_cpu_s: From the torch module to four files (float and int8, ONNX and TFLite), calibration apart.
        export_wall_s: The same on the clock.
    """

    variant: str
    float_bytes: int
    tflite_bytes: int
    ekz8_bytes: int
    ekz6_bytes: int
    export_cpu_s: float
    export_wall_s: float


def measure_sizes(variants: Iterable[str], work_dir: Path) -> list[SizeRow]:
    """Rows of the variants, small ones first; what lies in the work folder is read.

    Those without a static integer form (transformers) are left out: `measure_compressed` takes them.
    """
    rows: list[SizeRow] = []
    for variant in variants:
        path = work_dir / variant / "row.json"
        if not path.is_file():
            try:
                row = _measure(variant, path.parent)
            except UnsupportedOpError as error:
                note(f"{variant}: {error.message}")
                continue
            write_bytes(path, msgspec.json.encode(row))
            note(f"{variant}: {row.ekz8_bytes:,} and {row.ekz6_bytes:,} bytes, {row.export_cpu_s} s of CPU")
        rows.append(msgspec.json.decode(path.read_bytes(), type=SizeRow))
    return rows


def _measure(variant: str, folder: Path) -> SizeRow:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgekit-zoo-", dir=folder) as name:
        scratch = Path(name)
        contestant = random_contestant(parse_model_name(variant), scratch)
        spec = contestant.card.preprocess
        calibration = calibrate_on(contestant.trace(), spec, noise_pictures(spec))
        spent = sum_samples(list(export_phases(contestant, calibration, scratch).values()))
        float_bytes, made = (scratch / "float.tflite").stat().st_size, scratch / _TFLITE
        tflite_bytes = made.stat().st_size
        ekz8 = pack_file(made, scratch / "8.ekz").ekz_bytes
        shutil.move(made, folder / _TFLITE)
        write_tflite(_six_bits(contestant, calibration), scratch / "6.tflite", contestant.card)
        ekz6 = pack_file(scratch / "6.tflite", scratch / "6.ekz").ekz_bytes
    return SizeRow(
        variant=variant,
        float_bytes=float_bytes,
        tflite_bytes=tflite_bytes,
        ekz8_bytes=ekz8,
        ekz6_bytes=ekz6,
        export_cpu_s=round(spent.cpu_s, 2),
        export_wall_s=round(spent.wall_s, 2),
    )


def _six_bits(contestant: Contestant, calibration: Calibration) -> QuantizedGraph:
    """Weights on the nearest levels of grids of 6 bits, spared layers on 8."""
    graph = contestant.trace()
    config = QuantizeSection(scheme="static_wi6_ai8")
    start = start_quantization(graph, calibration, config, bits=plan_bits(graph, 6).bits)
    decided: dict[str, DecidedLayer] = {}
    for layer in start.plan.layers:
        grid = guarded_grid(start, layer, start.weight_grids[layer.node.name])
        values = nearest(layer, np.asarray(start.graph.constants[layer.weight], np.float32), grid)
        bias = None if layer.bias is None else np.asarray(start.graph.constants[layer.bias], np.float64)
        decided[layer.node.name] = DecidedLayer(weight=QuantTensor(values=values, params=grid), bias=bias)
    return finish_quantization(start, decided)


def measure_compressed(model: str, work_dir: Path, words: Sequence[str] = ()) -> PackedSize:
    """Packed sizes by `edgekit compress` as it is: `--bits 6` rounds as docs/low-bits.md says.

    Args:
        model: Whatever `edgekit compress` takes that knows its own pictures; an architecture with `UNTRAINED`.
        work_dir: Holds the two runs; what is there is used.
        words: Further options.

    Raises:
        UsageError: A command failed.
    """
    sizes: dict[int, int] = {}
    trained = False
    for bits in (8, 6):
        run_dir = work_dir / f"{Path(model).name}-{bits}bit"
        if not (run_dir / JSON_NAME).is_file():
            own = ("--bits", str(bits), "--no-bench", "--max-drop", "100", "--out", str(run_dir))
            run("compress", model, *own, *words)
        report = read_report(run_dir)
        sizes[bits], trained = report.sizes.ekz_bytes or 0, report.trained
    return PackedSize(bits8_bytes=sizes[8], bits6_bytes=sizes[6], trained=trained)


def measure_latency(rows: Sequence[SizeRow], work_dir: Path, num_queries: int = NUM_QUERIES) -> dict[str, Latency]:
    """Latency of the int8 TFLite files in turns, one thread, in one run; by variant."""
    if not rows:  # transformers alone: they have no static form to be compared by
        return {}
    paths = [work_dir / row.variant / _TFLITE for row in rows]
    settings = BenchmarkSettings(num_queries=num_queries, num_warmup=2, max_seconds=1800.0, isolate=False)
    taken = compare(paths, settings)
    return {row.variant: latency for row, latency in zip(rows, taken, strict=True)}


def latency_ratio(latencies: Mapping[str, Latency], variant: str) -> float | None:
    """CPU time of one picture over that of VGG-16; None where either was not measured."""
    own, base = latencies.get(variant), latencies.get(YARDSTICK)
    return quotient(own and own.cpu_p50_ms, base and base.cpu_p50_ms)


def packed_of(row: SizeRow) -> PackedSize:
    """Of random weights."""
    return PackedSize(bits8_bytes=row.ekz8_bytes, bits6_bytes=row.ekz6_bytes)


def write_sizes(made: Mapping[str, PackedSize], path: Path = SIZES_PATH) -> None:
    """Write what `edgekit zoo --table size` shows.

    Variants that were not measured now keep what the file says, and sizes of trained weights are not replaced by those
    of random ones.
    """
    known = msgspec.json.decode(path.read_bytes(), type=PackedSizes).sizes if path.is_file() else {}
    trained = {variant for variant, size in known.items() if size.trained}
    merged = {**known, **{key: size for key, size in made.items() if size.trained or key not in trained}}
    sizes = {variant: merged[variant] for variant in sorted(merged)}
    write_bytes(path, msgspec.json.format(msgspec.json.encode(PackedSizes(sizes=sizes))) + b"\n")


def all_variants() -> list[str]:
    """Every variant of the catalogue, the smallest first: what is interrupted has then done the most."""
    return sorted(variant_names(), key=lambda variant: measure(parse_model_name(variant))[0])
