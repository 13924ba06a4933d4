"""Whether a bundle belongs on a board: a pure function of the manifest and the board's facts."""

from __future__ import annotations

import re

import msgspec

from edgekit.bundle.manifest import Manifest


class DeviceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found on a board. None stands for what could not be told, which refuses nothing.

    Args:
        board: Board id.
        architecture: As `uname -m` says.
        python: (major, minor).
        runtimes: (name, version) of those installed.
        free_ram_mib: Memory that can be had without swapping.
        free_disk_mib: Disk where the bundle goes.
    """

    board: str
    architecture: str | None = None
    python: tuple[int, int] | None = None
    runtimes: tuple[tuple[str, str], ...] | None = None
    free_ram_mib: float | None = None
    free_disk_mib: float | None = None


def incompatibilities(manifest: Manifest, facts: DeviceFacts) -> tuple[str, ...]:
    """Why a bundle does not fit a board: one line each, none when it fits."""
    compatible, needs = manifest.compatible, manifest.needs
    reasons: list[str] = []
    if facts.board not in compatible.boards:
        reasons.append(f"it is for {', '.join(compatible.boards)}; this is {facts.board}")
    if compatible.architectures and facts.architecture not in (None, *compatible.architectures):
        reasons.append(f"it is for {', '.join(compatible.architectures)}; this is {facts.architecture}")
    if facts.python is not None and facts.python < compatible.python_at_least:
        needed, found = (".".join(map(str, version)) for version in (compatible.python_at_least, facts.python))
        reasons.append(f"it needs Python {needed}; here is {found}")
    if facts.runtimes is not None and not _has_runtime(manifest, facts.runtimes):
        needed = " or ".join(f"{need.name} {need.at_least}" for need in compatible.runtimes)
        found = ", ".join(f"{name} {version}" for name, version in facts.runtimes) or "none"
        reasons.append(f"it needs {needed}; here is {found}")
    for what, needed, free in (
        ("memory", needs.ram_mib, facts.free_ram_mib),
        ("disk", needs.disk_mib, facts.free_disk_mib),
    ):
        if free is not None and free < needed:
            reasons.append(f"it needs {needed} MiB of {what}; free are {free:.0f} MiB")
    return tuple(reasons)


def version_key(version: str) -> tuple[int, ...]:
    """Numbers at a version's beginning, to compare: what follows them (rc1, +local) does not count.

    >>> version_key("2.10.0rc1") > version_key("2.9")
    True
    >>> version_key("2.0") == version_key("2.0.0")
    True
    """
    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    numbers = [int(number) for number in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _has_runtime(manifest: Manifest, installed: tuple[tuple[str, str], ...]) -> bool:
    return any(
        name == need.name and version_key(version) >= version_key(need.at_least)
        for need in manifest.compatible.runtimes
        for name, version in installed
    )
