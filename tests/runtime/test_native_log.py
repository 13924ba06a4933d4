"""What native code says by itself: chatter is dropped, everything else comes through."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.runtime.native_log import without_chatter


def test_chatter_is_dropped_and_the_rest_comes_through(capfd: pytest.CaptureFixture[str]) -> None:
    with without_chatter():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nWARNING: odd\nERROR: bad")
    assert capfd.readouterr().err == "WARNING: odd\nERROR: bad"


@without_chatter()
def fail() -> None:
    os.write(2, b"ERROR: why\n")
    raise ValueError("broken")


def test_the_descriptor_is_given_back_when_the_block_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"):
        fail()
    os.write(2, b"INFO: outside\n")
    assert capfd.readouterr().err == "ERROR: why\nINFO: outside\n"


def test_the_block_runs_when_standard_error_is_closed() -> None:
    code = (
        "import os; os.close(2)\n"
        "from edgekit.runtime.native_log import without_chatter\n"
        "with without_chatter():\n    print('ran')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "ran\n"


def test_descriptors_are_not_leaked() -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        with without_chatter():
            pass
    assert len(list(Path("/dev/fd").iterdir())) == before
