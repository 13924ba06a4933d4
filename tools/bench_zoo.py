"""The full-size systems beside the compact ones: accuracy against size and work, and the sizes of all at 224 pixels.

    python tools/bench_zoo.py [--quick] [--part PART] [--runs DIR] [--only STEM ...] [--plot FILE.svg] [--write]

Part `trainings`: every network of `zoo_plan.py` (the classic ones narrowed until a picture costs about as much as in
the compact ones) is trained as long as the others of its dataset, compressed to 8 bits, verified on all test pictures
through its runtimes, and its int8 TFLite file is timed in turns with the others', one thread. What lies in `--runs` is
used; an interrupted training goes on. From nothing it takes hours of one core.

Part `measure` gives the figures of what lies in `--runs` and makes nothing. `--plot` draws accuracy against size and
against multiply-accumulates.

Part `published` draws published accuracies on ImageNet against the sizes that `edgekit zoo --table size` knows, and
measures nothing.

Part `sizes` exports every variant of the catalogue at the size of its paper with random weights (`zoo_sizes.py`), packs
it at 8 and at 6 bits, and times the int8 TFLite files in turns. `--trained` takes sizes from trained weights where
there are. `--write` puts the sizes where `edgekit zoo --table
size` finds them. VGG takes 6 GB of memory.

One JSON document on standard output; tables for docs/results.md on standard error.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from benchmarking import Figure, arguments, machine_figures, note, print_document
from edgekit.models.listing import list_systems
from edgekit.report.files import JSON_NAME, read_report
from zoo_plan import QUICK_PLAN, Training, find_trainings
from zoo_plot import draw_plot, draw_published
from zoo_runs import ZooRow, is_known, make_run, read_row, with_latency
from zoo_sizes import (
    UNTRAINED,
    all_variants,
    latency_ratio,
    measure_compressed,
    measure_latency,
    measure_sizes,
    packed_of,
    write_sizes,
)
from zoo_tables import comparison_table, size_table

PARTS = ("trainings", "measure", "published", "sizes")
QUICK_VARIANTS = ("lenet5", "squeezenet1_1")


def measure_trainings(plan: Sequence[Training], runs_dir: Path, *, make: bool) -> list[ZooRow]:
    """Rows of all entries whose runs are there, or can be made; those that the catalogue lacks are left out."""
    rows: list[ZooRow] = []
    for training in plan:
        if make and is_known(training):
            make_run(training, runs_dir)
        run_dir = runs_dir / f"{training.stem}-8bit"
        if (run_dir / JSON_NAME).is_file():
            rows.append(read_row(training, read_report(run_dir)))
        else:
            note(f"{training.stem}: not there")
    return with_latency(rows, runs_dir) if rows else []


def row_figures(row: ZooRow) -> dict[str, Figure]:
    """One row, flat."""
    figures: dict[str, Figure] = {
        "num_params": row.num_params,
        "macs": row.macs,
        "epochs": row.training.epochs,
        "num_pictures": row.num_pictures,
        "top1_float": row.top1_float.top1,
        "top1_float_low": row.top1_float.ci95[0],
        "top1_float_high": row.top1_float.ci95[1],
        "top1_int8": row.top1_int8.top1,
        "top1_int8_low": row.top1_int8.ci95[0],
        "top1_int8_high": row.top1_int8.ci95[1],
        "float_bytes": row.float_bytes,
        "tflite_bytes": row.tflite_bytes,
        "ekz_bytes": row.ekz_bytes,
        "bars_met": row.bars_met,
        "latency_p50_ms": row.latency_p50_ms,
        "latency_ratio": row.latency_ratio,
    }
    return {f"{row.training.stem.replace('-', '.')}.{key}": value for key, value in figures.items()}


def measure_all_sizes(options: argparse.Namespace, work_dir: Path) -> dict[str, Figure]:
    """Sizes, export time and latency of every variant, or of those whose name begins so."""
    only = options.only or (QUICK_VARIANTS if options.quick else None)
    variants = [variant for variant in all_variants() if not only or variant.startswith(tuple(only))]
    rows = measure_sizes(variants, work_dir)
    packed = {row.variant: packed_of(row) for row in rows}
    for variant in variants:
        if variant not in packed:
            packed[variant] = measure_compressed(variant, work_dir, UNTRAINED)
    for pair in options.trained or ():
        variant, _, model = pair.partition("=")
        packed[variant] = measure_compressed(model, work_dir)
    latencies = measure_latency(rows, work_dir)
    entries = [msgspec.structs.replace(entry, packed=packed.get(entry.name)) for entry in list_systems()]
    note("\n".join(size_table(rows, latencies, entries)))
    if options.write:
        write_sizes(packed)
    figures: dict[str, Figure] = {}
    for row in rows:
        figures |= {
            f"{row.variant}.float_bytes": row.float_bytes,
            f"{row.variant}.tflite_bytes": row.tflite_bytes,
            f"{row.variant}.ekz8_bytes": row.ekz8_bytes,
            f"{row.variant}.ekz6_bytes": row.ekz6_bytes,
            f"{row.variant}.export_cpu_s": row.export_cpu_s,
            f"{row.variant}.export_wall_s": row.export_wall_s,
            f"{row.variant}.latency_p50_ms": round(latencies[row.variant].p50_ms, 4),
            f"{row.variant}.latency_cpu_p50_ms": round(latencies[row.variant].cpu_p50_ms, 4),
            f"{row.variant}.latency_ratio": latency_ratio(latencies, row.variant),
        }
    return figures


def measure_plan(options: argparse.Namespace, runs_dir: Path) -> dict[str, Figure]:
    """Figures, table and plot of the trainings."""
    plan = QUICK_PLAN if options.quick else find_trainings(options.only)
    rows = measure_trainings(plan, runs_dir, make=options.part == "trainings")
    note("\n".join(comparison_table(rows)))
    if options.plot is not None:
        draw_plot(rows, options.plot)
    figures: dict[str, Figure] = {}
    for row in rows:
        figures |= row_figures(row)
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--part", choices=PARTS, default="trainings", help="default: trainings")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="runs, to go on with; default: a temporary folder")
    parser.add_argument("--only", nargs="+", metavar="STEM", help="those whose name begins so")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the plot here, .svg or .png")
    parser.add_argument("--trained", nargs="+", metavar="VARIANT=MODEL", help="sizes from these trained weights")
    parser.add_argument("--write", action="store_true", help="keep the sizes for `edgekit zoo --table size`")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    figures = machine_figures()
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        runs_dir = options.runs or Path(folder)
        if options.part == "published":
            draw_published(list_systems(), options.plot or Path("zoo.svg"))
        elif options.part == "sizes":
            figures |= measure_all_sizes(options, runs_dir)
        else:
            figures |= measure_plan(options, runs_dir)
    print_document(figures)


if __name__ == "__main__":
    main()
