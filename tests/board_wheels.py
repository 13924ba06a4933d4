"""The wheels that a bare arm64 board needs: real ones, fetched once and kept beside the images of emulated boards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.deploy.ssh.own_wheel import read_own_wheel
from edgekit.deploy.wheelhouse import lacking, read_wheelhouse
from emulated_device.rootfs import PYTHON_VERSION, REPOSITORY

RUNTIME = "ai-edge-litert"
_PLATFORMS = ("_2_34", "_2_28", "_2_27", "2014", "_2_17")


def arm64_wheels(folder: Path) -> Path:
    """The folder, filled with what the extra `agent` installs on a board with one runtime, and pip.

    The test is skipped where they are not there and cannot be fetched.
    """
    own = read_own_wheel()
    wanted = (*own.requires, *own.agent_requires, RUNTIME, "pip")
    if folder.is_dir() and not lacking(read_wheelhouse(folder), wanted, (3, int(PYTHON_VERSION[1:]))):
        return folder
    words = [
        sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder, "--only-binary=:all:",
        *(f"--platform=manylinux{tag}_aarch64" for tag in _PLATFORMS),
        "--python-version", PYTHON_VERSION, "--implementation", "cp",
        "--constraint", REPOSITORY / "constraints.txt", *wanted,
    ]  # fmt: skip
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no arm64 wheels in {folder}, and pip cannot fetch them: {done.stderr.strip()[-300:]}")
    return folder
