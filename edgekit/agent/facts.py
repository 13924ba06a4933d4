"""What this machine is, as far as a bundle wants to know."""

from __future__ import annotations

import platform
import shutil
import struct
import sys
from pathlib import Path

from edgekit.bundle.compatibility import DeviceFacts
from edgekit.core.environment import installed_version
from edgekit.runtime.board import detect_board

MEMORY_PATH = Path("/proc/meminfo")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at only
MIB = 1024 * 1024

_DISTRIBUTIONS = (
    ("litert", "ai-edge-litert"),
    ("tflite_runtime", "tflite-runtime"),
    ("tensorflow", "tensorflow"),
    ("onnxruntime", "onnxruntime"),
    ("onnxruntime", "onnxruntime-gpu"),
)
_NARROW = {"aarch64": "armv7l", "x86_64": "i686"}


def read_facts(folder: Path, board: str | None = None) -> DeviceFacts:
    """Look at this machine.

    Args:
        folder: Where bundles and unpacked models go; it need not exist yet. Where it has no room, a model lies in
            memory, so the place with the most room is told.
        board: Board id; None to look.
    """
    runtimes = tuple(
        (name, version)
        for name, distribution in _DISTRIBUTIONS
        if (version := installed_version(distribution)) is not None
    )
    machine = platform.machine()
    is_narrow = struct.calcsize("P") == 4  # a 32-bit system on a 64-bit kernel, as Raspberry Pi OS may be
    return DeviceFacts(
        board=board or detect_board().name,
        architecture=_NARROW.get(machine, machine) if is_narrow else machine,
        python=(sys.version_info.major, sys.version_info.minor),
        runtimes=runtimes,
        free_ram_mib=free_memory_mib(),
        free_disk_mib=_most_free_mib(folder, SHARED_MEMORY),
    )


def free_memory_mib(path: Path = MEMORY_PATH) -> float | None:
    """Linux's MemAvailable; None where it is not told."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "MemAvailable:" and words[1].isdecimal():
            return int(words[1]) / 1024
    return None


def _most_free_mib(*folders: Path) -> float | None:
    found = [free for folder in folders if (free := _free_disk_mib(folder)) is not None]
    return max(found, default=None)


def _free_disk_mib(folder: Path) -> float | None:
    place = next((place for place in (folder, *folder.absolute().parents) if place.is_dir()), Path("/"))
    try:
        return shutil.disk_usage(place).free / MIB
    except OSError:
        return None
