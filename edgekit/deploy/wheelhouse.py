"""Which runtime a board's Python can have, from an index or from carried wheels, and whether these suffice.

The same rules hold for a board that is flashed over SSH and for a card's image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgekit.bundle.compatibility import version_key
from edgekit.bundle.manifest import RuntimeNeed
from edgekit.core.board import Board
from edgekit.core.errors import UsageError

PYTHONS = ((3, 10), (3, 13))
"""Oldest and newest that edgekit runs with."""

_DISTRIBUTIONS = {"litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime", "onnxruntime": "onnxruntime"}
_NAME = re.compile(r"[A-Za-z0-9_.!+]+(-[A-Za-z0-9_.!+]+){4,5}\.whl")


class Wheel(msgspec.Struct, frozen=True, kw_only=True):
    """One wheel file.

    Args:
        path: On this machine.
        size_bytes: Its size.
        distribution: Name, normalized: "ai-edge-litert".
        version: Of it.
        pythons: "cp311", "py3", ...
        abis: "cp311", "abi3", "none", ...
        platforms: "any", "manylinux_2_27_aarch64", ...
    """

    path: Path
    size_bytes: int
    distribution: str
    version: str
    pythons: tuple[str, ...]
    abis: tuple[str, ...]
    platforms: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Of its content, lower-case hex; read when asked."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def fits(self, target: Target) -> bool:
        """Whether a board can install it."""
        own = f"cp{target.python[0]}{target.python[1]}"
        is_stable = "abi3" in self.abis and any(_is_older(tag, target.python) for tag in self.pythons)
        has_python = is_stable or own in self.pythons or bool({"py3", "py2.py3"} & set(self.pythons))
        return has_python and any(_has_platform(tag, target) for tag in self.platforms)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What wheels have to fit.

    Args:
        architecture: Of its programs: "aarch64".
        python: (major, minor).
        glibc: (major, minor); None where it is not known.
    """

    architecture: str
    python: tuple[int, int]
    glibc: tuple[int, int] | None

    @property
    def python_word(self) -> str:
        """Its Python as people write it: "3.11"."""
        return ".".join(map(str, self.python))


def read_wheelhouse(folder: Path) -> tuple[Wheel, ...]:
    """All wheels of a folder, by name.

    Raises:
        UsageError: No such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="pip download --only-binary=:all: -d DIR fills one")
    wheels = tuple(parse_wheel(path) for path in sorted(folder.glob("*.whl")) if _NAME.fullmatch(path.name))
    if not wheels:
        raise UsageError(f"{folder} holds no wheels", hint="pip download --only-binary=:all: -d DIR fills it")
    return wheels


def parse_wheel(path: Path) -> Wheel:
    """A wheel by its file name, "{name}-{version}(-{build})-{python}-{abi}-{platform}.whl"."""
    words = path.name.removesuffix(".whl").split("-")
    pythons, abis, platforms = (tuple(word.split(".")) for word in words[-3:])
    return Wheel(
        path=path,
        size_bytes=path.stat().st_size,
        distribution=normalize(words[0]),
        version=words[1],
        pythons=pythons,
        abis=abis,
        platforms=platforms,
    )


def normalize(name: str) -> str:
    """A distribution's name as it is compared (PEP 503); of a requirement, what stands before its conditions.

    >>> normalize("ai_edge_litert"), normalize("securesystemslib[crypto]>=1.2")
    ('ai-edge-litert', 'securesystemslib')
    """
    match = re.match(r"[A-Za-z0-9._-]+", name)
    return re.sub(r"[-_.]+", "-", match.group() if match else name).lower()


def lacking(wheels: Iterable[Wheel], requirements: Iterable[str], python: tuple[int, int]) -> tuple[str, ...]:
    """Requirements that no wheel of a folder meets, by name; versions are pip's to judge."""
    there = {wheel.distribution for wheel in wheels}
    applying = (line for line in requirements if not ("python_version < '3.11'" in line and python >= (3, 11)))
    return tuple(sorted({normalize(line) for line in applying} - there))


def newest(wheels: Iterable[Wheel], distribution: str, at_least: str) -> str | None:
    """Newest version of a distribution that is there and new enough; None when there is none."""
    versions = [wheel.version for wheel in wheels if wheel.distribution == distribution]
    fitting = [version for version in versions if version_key(version) >= version_key(at_least)]
    return max(fitting, key=version_key) if fitting else None


def fitting(wheels: Iterable[Wheel] | None, target: Target) -> tuple[Wheel, ...] | None:
    """Those that a board can install; None for None, when it asks its index."""
    return None if wheels is None else tuple(wheel for wheel in wheels if wheel.fits(target))


def choose_runtime(
    needs: Iterable[RuntimeNeed], board: Board, target: Target, wheels: tuple[Wheel, ...] | None
) -> str | None:
    """The first of a bundle's runtimes that a Python can have, as pip shall install it: "ai-edge-litert==2.3.0".

    Args:
        needs: Of the bundle, the preferred one first.
        board: Its file knows which versions there are for the Pythons of its systems.
        target: The Python.
        wheels: Carried along (`fitting`): then it is one of them; None: the board asks its index.

    Returns:
        A requirement; None when there is none.
    """
    for need in needs:
        distribution = _DISTRIBUTIONS.get(need.name)
        runtime = None if distribution is None else _runtime(distribution, need.at_least, (board, target), wheels)
        if runtime is not None:
            return runtime
    return None


def _runtime(
    distribution: str, at_least: str, place: tuple[Board, Target], wheels: tuple[Wheel, ...] | None
) -> str | None:
    board, target = place
    if wheels is not None:
        version = newest(wheels, distribution, at_least)
        return None if version is None else f"{distribution}=={version}"
    if not board.facts.systems:
        return f"{distribution}>={at_least}"
    for system in board.facts.systems:
        version = system.runtimes.get(distribution)
        has_python = target.python_word == (system.needs_python or system.python)
        if has_python and version is not None and version_key(version) >= version_key(at_least):
            return f"{distribution}=={version}"
    return None


def _is_older(tag: str, python: tuple[int, int]) -> bool:
    match = re.fullmatch(r"cp3(\d{1,2})", tag)
    return match is not None and (3, int(match[1])) <= python


def _has_platform(tag: str, target: Target) -> bool:
    if tag == "any":
        return True
    if not tag.endswith(f"_{target.architecture}"):
        return False
    match = re.match(r"manylinux_(\d+)_(\d+)_", tag)
    needed = (int(match[1]), int(match[2])) if match else (2, 17)
    return tag.startswith(("manylinux", "linux")) and (target.glibc is None or needed <= target.glibc)
