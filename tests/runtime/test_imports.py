from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import edgekit.runtime

HEAVY = ("torch", "onnx", "onnxscript", "tensorflow", "jax", "sklearn", "scipy", "matplotlib", "safetensors")

MODULES = tuple(sorted(path.stem for path in Path(edgekit.runtime.__path__[0]).glob("*.py") if path.stem != "__init__"))


def heavy_modules_after(code: str, folder: Path) -> list[str]:
    """Heavy packages in sys.modules of a fresh process that ran some code."""
    report = f"import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.split()


def test_importing_the_runtime_imports_nothing_of_the_training_side(repository: Path) -> None:
    assert {"preprocess", "interpreter", "classify", "benchmark"} <= set(MODULES)
    imports = "\n".join(f"import edgekit.runtime.{module}" for module in MODULES)
    assert heavy_modules_after(imports, repository) == []


def test_classifying_imports_nothing_of_the_training_side(tiny_models: dict[str, Path], repository: Path) -> None:
    code = "import numpy\nfrom pathlib import Path\nfrom edgekit.runtime.classify import Classifier\n" + "\n".join(
        f"Classifier.open(Path({str(tiny_models[name])!r})).classify(numpy.zeros((9, 9, 3), numpy.uint8))"
        for name in ("float.onnx", "int8.tflite")
    )
    assert heavy_modules_after(code, repository) == []


def test_benchmarking_needs_no_opencv(repository: Path) -> None:
    code = "import sys\nsys.modules['cv2'] = None\nimport edgekit.runtime.benchmark, edgekit.runtime.probe"
    assert heavy_modules_after(code, repository) == []
