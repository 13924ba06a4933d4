"""Wheels with nothing in them, for boards of tests."""

from __future__ import annotations

import zipfile
from pathlib import Path


def write_wheel(
    folder: Path, name: str, version: str, tag: str = "py3-none-any", requires: tuple[str, ...] = ()
) -> Path:
    """Write a wheel that pip installs, and that holds no module."""
    word = name.replace("-", "_")
    info = f"{word}-{version}.dist-info"
    lines = "".join(f"Requires-Dist: {line}\n" for line in requires)
    path = folder / f"{word}-{version}-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def write_wheelhouse(folder: Path) -> Path:
    """Write a wheel for everything that the agent requires; there is nothing in them."""
    from edgekit.deploy.ssh.own_wheel import read_own_wheel
    from edgekit.deploy.wheelhouse import normalize

    own = read_own_wheel()
    versions = {"ai-edge-litert": "2.3.0"}
    for requirement in (*own.requires, *own.agent_requires, "ai-edge-litert"):
        name = normalize(requirement)
        lowest = requirement.partition(">=")[2].split(",")[0].split(";")[0].strip()
        write_wheel(folder, name, versions.get(name, lowest))
    return folder
