"""Wheels that are carried to a board without network: which of a folder's fit it, and whether they are enough."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgekit.bundle.compatibility import version_key
from edgekit.core.errors import UsageError

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

    def fits(self, architecture: str, python: tuple[int, int], glibc: tuple[int, int] | None) -> bool:
        """Whether a board can install it."""
        own = f"cp{python[0]}{python[1]}"
        is_stable = "abi3" in self.abis and any(_is_older(tag, python) for tag in self.pythons)
        has_python = is_stable or own in self.pythons or bool({"py3", "py2.py3"} & set(self.pythons))
        return has_python and any(_has_platform(tag, architecture, glibc) for tag in self.platforms)


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


def _is_older(tag: str, python: tuple[int, int]) -> bool:
    match = re.fullmatch(r"cp3(\d{1,2})", tag)
    return match is not None and (3, int(match[1])) <= python


def _has_platform(tag: str, architecture: str, glibc: tuple[int, int] | None) -> bool:
    if tag == "any":
        return True
    if not tag.endswith(f"_{architecture}"):
        return False
    match = re.match(r"manylinux_(\d+)_(\d+)_", tag)
    needed = (int(match[1]), int(match[2])) if match else (2, 17)
    return tag.startswith(("manylinux", "linux")) and (glibc is None or needed <= glibc)
