"""Searching is for boards: whatever it needs, the training side is not among it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from extractors import write_extractors, write_pictures

PROGRAM = """
import json, sys
blocked = ("torch", "torchvision", "onnx", "onnxscript", "tensorflow", "jax", "sklearn", "scipy", "matplotlib",
           "safetensors", "jinja2", "flatbuffers", "pooch", "platformdirs")
for name in blocked:
    sys.modules[name] = None  # importing it fails, as on a board that has none of them
from edgekit.cli.main import main
code = main(sys.argv[1:])
host = ("edgekit.models", "edgekit.data", "edgekit.train", "edgekit.export", "edgekit.evaluate", "edgekit.report")
print(json.dumps([name for name in sys.modules if name.startswith(host)]), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("name", ["int8.tflite", "int8.onnx"])
def test_search_runs_where_nothing_of_the_training_side_can_be_imported(
    repository: Path, tmp_path: Path, name: str
) -> None:
    model = write_extractors(tmp_path / "models")[name]
    write_pictures(tmp_path / "pictures", 5)
    arguments = ["search", "pictures", "--like", "pictures/0003.png", "--model", model, "--index", "index", "--json"]

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(repository), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["matches"][0] == {"path": "pictures/0003.png", "similarity": 1.0}
    assert json.loads(done.stderr.splitlines()[-1]) == []
