"""The wheel in environments that hold nothing else: bare, and with the runtime extra alone (a board: no torch)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.core.artifact import ModelCard
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from extractors import write_extractors, write_pictures
from graphs import GraphBuilder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).resolve().parents[2]
# The oldest Python that boards have (JetPack 6), and the one that runs the tests.
INTERPRETERS = ("python3.10", f"python{sys.version_info.major}.{sys.version_info.minor}")
TRAINING_SIDE = {"torch", "onnx", "onnxscript", "tensorflow", "jax", "safetensors", "matplotlib", "scikit-learn"}


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program without this environment's Python settings; its exit code is the caller's to judge."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )


def must(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program that has to succeed; its stdout."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    must(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=REPOSITORY)
    (path,) = folder.glob("edgekit-*-py3-none-any.whl")
    return path


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small float model in both formats and a picture."""
    folder = tmp_path_factory.mktemp("model")
    net = GraphBuilder((1, 3, 16, 16))
    features = net.relu6(net.conv("input", 8, stride=2, pads=1))
    graph = net.build(net.gemm(net.flatten(net.global_pool(features)), 3))
    spec = PreprocessSpec(input_size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    card = ModelCard(model="net", scheme="float", labels=("ant", "bee", "cat"), preprocess=spec)
    write_tflite(graph, folder / "model.tflite", card)
    write_onnx(graph, folder / "model.onnx", card)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


def find_interpreter(name: str) -> Path | None:
    """A Python that can make virtual environments: on the PATH (a shim may be there and not work), or pyenv's."""
    pyenv_root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [*filter(None, [shutil.which(name)]), *sorted(pyenv_root.glob(f"versions/*/bin/{name}"))]
    working = [Path(path) for path in found if run(path, "-c", "import venv, ensurepip").returncode == 0]
    return working[0] if working else None


def make_environment(folder: Path, interpreter: str, requirement: str) -> Path:
    """A new virtual environment with one requirement, pinned by constraints.txt; its folder of programs."""
    program = find_interpreter(interpreter)
    if program is None:
        pytest.skip(f"no {interpreter} with venv, on the PATH or from pyenv")
    must(program, "-m", "venv", folder)
    constraints = REPOSITORY / "constraints.txt"
    must(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "-c", constraints, requirement)
    return folder / "bin"


@pytest.fixture(scope="module", params=INTERPRETERS)
def bare(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("bare") / "venv", request.param, f"{wheel}")


@pytest.fixture(scope="module", params=INTERPRETERS)
def board(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("board") / "venv", request.param, f"{wheel}[runtime]")


def test_wheel_holds_package_and_its_data_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = must("git", "ls-files", "edgekit", "recipes", "devices", cwd=REPOSITORY).splitlines()
    expected = {name if name.startswith("edgekit/") else f"edgekit/{name}" for name in tracked}

    assert expected <= names
    assert "edgekit/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"edgekit"}
    assert not [name for name in names if "__pycache__" in name]


def test_help_works_when_no_extra_is_installed(bare: Path) -> None:
    assert "compress" in must(bare / "edgekit", "--help")


@pytest.mark.parametrize("command", [["classify", "model.tflite", "picture.png"], ["bench", "model.onnx"]])
def test_command_says_what_to_install_when_no_extra_is_installed(
    bare: Path, model_dir: Path, command: list[str]
) -> None:
    done = run(bare / "edgekit", *command, cwd=model_dir)

    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "pip install" in done.stderr


def test_runtime_extra_brings_nothing_of_the_training_side(board: Path) -> None:
    listing = json.loads(must(board / "python", "-m", "pip", "list", "--format=json"))

    assert not TRAINING_SIDE & {distribution["name"].lower() for distribution in listing}


def test_every_device_side_module_imports_with_runtime_extra_alone(board: Path, tmp_path: Path) -> None:
    program = """
import importlib, pkgutil, sys
import edgekit.core, edgekit.runtime
packages = (edgekit.core, edgekit.runtime)
names = [found.name for p in packages for found in pkgutil.walk_packages(p.__path__, p.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(len(names), *sorted({"torch", "onnx", "tensorflow"} & set(sys.modules)))
"""

    num_modules, *heavy = must(board / "python", "-c", program, cwd=tmp_path).split()

    assert int(num_modules) > 20
    assert heavy == []


@pytest.mark.parametrize("file", ["model.tflite", "model.onnx"])
def test_classify_works_with_runtime_extra_alone(board: Path, model_dir: Path, file: str) -> None:
    answer = must(board / "edgekit", "classify", file, "picture.png", cwd=model_dir)

    assert any(label in answer for label in ("ant", "bee", "cat"))


@pytest.mark.parametrize("name", ["int8.tflite", "int8.onnx"])
def test_search_works_with_runtime_extra_alone(board: Path, name: str, tmp_path: Path) -> None:
    model = write_extractors(tmp_path / "models")[name]
    write_pictures(tmp_path / "pictures", 3)
    arguments = ("search", "pictures", "--like", "pictures/0001.png", "--model", model, "--index", "index", "--json")

    first, second = (json.loads(must(board / "edgekit", *arguments, cwd=tmp_path)) for _ in range(2))

    assert first["matches"][0] == {"path": "pictures/0001.png", "similarity": 1.0}
    assert (first["num_described"], second["num_described"]) == (3, 0)


@pytest.mark.parametrize("file", ["model.tflite", "model.onnx"])
def test_bench_works_with_runtime_extra_alone(board: Path, model_dir: Path, file: str) -> None:
    document = json.loads(must(board / "edgekit", "bench", file, "--json", cwd=model_dir))

    assert "p50_ms" in json.dumps(document)


def test_resources_are_found_when_installed_from_wheel(bare: Path, tmp_path: Path) -> None:
    program = "from edgekit.core.resources import find_resource_dir as f; print(f('recipes').parent.name)"

    assert must(bare / "python", "-c", program, cwd=tmp_path).strip() == "edgekit"
