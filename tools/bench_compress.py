"""The main job end to end, and how long the command line takes to say hello.

    python tools/bench_compress.py [--quick] [--model mobilenet] [--untrained] [--input-size N]

Runs `edgekit compress MODEL --bits 8` in a child process: wall and CPU time, peak resident memory, and the stages as
the run's own report has them. Before that, `edgekit --help`, `import edgekit` and a bare Python that does nothing take
turns. Bars: 60 s and 2 GB; 0.3 s; 50 ms and no torch. One JSON document on standard output.
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarking import (
    NUM_ROUNDS,
    REPOSITORY,
    ChildUsage,
    Figure,
    Sample,
    arguments,
    interleave,
    machine_figures,
    note,
    print_document,
    run_child,
    time_figures,
)
from edgekit.core.errors import EdgekitError, UsageError
from edgekit.core.report import StageRow

NUM_START_ROUNDS = 9
QUICK_START_ROUNDS = 5
EXIT_BAR_MISSED = 1
_START_OF_EDGEKIT = "import sys; from edgekit.cli.main import main; sys.argv[0] = 'edgekit'; main()"
_IMPORT = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
import edgekit
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print('{"wall_s": %r, "cpu_s": %r, "torch": %d}' % (wall, cpu, "torch" in sys.modules))
"""


class ImportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the child that imports edgekit prints.

    Args:
        wall_s: Wall time of the import alone.
        cpu_s: CPU time likewise.
        torch: 1 when torch was imported with it.
    """

    wall_s: float
    cpu_s: float
    torch: int


class _Stages(msgspec.Struct, frozen=True):
    """What is read of a report."""

    stages: tuple[StageRow, ...]


def command_line(*words: str) -> list[str]:
    """The command that runs edgekit from this checkout, as the installed script does."""
    return [sys.executable, "-c", _START_OF_EDGEKIT, *words]


def run_edgekit(command: Sequence[str]) -> ChildUsage:
    """Run a command with this checkout importable."""
    return run_child(command, environment={"PYTHONPATH": str(REPOSITORY)})


def start_figures(num_rounds: int) -> dict[str, Figure]:
    """Times of a bare Python, `edgekit --help` and `import edgekit`, taking turns.

    Raises:
        EdgekitError: A command failed.
    """
    imports: list[ImportAnswer] = []

    def child(command: Sequence[str]) -> ChildUsage:
        usage = run_edgekit(command)
        if usage.exit_code != 0:
            raise EdgekitError(f"{' '.join(command[2:])} ended with exit code {usage.exit_code}")
        return usage

    def import_edgekit() -> Sample:
        answer = msgspec.json.decode(child([sys.executable, "-c", _IMPORT]).stdout, type=ImportAnswer)
        imports.append(answer)
        return Sample(wall_s=answer.wall_s, cpu_s=answer.cpu_s)

    samples = interleave(
        {
            "bare_python": lambda: child([sys.executable, "-c", "pass"]).sample,
            "help": lambda: child(command_line("--help")).sample,
            "import_edgekit": import_edgekit,
        },
        num_rounds,
    )
    figures: dict[str, Figure] = {"start_rounds": num_rounds}
    for name, taken in samples.items():
        figures |= time_figures(name, taken, places=4)
    figures["help_fastest_wall_s"] = round(min(sample.wall_s for sample in samples["help"]), 4)
    figures["import_edgekit_fastest_wall_s"] = round(min(sample.wall_s for sample in samples["import_edgekit"]), 4)
    figures["import_edgekit_loads_torch"] = any(answer.torch for answer in imports)
    return figures


def stage_figures(reports: Sequence[bytes]) -> dict[str, Figure]:
    """Median wall time of every stage, as `report.json` has them.

    Raises:
        EdgekitError: What the command printed is no report.
    """
    times: dict[str, list[float]] = {}
    try:
        runs = [msgspec.json.decode(content, type=_Stages).stages for content in reports]
    except msgspec.DecodeError as error:
        raise EdgekitError(f"compress --json printed no report: {error}") from error
    for row in itertools.chain.from_iterable(runs):
        times.setdefault(re.sub(r"\W+", "_", row.name.lower()), []).append(row.seconds)
    return {f"stage_{name}_wall_s": round(statistics.median(taken), 3) for name, taken in times.items()}


def compress_figures(words: Sequence[str], num_rounds: int) -> dict[str, Figure]:
    """Time and memory of `edgekit compress WORDS`.

    Raises:
        EdgekitError: The command failed. A missed bar of its verification is no failure, and is reported.
    """
    usages: list[ChildUsage] = []
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        for index in range(num_rounds):
            run_dir = Path(folder) / f"run{index}"
            usage = run_edgekit(command_line("compress", *words, "--out", str(run_dir), "--json"))
            if usage.exit_code not in {0, EXIT_BAR_MISSED} or not (run_dir / "report.json").is_file():
                raise EdgekitError(f"compress {' '.join(words)} ended with exit code {usage.exit_code}")
            note(f"compress, round {index + 1} of {num_rounds}: {usage.sample.wall_s:.1f} s")
            usages.append(usage)
    return {
        "compress_rounds": num_rounds,
        **time_figures("compress", [usage.sample for usage in usages]),
        "compress_peak_rss_mib": round(max(usage.peak_rss_mib for usage in usages), 1),
        "compress_passed": all(usage.exit_code == 0 for usage in usages),
        **stage_figures([usage.stdout for usage in usages]),
    }


def model_words(options: argparse.Namespace) -> list[str]:
    """Arguments of `compress` for the model asked for."""
    words = [options.model, "--bits", "8"]
    if options.untrained:
        words.append("--untrained")
    if options.input_size is not None:
        words += ["--input-size", str(options.input_size)]
    return words


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--model", default="mobilenet", help="what to compress; default: the embedded mobilenet")
    parser.add_argument("--untrained", action="store_true", help="random weights")
    parser.add_argument("--input-size", type=int, help="pixels, with --untrained")
    options = parser.parse_args(words)
    if options.input_size is not None and not options.untrained:
        raise UsageError("--input-size goes with --untrained: weights have their own size")
    figures = machine_figures()
    figures |= start_figures(QUICK_START_ROUNDS if options.quick else NUM_START_ROUNDS)
    figures |= {"compress_model": options.model, "compress_untrained": options.untrained}
    figures |= compress_figures(model_words(options), 1 if options.quick else NUM_ROUNDS)
    print_document(figures)


if __name__ == "__main__":
    main()
