"""Every `>>>` in a docstring is executed. Modules are found by their text, so nothing is imported without need."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def files_with_examples() -> list[str]:
    """Paths, relative to the repository, of the files that hold a doctest."""
    files = [path for folder in ("edgekit", "tools") for path in (REPOSITORY / folder).rglob("*.py")]
    return sorted(
        path.relative_to(REPOSITORY).as_posix() for path in files if ">>> " in path.read_text(encoding="utf-8")
    )


def load(file: str) -> ModuleType:
    """Import a module of the package by name, a script of tools/ by path."""
    if file.startswith("edgekit/"):
        return importlib.import_module(file.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    spec = importlib.util.spec_from_file_location(Path(file).stem, REPOSITORY / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", files_with_examples())
def test_docstring_examples_hold(file: str) -> None:
    results = doctest.testmod(load(file), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)

    assert results.attempted > 0, "there is a >>> that doctest does not see (in a comment, or in a nested function)"
    assert results.failed == 0
