"""What this machine is."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from edgekit.agent.facts import free_memory_mib, read_facts
from edgekit.core.board import list_boards


def test_this_machine_is_described(tmp_path: Path) -> None:
    facts = read_facts(tmp_path / "not" / "there" / "yet")

    assert facts.board in list_boards()
    assert facts.architecture == platform.machine()
    assert facts.python == sys.version_info[:2]
    assert {"litert", "onnxruntime"} <= {name for name, _ in facts.runtimes or ()}
    assert facts.free_ram_mib is not None
    assert facts.free_disk_mib is not None
    assert facts.free_disk_mib > 0
    assert read_facts(tmp_path, board="jetson_nano").board == "jetson_nano"


def test_free_memory_is_what_linux_says(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  4000 kB\nMemFree: 1 kB\nMemAvailable:  2048 kB\n")
    assert free_memory_mib(path) == 2.0
    path.write_text("MemAvailable: lots kB\nMemAvailable:\n")
    assert free_memory_mib(path) is None
    assert free_memory_mib(tmp_path / "absent") is None
