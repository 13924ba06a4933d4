"""Latency of model files, one beside the other in one run.

Shared machines drift: a file that is measured a minute later meets another machine. So several files take turns, in
rounds of a few queries (A B, B A, A B, ...), and ratios are taken within the run. CPU time stands beside wall time,
because under load only the former means anything. Percentiles follow MLPerf's early-stopping rule
(`edgekit.core.measurement.percentile_bound`): no p90 below 64 queries, no p99 below 662.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

import edgekit
from edgekit.core.errors import UsageError
from edgekit.core.measurement import Latency, median, percentile_bound
from edgekit.core.progress import Progress, Silent
from edgekit.runtime.board import detect_board
from edgekit.runtime.interpreter import Interpreter, load_interpreter
from edgekit.runtime.probe import ProbeResult
from edgekit.runtime.sample import random_input

_PROBE_TIMEOUT_S = 300
_ROUND_S = 0.1
_MAX_ROUND_QUERIES = 16


class BenchmarkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How latency is measured.

    Args:
        num_threads: Threads the runtime is given.
        num_queries: Queries counted per file; 662 is the least that gives a p99.
        min_seconds: Go on beyond `num_queries` until each file has run this long.
        max_seconds: Stop before `num_queries` when the files together have run this long; at least one round is run.
        num_warmup: Queries thrown away per file before, the first inference included.
        exact: As in `load_interpreter`.
        seed: Of the random input.
        isolate: Measure load time, first inference and peak memory in a fresh process per file; otherwise the first
            two are taken in this process and peak memory is None.
    """

    num_threads: int = 1
    num_queries: int = 1000
    min_seconds: float = 0.0
    max_seconds: float = 60.0
    num_warmup: int = 8
    exact: bool = True
    seed: int = 0
    isolate: bool = True


class LatencyRatio(msgspec.Struct, frozen=True, kw_only=True):
    """One file's medians over another's, of one run; below 1 is faster.

    Args:
        wall: Of wall time.
        cpu: Of CPU time.
    """

    wall: float
    cpu: float


class _Contestant:
    """One file under measurement: its interpreter, its input, and the samples so far, in nanoseconds."""

    def __init__(self, path: Path, settings: BenchmarkSettings) -> None:
        started = time.perf_counter_ns()
        self.interpreter: Interpreter = load_interpreter(path, num_threads=settings.num_threads, exact=settings.exact)
        self.load_ns = time.perf_counter_ns() - started
        self.batch = random_input(self.interpreter.input, seed=settings.seed)
        self.total_ns = 0
        self.wall_ns: list[int] = []
        self.cpu_ns: list[int] = []
        self.first_ns = self._query()[0]
        warm = [self._query()[0] for _ in range(settings.num_warmup - 1)]
        self.warm_ns = median(warm) if warm else self.first_ns

    def run_round(self, num_queries: int) -> None:
        """Run and count queries, after one that is not counted: another file has emptied the caches meanwhile."""
        self._query()
        for _ in range(num_queries):
            wall, cpu = self._query()
            self.total_ns += wall
            self.wall_ns.append(wall)
            self.cpu_ns.append(cpu)

    def _query(self) -> tuple[int, int]:
        cpu_before = time.process_time_ns()
        wall_before = time.perf_counter_ns()
        self.interpreter.run(self.batch)
        wall = time.perf_counter_ns() - wall_before
        return wall, time.process_time_ns() - cpu_before


def benchmark(
    path: Path, settings: BenchmarkSettings | None = None, *, board: str | None = None, progress: Progress | None = None
) -> Latency:
    """Measure the latency of one file.

    Args:
        path: .tflite or .onnx file.
        settings: None for the defaults.
        board: Board id for the result; None to look.
        progress: Moves on by the queries of every round; its begin and end are the caller's.

    Raises:
        UsageError, IntegrityError, GraphError, MissingDependencyError: As `load_interpreter`.
    """
    return compare([path], settings, board=board, progress=progress)[0]


def compare(
    paths: Sequence[Path],
    settings: BenchmarkSettings | None = None,
    *,
    board: str | None = None,
    progress: Progress | None = None,
) -> list[Latency]:
    """Measure several files in turns; each gets the same number of queries. Arguments and errors as `benchmark`.

    Returns:
        One result per path, in order.
    """
    settings = settings or BenchmarkSettings()
    _check_settings(settings, len(paths))
    board_name = board or detect_board().name
    contestants = [_Contestant(Path(path), settings) for path in paths]
    probes = [probe_in_child(Path(path), settings) if settings.isolate else None for path in paths]
    _run_rounds(contestants, settings, progress or Silent())
    return [
        _summarize(contestant, probed, settings, board_name)
        for contestant, probed in zip(contestants, probes, strict=True)
    ]


def ratio(latency: Latency, base: Latency) -> LatencyRatio:
    """Compare two results of one `compare`; of different runs the ratio means nothing on a shared machine."""
    return LatencyRatio(wall=latency.p50_ms / base.p50_ms, cpu=latency.cpu_p50_ms / base.cpu_p50_ms)


def probe_in_child(path: Path, settings: BenchmarkSettings) -> ProbeResult | None:
    """Run `edgekit.runtime.probe` on a file; None where no child process can be had or it fails.

    The file has been loaded here before, so what fails is the child (no memory left, no Python to start), and the
    measurement goes on without it.
    """
    command = [sys.executable, "-m", "edgekit.runtime.probe", str(path), "--threads", str(settings.num_threads)]
    if not settings.exact:
        command.append("--inexact")
    package_parent = str(Path(edgekit.__file__).resolve().parents[1])
    search_path = os.pathsep.join(filter(None, (package_parent, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": search_path},
            capture_output=True,
            check=True,
            timeout=_PROBE_TIMEOUT_S,
        )
        return msgspec.json.decode(done.stdout, type=ProbeResult)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError):
        return None


def _check_settings(settings: BenchmarkSettings, num_files: int) -> None:
    if num_files < 1:
        raise UsageError("no file to measure")
    for key in ("num_queries", "num_warmup", "max_seconds"):
        if getattr(settings, key) <= 0:
            raise UsageError(f"{key} is {getattr(settings, key)}, expected more than 0")


def _run_rounds(contestants: list[_Contestant], settings: BenchmarkSettings, progress: Progress) -> None:
    """Let the files take turns until each has enough. A round is at most 0.1 s of the slowest, so turns are short."""
    slowest = max(contestant.warm_ns for contestant in contestants) / 1e9
    per_round = max(1, min(_MAX_ROUND_QUERIES, settings.num_queries, int(_ROUND_S / max(slowest, 1e-9))))
    order = list(contestants)
    started = time.perf_counter()
    num_done = 0
    while True:
        size = per_round if num_done >= settings.num_queries else min(per_round, settings.num_queries - num_done)
        for contestant in order:
            contestant.run_round(size)
        order.reverse()
        num_done += size
        progress.advance(size)
        elapsed = time.perf_counter() - started
        shortest = min(contestant.total_ns for contestant in contestants) / 1e9
        if (num_done >= settings.num_queries and shortest >= settings.min_seconds) or elapsed >= settings.max_seconds:
            return


def _summarize(contestant: _Contestant, probed: ProbeResult | None, settings: BenchmarkSettings, board: str) -> Latency:
    wall_ms = [nanoseconds / 1e6 for nanoseconds in contestant.wall_ns]
    return Latency(
        file=contestant.interpreter.file_path.name,
        runtime=contestant.interpreter.name,
        board=board,
        num_threads=settings.num_threads,
        num_warmup=settings.num_warmup,
        n=len(wall_ms),
        p50_ms=median(wall_ms),
        p90_ms=percentile_bound(wall_ms, 0.90),
        p99_ms=percentile_bound(wall_ms, 0.99),
        cpu_p50_ms=median(contestant.cpu_ns) / 1e6,
        load_ms=contestant.load_ns / 1e6 if probed is None else probed.load_ms,
        first_ms=contestant.first_ns / 1e6 if probed is None else probed.first_ms,
        peak_rss_mib=None if probed is None else probed.peak_rss_mib,
    )
