"""`edgekit bench`: latency of model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import Bars, model_file, plain_table, print_json, show


def bench(
    file: Annotated[Path, typer.Argument(help=".tflite, .onnx or .ekz file, or a run folder.")],
    vs: Annotated[list[Path] | None, typer.Option("--vs", help="File to take turns with; may be given again.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    queries: Annotated[int, typer.Option(min=1, help="Queries counted; p99 needs 662.")] = 1000,
    warmup: Annotated[int, typer.Option(min=1, help="Queries thrown away before.")] = 8,
    max_seconds: Annotated[float, typer.Option(help="Stop after this many seconds in all.")] = 60.0,
    inexact: Annotated[
        bool, typer.Option("--inexact", help="Let ONNX Runtime saturate int8 sums on x86 without VNNI.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure p50, p90 and p99 with their sample count; with --vs the files take turns (A B, B A, ...)."""
    from edgekit.runtime.benchmark import BenchmarkSettings, compare, ratio

    settings = BenchmarkSettings(
        num_threads=threads, num_queries=queries, num_warmup=warmup, max_seconds=max_seconds, exact=not inexact
    )
    with Bars() as bars:
        bars.begin("measure", queries)
        results = compare([model_file(path) for path in (file, *(vs or []))], settings, progress=bars)
    ratios = [ratio(result, results[0]) for result in results[1:]]
    if as_json:
        print_json({"latency": results, "ratios": ratios})
        return
    # two tables: one of ten columns is wider than a terminal
    for titles, rows in (
        (
            ("file", "runtime", "n", "p50 ms", "p90 ms", "p99 ms", "CPU p50"),
            [
                (one.file, one.runtime, str(one.n), *map(_number, (one.p50_ms, one.p90_ms, one.p99_ms, one.cpu_p50_ms)))
                for one in results
            ],
        ),
        (
            ("file", "load ms", "first inference ms", "peak RSS MiB"),
            [(one.file, *map(_number, (one.load_ms, one.first_ms, one.peak_rss_mib))) for one in results],
        ),
    ):
        show(plain_table(titles, rows, left=("file", "runtime"), unbroken=("file",)))
    show(f"{results[0].board}, batch 1, {threads} thread(s), {warmup} warm-up queries; - too few samples to tell")
    for result, one in zip(results[1:], ratios, strict=True):
        show(f"{result.file} / {results[0].file}: wall x{one.wall:.3f}, CPU x{one.cpu:.3f}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
