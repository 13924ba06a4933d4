"""Processor time and memory of processes, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

_MIB_PER_KIB = 1 / 1024


class ProcessUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One process at one moment.

    Args:
        started_ticks: When it started, since boot: tells it from a later one with the same number.
        cpu_s: Processor time so far, all threads, user and system.
        rss_mib: Resident memory.
    """

    started_ticks: int
    cpu_s: float
    rss_mib: float


def read_usage(pid: int, proc_dir: Path) -> ProcessUsage | None:
    """Read /proc/PID/stat; None when there is no such process (any more).

    See proc_pid_stat(5). The name of the program is in parentheses and may itself hold anything, so fields are counted
    from the last parenthesis on.
    """
    try:
        text = (proc_dir / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        fields = text[text.rindex(")") + 1 :].split()
        user, system, started, pages = int(fields[11]), int(fields[12]), int(fields[19]), int(fields[21])
    except (OSError, ValueError, IndexError):
        return None
    return ProcessUsage(
        started_ticks=started,
        cpu_s=(user + system) / os.sysconf("SC_CLK_TCK"),
        rss_mib=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
    )


def read_pss_mib(pid: int, proc_dir: Path) -> float | None:
    """Memory of a process with what it shares counted in shares; None where the kernel does not tell.

    Exact over several processes, where resident memory counts shared pages (Python itself, frames) once for each. The
    kernel walks all page tables for it: not for every second.
    """
    try:
        lines = (proc_dir / str(pid) / "smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) * _MIB_PER_KIB for line in lines if line.startswith("Pss:")), None)
    except (OSError, ValueError, IndexError):
        return None


class ProcessMeter:
    """Processor time and memory of a group of processes whose members may come and go.

    Args:
        proc_dir: "/proc" but in tests.
    """

    def __init__(self, proc_dir: Path) -> None:
        self._proc_dir = proc_dir
        self._before: dict[tuple[int, int], float] = {}
        self._read_s: float | None = None
        self._percent = 0.0
        self.rss_mib = 0.0

    def read(self, pids: tuple[int, ...], now_s: float, min_interval_s: float = 0.2) -> float:
        """Processor time since the last call, in percent of one core; also `rss_mib`, the sum of resident memory.

        A process that has come meanwhile counts with all it has used; one that has gone, no more. Called again within
        `min_interval_s` the percentage is the one before: the kernel counts in steps of 10 ms.

        Args:
            pids: The processes.
            now_s: Monotonic seconds.
            min_interval_s: Shortest time to measure over.
        """
        usages = {pid: usage for pid in pids if (usage := read_usage(pid, self._proc_dir)) is not None}
        self.rss_mib = sum(usage.rss_mib for usage in usages.values())
        if self._read_s is not None and now_s - self._read_s < min_interval_s:
            return self._percent
        spent = {(pid, usage.started_ticks): usage.cpu_s for pid, usage in usages.items()}
        if self._read_s is not None:
            used_s = sum(max(0.0, cpu_s - self._before.get(key, 0.0)) for key, cpu_s in spent.items())
            self._percent = 100.0 * used_s / (now_s - self._read_s)
        self._before, self._read_s = spent, now_s
        return self._percent

    def pss_mib(self, pids: tuple[int, ...]) -> float | None:
        """Memory of the group, shared pages counted once; None when any of it is not told."""
        shares = [read_pss_mib(pid, self._proc_dir) for pid in pids]
        known = [share for share in shares if share is not None]
        return sum(known) if shares and len(known) == len(shares) else None
