"""What the benchmarks in this folder share: fair timing, child processes, and the one JSON document.

Rules: whoever is compared takes turns in one run (A B, B A, A B, ...), the median of the rounds counts, and
CPU time stands beside wall time, because on a shared machine only ratios and CPU time mean much.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from edgekit.core.environment import cpu_name

Figure: TypeAlias = float | int | str | bool | None

REPOSITORY = Path(__file__).resolve().parents[1]
NUM_ROUNDS = 5
"""Rounds of a full run; a quick run has one."""

_KEY = re.compile(r"[a-z0-9][a-z0-9_.]*")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one call took.

    Args:
        wall_s: Wall time.
        cpu_s: CPU time of all threads.
    """

    wall_s: float
    cpu_s: float


class ChildUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What one child process took.

    Args:
        sample: Times, start of the interpreter included.
        peak_rss_mib: Largest resident memory of the child or of any process that it started.
        exit_code: Its exit status, negative for a signal.
        stdout: What it printed.
    """

    sample: Sample
    peak_rss_mib: float
    exit_code: int
    stdout: bytes


def timed(call: Callable[[], object]) -> Sample:
    """Call once and time it, in this process."""
    cpu_before, wall_before = time.process_time(), time.perf_counter()
    call()
    wall = time.perf_counter() - wall_before
    return Sample(wall_s=wall, cpu_s=time.process_time() - cpu_before)


def interleave(
    contestants: Mapping[str, Callable[[], Sample | None]], num_rounds: int
) -> dict[str, tuple[Sample, ...]]:
    """Let contestants take turns, every other round in reverse order.

    A contestant that gives None (its package is missing) is not asked again and has no samples.

    Returns:
        Samples per contestant, `num_rounds` or none.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in contestants}
    order = list(contestants)
    for _ in range(num_rounds):
        for name in list(order):
            sample = contestants[name]()
            if sample is None:
                order.remove(name)
            else:
                samples[name].append(sample)
        order.reverse()
    return {name: tuple(taken) for name, taken in samples.items()}


def median_sample(samples: Sequence[Sample]) -> Sample | None:
    """Median wall time and median CPU time, each on its own; None without samples."""
    if not samples:
        return None
    return Sample(
        wall_s=statistics.median(sample.wall_s for sample in samples),
        cpu_s=statistics.median(sample.cpu_s for sample in samples),
    )


def quotient(value: float | None, base: float | None) -> float | None:
    """The ratio of two figures, rounded to three places; None when one is missing."""
    return None if value is None or not base else round(value / base, 3)


def run_child(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> ChildUsage:
    """Run a program and measure it with wait4(2).

    The memory reported is at least that of the calling process, because the kernel counts the moment between fork and
    exec: benchmarks that measure memory must stay small themselves (no torch).
    """
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, env={**os.environ, **(environment or {})})
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        return ChildUsage(
            sample=Sample(wall_s=wall, cpu_s=usage.ru_utime + usage.ru_stime),
            peak_rss_mib=usage.ru_maxrss / 1024,
            exit_code=child.returncode,
            stdout=output.read(),
        )


def time_figures(prefix: str, samples: Sequence[Sample], *, places: int = 3) -> dict[str, Figure]:
    """`<prefix>_wall_s` and `<prefix>_cpu_s`: medians, None without samples."""
    middle = median_sample(samples)
    return {
        f"{prefix}_wall_s": None if middle is None else round(middle.wall_s, places),
        f"{prefix}_cpu_s": None if middle is None else round(middle.cpu_s, places),
    }


def machine_figures() -> dict[str, Figure]:
    """Processor, its cores, whether it multiplies int8 exactly (VNNI), and how busy it is."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        load = round(os.getloadavg()[0], 1)
    except OSError:
        flags, load = "", None
    return {
        "machine_cpu": cpu_name(),
        "machine_num_cpus": os.cpu_count(),
        "machine_has_vnni": "_vnni" in flags,
        "machine_load": load,
    }


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with `--quick`, for options that every benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="one round of a part; at most a minute on a quiet machine")
    return parser


def add_peers_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--peers-python`."""
    parser.add_argument(
        "--peers-python",
        metavar="PATH",
        default=sys.executable,
        help="interpreter of an environment with edgekit[host,peers]; default: this one",
    )


def note(text: str) -> None:
    """Say on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)


def print_document(figures: Mapping[str, Figure]) -> None:
    """Print the one JSON document of a benchmark: flat, every key a name with its unit.

    Raises:
        ValueError: A key or value that does not belong into a flat document.
    """
    for key, value in figures.items():
        if not _KEY.fullmatch(key) or not (value is None or isinstance(value, (int, float, str))):
            raise ValueError(f"{key!r}: {value!r} does not belong into a flat document")
    print(json.dumps(dict(figures), indent=2, allow_nan=False))
