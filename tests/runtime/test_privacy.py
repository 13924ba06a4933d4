"""Nothing is left in the user's folder, and nothing is sent, by running a model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.runtime.privacy import decline_telemetry


@pytest.mark.parametrize("first", ["load_interpreter", "preload_runtime"])
def test_onnx_runtime_leaves_no_device_id(
    tiny_models: dict[str, Path], tmp_path: Path, repository: Path, first: str
) -> None:
    path = str(tiny_models["int8.onnx"])
    program = (
        "from pathlib import Path\nfrom edgekit.runtime.interpreter import load_interpreter, preload_runtime\n"
        f"{first}(Path({path!r}))\nload_interpreter(Path({path!r}))\n"
    )
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(repository)}

    subprocess.run([sys.executable, "-c", program], env=environ, check=True, timeout=120)
    assert list(tmp_path.rglob("*")) == []


def test_choice_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    decline_telemetry()

    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
