"""This very edgekit as a wheel, so that a board runs what its user runs, whether or not an index has that version.

A wheel is a zip archive with three text files beside the package (PyPA binary distribution format 1.0). The same files
make the same bytes, and a hash of them names the environment on the board: the same code is never sent twice.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from edgekit import __version__
from edgekit.core.errors import MissingDependencyError

RUNTIME_DISTRIBUTIONS = ("ai-edge-litert", "onnxruntime", "tflite-runtime")
"""Of these a board gets the one that its bundle runs with."""

_PACKAGE_DIR = Path(__file__).resolve().parents[2]
_RESOURCES = ("devices", "recipes")
_LEFT_OUT = ("__pycache__", ".pyc", ".safetensors", ".npz")
"""Caches, and what only training reads: embedded weights and pictures, two thirds of the wheel."""
_DATE = (1980, 1, 1, 0, 0, 0)
_TAG = "py3-none-any"


class OwnWheel(msgspec.Struct, frozen=True, kw_only=True):
    """What a board gets of edgekit.

    Args:
        files: Path in the wheel and content of each file of the package.
        requires: Of the package itself, as pip wants them.
        agent_requires: Of the extra `agent` with all that it draws in, without the runtimes.
        digest: Of all of that, lower-case hex.
    """

    files: tuple[tuple[str, bytes], ...]
    requires: tuple[str, ...]
    agent_requires: tuple[str, ...]
    digest: str

    @property
    def name(self) -> str:
        """File name."""
        return f"edgekit-{__version__}-{_TAG}.whl"


def read_own_wheel(extra: str = "agent") -> OwnWheel:
    """Gather this edgekit: of a checkout, or as it is installed.

    Raises:
        MissingDependencyError: What it requires cannot be told: a broken installation.
    """
    files = tuple(sorted(_package_files().items()))
    requires, extras = _requirements()
    wanted = tuple(sorted(name for name in _extra(extras, extra) if not name.startswith(RUNTIME_DISTRIBUTIONS)))
    digest = hashlib.sha256()
    for name, content in (*files, *((requirement, b"") for requirement in (*requires, "", *wanted))):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return OwnWheel(files=files, requires=requires, agent_requires=wanted, digest=digest.hexdigest())


def encode_wheel(wheel: OwnWheel) -> bytes:
    """The bytes of the `.whl` file."""
    info = f"edgekit-{__version__}.dist-info"
    requires = "".join(f"Requires-Dist: {requirement}\n" for requirement in wheel.requires)
    about = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: edgekit\nVersion: {__version__}\n"
        f"Requires-Python: >=3.10\n{requires}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: edgekit {__version__}\nRoot-Is-Purelib: true\nTag: {_TAG}\n",
        f"{info}/entry_points.txt": "[console_scripts]\nedgekit = edgekit.cli.main:main\n",
    }
    files = (*wheel.files, *((name, text.encode()) for name, text in about.items()))
    record = "".join(f"{name},sha256={_record_hash(content)},{len(content)}\n" for name, content in files)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (*files, (f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode())):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            archive.writestr(entry, content)
    return stream.getvalue()


def _package_files() -> dict[str, bytes]:
    """Every file of the package, with boards and recipes inside it as a wheel has them."""
    folders = [(_PACKAGE_DIR, "edgekit")]
    folders += [(_PACKAGE_DIR.parent / name, f"edgekit/{name}") for name in _RESOURCES if not _has(name)]
    return {
        f"{target}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for folder, target in folders
        for path in folder.rglob("*")
        if path.is_file() and not any(part.endswith(_LEFT_OUT) for part in path.parts)
    }


def _has(name: str) -> bool:
    """Whether resources lie inside the package: it is installed, not a checkout."""
    return (_PACKAGE_DIR / name).is_dir()


def _requirements() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """What edgekit requires, and what each extra does; a checkout's pyproject.toml is newer than what was installed."""
    project_path = _PACKAGE_DIR.parent / "pyproject.toml"
    if not _has(_RESOURCES[0]) and project_path.is_file():
        project: dict[str, Any] = msgspec.toml.decode(project_path.read_bytes())["project"]
        extras = {name: tuple(lines) for name, lines in project["optional-dependencies"].items()}
        return tuple(project["dependencies"]), extras
    try:
        lines = metadata.requires("edgekit") or []
    except metadata.PackageNotFoundError as error:
        raise MissingDependencyError(
            "edgekit is not installed as a package", hint="pip install edgekit[flash]"
        ) from error
    plain: list[str] = []
    extras_found: dict[str, list[str]] = {}
    for line in lines:
        requirement, marker, name = line.partition("; extra == ")
        if not marker:
            plain.append(line)
        else:
            extras_found.setdefault(name.strip("'\" "), []).append(requirement.strip())
    return tuple(plain), {name: tuple(found) for name, found in extras_found.items()}


def _extra(extras: dict[str, tuple[str, ...]], name: str) -> set[str]:
    """All requirements of an extra; "edgekit[other]" among them stands for those of another one."""
    found: set[str] = set()
    for requirement in extras.get(name, ()):
        if requirement.startswith("edgekit["):
            for other in requirement.removeprefix("edgekit[").rstrip("]").split(","):
                found |= _extra(extras, other.strip())
        else:
            found.add(requirement)
    return found


def _record_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
