"""Size gate and name gate: the house rules that no linter knows.

Modules stay under 400 lines, functions under 60 (the docstring is not counted: documentation must not cost), and
nothing is called utils, helpers or the like. The number of parameters is ruff's to count (PLR0913).

Prints one `path:line: what` per offender; exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60

# A name says what a thing is or does. These say nothing, wherever they stand in a name ...
EMPTY_WORDS = frozenset({"common", "helper", "helpers", "manager", "misc", "util", "utils"})
# ... and these say nothing when they stand alone.
EMPTY_NAMES = frozenset({"data", "handle", "info", "process"})
# The package that holds the datasets may be called so, and so may its command; tests mirror it.
ALLOWED_PATHS = ("edgekit/data", "edgekit/cli/data.py", "tests/data")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def main(arguments: list[str] | None = None) -> int:
    """Check the given files and folders, print the offenders, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="Python files, or folders of them")
    paths: list[Path] = parser.parse_args(arguments).paths
    missing = [path for path in paths if not path.exists()]
    if missing:
        parser.error(f"no such file or folder: {', '.join(map(str, missing))}")
    offences = [offence for path in _python_files(paths) for offence in check_module(path)]
    for offence in offences:
        print(offence)
    return 1 if offences else 0


def check_module(path: Path) -> list[str]:
    """Offences of one file, each as `path:line: what`, in the order of the rules."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source, filename=str(path))
    found = [(1, offence) for offence in _check_module_name(path)]
    num_lines = len(source.splitlines())
    if num_lines > MAX_MODULE_LINES:
        found.append((1, f"module has {num_lines} lines, at most {MAX_MODULE_LINES}"))
    for node in ast.walk(tree):
        if isinstance(node, FunctionNode):
            length = count_lines(node)
            if length > MAX_FUNCTION_LINES:
                found.append((node.lineno, f"function {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}"))
        if isinstance(node, FunctionNode | ast.ClassDef) and is_empty_name(node.name):
            found.append((node.lineno, f"{node.name} says nothing; name what it is or does"))
    return [f"{path}:{line}: {offence}" for line, offence in found]


def count_lines(function: FunctionNode) -> int:
    """Lines from `def` to the end, without decorators and without the docstring."""
    end = function.end_lineno or function.lineno
    num_lines = end - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        num_lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return num_lines


def is_empty_name(name: str) -> bool:
    """Whether a name in snake_case or CamelCase is one of those that say nothing.

    >>> is_empty_name("data_utils"), is_empty_name("ModelManager"), is_empty_name("process")
    (True, True, True)
    >>> is_empty_name("process_pictures"), is_empty_name("data_inputs"), is_empty_name("informed")
    (False, False, False)
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)]
    return bool(EMPTY_WORDS.intersection(words)) or "_".join(words) in EMPTY_NAMES


def _check_module_name(path: Path) -> Iterator[str]:
    for name, place in ((path.stem, path), (path.parent.name, path.parent)):
        allowed = any(place.as_posix().endswith(allowed_path) for allowed_path in ALLOWED_PATHS)
        if is_empty_name(name) and not allowed:
            yield f"{name} says nothing; name the module after its content"


def _python_files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


if __name__ == "__main__":
    sys.exit(main())
