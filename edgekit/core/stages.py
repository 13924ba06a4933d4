"""Time and memory of the stages of a pipeline."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeAlias

import msgspec

from edgekit.core.progress import Progress
from edgekit.core.report import StageRow

Tell: TypeAlias = Callable[[str], None]
"""Takes one line for people: plans before they are carried out, and what was done otherwise than asked."""

_STATM = Path("/proc/self/statm")
_SAMPLE_S = 0.02
_LOG = logging.getLogger(__name__)


class StageClock:
    """Measures stages one after the other; `rows` grows by one for each that ends."""

    def __init__(self) -> None:
        self.rows: list[StageRow] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Generator[None, None, None]:
        """Measure what happens inside: wall time, and peak resident memory sampled every 20 ms."""
        peak = _PeakSampler()
        start = time.perf_counter()
        peak.start()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            row = StageRow(name=name, seconds=seconds, peak_rss_mib=peak.stop())
            self.rows.append(row)
            _LOG.info("%-10s %6.2f s, peak %.0f MiB", row.name, row.seconds, row.peak_rss_mib)


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told what happens.

    Args:
        clock: Measures the stages.
        progress: Shows how far they are.
        tell: Takes lines for people.
    """

    clock: StageClock
    progress: Progress
    tell: Tell


class _PeakSampler(threading.Thread):
    """Samples the process's resident memory; the kernel's own high-water mark cannot be reset without privileges."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="edgekit-rss")
        self._stopped = threading.Event()
        self._peak = read_rss_mib()

    def run(self) -> None:
        while not self._stopped.wait(_SAMPLE_S):
            self._peak = max(self._peak, read_rss_mib())

    def stop(self) -> float:
        self._stopped.set()
        self.join()
        return max(self._peak, read_rss_mib())


def read_rss_mib() -> float:
    """Resident memory of this process in MiB; 0.0 where there is no /proc."""
    try:
        resident_pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return resident_pages * _page_bytes() / 2**20


def _page_bytes() -> int:
    import resource  # not on every platform: only where /proc was found

    return resource.getpagesize()
