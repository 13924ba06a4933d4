"""The import contracts, broken on purpose to see that they bite, and what must stay light."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DEVICE_PACKAGES = ("core", "runtime", "retrieval", "encode", "bundle", "agent")
HEAVY = ("torch", "onnx", "tensorflow", "cv2", "onnxruntime", "ai_edge_litert", "matplotlib", "sklearn", "scipy")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package and of the linter's settings, free to be broken."""
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.npz")
    shutil.copytree(REPOSITORY / "edgekit", tmp_path / "edgekit", ignore=ignore)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the package in a folder."""
    program = Path(sys.executable).parent / "lint-imports"
    return subprocess.run([program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


def test_import_contracts_hold(tree: Path) -> None:
    done = lint_imports(tree)

    assert done.returncode == 0, done.stdout
    assert "2 kept, 0 broken" in done.stdout


def test_layers_contract_breaks_when_a_module_is_in_no_layer(tree: Path) -> None:
    (tree / "edgekit" / "utils.py").write_text("", encoding="utf-8")

    done = lint_imports(tree)

    assert done.returncode == 1
    assert "Imports go downward only BROKEN" in done.stdout
    assert "edgekit.utils" in done.stdout


@pytest.mark.parametrize(
    ("importer", "imported"),
    [("core/graph.py", "edgekit.runtime"), ("runtime/__init__.py", "edgekit.data"), ("data/source.py", "edgekit.cli")],
)
def test_layers_contract_breaks_when_an_import_goes_upward(tree: Path, importer: str, imported: str) -> None:
    with (tree / "edgekit" / importer).open("a", encoding="utf-8") as file:
        file.write(f"\nimport {imported}\n")

    done = lint_imports(tree)

    assert done.returncode == 1
    assert "Imports go downward only BROKEN" in done.stdout


@pytest.mark.parametrize("library", ["torch", "onnx", "tensorflow", "torch.nn"])
@pytest.mark.parametrize("package", ["core", "runtime"])
def test_device_contract_breaks_when_training_side_is_imported(tree: Path, package: str, library: str) -> None:
    source = f"def late() -> None:\n    import {library}\n\n    del {library.partition('.')[0]}\n"
    (tree / "edgekit" / package / "stray.py").write_text(source, encoding="utf-8")

    done = lint_imports(tree)

    assert done.returncode == 1
    assert "The device side never imports the training side BROKEN" in done.stdout
    assert f"edgekit.{package}.stray" in done.stdout


def test_device_contract_names_every_device_package_that_exists() -> None:
    settings = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    sources = settings.split("source_modules = [")[1].split("]")[0]

    for package in DEVICE_PACKAGES:
        if (REPOSITORY / "edgekit" / package / "__init__.py").is_file():
            assert f'"edgekit.{package}"' in sources


@pytest.mark.parametrize("statement", ["import edgekit", "import edgekit.cli.main"])
def test_import_is_light(statement: str) -> None:
    program = f"import sys; {statement}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
