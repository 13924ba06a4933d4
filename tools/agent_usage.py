"""What processes take, read from /proc: CPU time, memory, descriptors, children."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

_CPUCLOCK_SCHED = 2


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Of this process and others, at one moment.

    Args:
        wall_s: The moment, on the monotonic clock.
        cpu_s: CPU time so far of all of them.
        pss_mib: Memory, shared pages counted in part.
        rss_mib: Resident memory.
        num_descriptors: Open in this process.
        num_children: Of this process, zombies among them.
    """

    wall_s: float
    cpu_s: float
    pss_mib: float
    rss_mib: float
    num_descriptors: int
    num_children: int


def read_usage(pids: Sequence[int]) -> Usage:
    """Measure this process and `pids` (which may name it again); one that is gone counts nothing."""
    everybody = sorted({os.getpid(), *pids})
    folder = Path("/proc/self/fd")
    return Usage(
        wall_s=time.monotonic(),  # the times first: what follows takes some itself
        cpu_s=sum(cpu_s(pid) for pid in everybody),
        pss_mib=sum(_kib(pid, "smaps_rollup", "Pss:") for pid in everybody) / 1024,
        rss_mib=sum(_kib(pid, "status", "VmRSS:") for pid in everybody) / 1024,
        num_descriptors=len(list(folder.iterdir())) - 1,
        num_children=len(children(os.getpid())),
    )


def restart(usage: Usage, pids: Sequence[int]) -> Usage:
    """The same with the times of now: reading the memory took some, which is not to count."""
    again = sorted({os.getpid(), *pids})
    return msgspec.structs.replace(usage, wall_s=time.monotonic(), cpu_s=sum(cpu_s(pid) for pid in again))


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, its threads included."""
    # what clock_getcpuclockid(3) gives for a process: its CPU time in nanoseconds, where /proc has it in steps of 10 ms
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def children(pid: int) -> list[int]:
    """Child processes, of all threads."""
    return [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _children_of_thread(task)]


def _children_of_thread(task: Path) -> list[int]:
    try:
        return [int(word) for word in (task / "children").read_text(encoding="ascii").split()]
    except OSError:  # the thread has ended
        return []


def _kib(pid: int, name: str, key: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)
