"""What a board told about itself: gathered in one remote command by `facts.sh`, read here, judged in `plan`."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.errors import BoardError

FACTS_SCRIPT = Path(__file__).with_name("facts.sh")

Privilege: TypeAlias = Literal["root", "free", "password", "locked", "none"]
"""How root is reached: logged in as root, by sudo, by sudo with the password that let us in; `locked`: sudo wants a
password that we do not have; `none`: there is no sudo."""

_NARROW = {"aarch64": "armv7l", "x86_64": "i686"}


class PythonFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A Python on the board.

    Args:
        path: Program.
        version: (major, minor).
        has_venv: Whether it can make an environment with pip in it.
        numpy: Version of the system's numpy; None without one.
    """

    path: str
    version: tuple[int, int]
    has_venv: bool
    numpy: str | None


class BoardFound(msgspec.Struct, frozen=True, kw_only=True):
    """A board as it was found. None stands for what it did not tell.

    Args:
        privilege: How root is reached.
        system: "Linux".
        architecture: Of its programs: "aarch64", or "armv7l" for a 32-bit system on a 64-bit kernel.
        hostname: Its name.
        clock_unix_s: Its clock.
        os: Name of its operating system, for people.
        model: Of its device tree; "" where there is none.
        memory_mib: In all.
        free_memory_mib: That can be had without swapping.
        free_opt_mib: Disk for programs.
        free_state_mib: Disk for bundles.
        glibc: (major, minor); None for another C library.
        libraries: Of those that OpenCV and the runtimes need, the ones that are there.
        has_systemd: Whether systemd runs it.
        pythons: Newest first.
        has_user: Whether the service's user exists.
        environment: Name of the environment that serves; None for none, or one without the program.
        edgekit: Version in it.
        digest: Of the bundle that serves, as its manifest hashes to now; None for none.
        root_sha256: Of the pinned root of trust.
        unit_sha256: Of the unit file.
        update_sha256: Of the files of the update's service and of its timer.
        has_timer: Whether the update's timer starts with the board.
        has_avahi: Whether services can be announced.
        announcement_sha256: Of what is announced of edgekit.
        config: Text of agent.toml.
        unstarted: Units that a flash changed and did not start again, because it broke off.
        is_enabled: Whether the unit starts with the board.
        active: What systemd calls the unit's state: "active", "activating", "failed", "inactive".
    """

    privilege: Privilege
    system: str
    architecture: str
    hostname: str
    clock_unix_s: int
    os: str = ""
    model: str = ""
    memory_mib: float | None = None
    free_memory_mib: float | None = None
    free_opt_mib: float | None = None
    free_state_mib: float | None = None
    glibc: tuple[int, int] | None = None
    libraries: tuple[str, ...] = ()
    has_systemd: bool = False
    pythons: tuple[PythonFacts, ...] = ()
    has_user: bool = False
    environment: str | None = None
    edgekit: str | None = None
    digest: str | None = None
    root_sha256: str | None = None
    unit_sha256: str | None = None
    update_sha256: tuple[str | None, str | None] = (None, None)
    has_timer: bool = False
    has_avahi: bool = False
    announcement_sha256: str | None = None
    config: str | None = None
    unstarted: tuple[str, ...] = ()
    is_enabled: bool = False
    active: str = "inactive"


def parse_facts(text: str) -> BoardFound:
    """Read what `facts.sh` printed.

    Raises:
        BoardError: It is not that: no Unix shell there, a login script that prints, a cut connection.
    """
    told: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, tab, value = line.partition("\t")
        if tab:
            told.setdefault(key.strip(), []).append(value.strip())
    one = {key: values[-1] for key, values in told.items()}
    if one.get("format") != "1" or one.get("end") != "yes" or not _is_privilege(one.get("privilege")):
        raise BoardError(
            f"the board did not tell about itself, it said {text.strip()[:120]!a}", hint="is there a Unix shell?"
        )
    current = one.get("current") or ""
    return BoardFound(
        privilege=one["privilege"],  # pyright: ignore[reportArgumentType] - checked above
        system=one.get("system", ""),
        architecture=_architecture(one.get("machine", ""), one.get("bits", "")),
        hostname=one.get("host", ""),
        clock_unix_s=int(_number(one.get("clock")) or 0),
        os=one.get("os", ""),
        model=one.get("model", ""),
        memory_mib=_mib(one.get("memory_kib")),
        free_memory_mib=_mib(one.get("free_memory_kib")),
        free_opt_mib=_number(one.get("free_opt_mib")),
        free_state_mib=_number(one.get("free_state_mib")),
        glibc=_version(one.get("glibc", "").removeprefix("glibc ")),
        libraries=tuple(told.get("library", ())),
        has_systemd=one.get("systemd") == "yes",
        pythons=_pythons(told.get("python", [])),
        has_user=bool(one.get("user")),
        environment=(one.get("environment") or None) if one.get("program") == "yes" else None,
        edgekit=one.get("edgekit") or None,
        digest=(one.get("manifest") or None) if current else None,
        root_sha256=one.get("root_json") or None,
        unit_sha256=one.get("unit") or None,
        update_sha256=(one.get("update_service") or None, one.get("update_timer") or None),
        has_timer=one.get("timer") == "enabled",
        has_avahi=one.get("avahi") == "yes",
        announcement_sha256=one.get("announcement") or None,
        config=_text(one.get("config")),
        unstarted=tuple(told.get("unstarted", ())),
        is_enabled=one.get("UnitFileState") == "enabled",
        active=one.get("ActiveState") or "inactive",
    )


def _is_privilege(word: str | None) -> bool:
    return word in ("root", "free", "password", "locked", "none")


def _architecture(machine: str, bits: str) -> str:
    return _NARROW.get(machine, machine) if bits == "32" else machine


def _pythons(lines: list[str]) -> tuple[PythonFacts, ...]:
    found: list[PythonFacts] = []
    for line in lines:
        words = line.split()
        version = _version(words[1]) if len(words) == 4 else None
        if version is not None:
            numpy = None if words[3] == "-" else words[3]
            found.append(PythonFacts(path=words[0], version=version, has_venv=words[2] == "venv", numpy=numpy))
    return tuple(sorted(found, key=lambda one: one.version, reverse=True))


def _version(text: str) -> tuple[int, int] | None:
    match = re.match(r"(\d{1,4})\.(\d{1,4})", text)
    return None if match is None else (int(match[1]), int(match[2]))


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,15}", text) else None


def _mib(kib: str | None) -> float | None:
    number = _number(kib)
    return None if number is None else number / 1024


def _text(content: str | None) -> str | None:
    try:
        return None if not content else base64.b64decode(content, validate=True).decode("utf-8", errors="replace")
    except (ValueError, binascii.Error):
        return None
