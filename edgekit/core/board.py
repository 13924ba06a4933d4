"""Boards: what a measurement was made on. One TOML file each in devices/, whose name is the id."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from edgekit.core.errors import IntegrityError, UnknownNameError
from edgekit.core.resources import find_resource_dir

HOST_BOARD = "host_cpu"
"""The board for every machine that no file describes."""


class SystemRelease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operating system that a board runs, and what of the runtimes can be had for it.

    Args:
        name: For people: "Raspberry Pi OS 12 (bookworm), 64 bit".
        python: Its own Python, "3.11".
        needs_python: The Python to install beside it, where its own is too old for edgekit; None where it is not.
        runtimes: Newest version of each runtime whose wheel exists for this Python and processor.
    """

    name: str
    python: str
    needs_python: str | None = None
    runtimes: dict[str, str] = {}


class CameraDefaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The camera that such a board usually has.

    Args:
        kind: Name in the catalogue of cameras.
        source: As that kind wants it.
        width: Pixels to ask for.
        height: Pixels to ask for.
        fps: Frames per second to ask for.
    """

    kind: str
    source: str
    width: int
    height: int
    fps: float


class FactSources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a board tells about itself. Names are shell patterns; paths begin at the root of the file system.

    Args:
        thermal_zones: Types of the thermal zones that count for its temperature; the hottest does.
        hwmon_temperatures: Names of the hwmon chips whose temperatures count.
        throttled_words: Files that hold the firmware's `get_throttled` word, hexadecimal (Raspberry Pi). The first
            that can be read is.
        vcgencmd: Whether to ask `vcgencmd get_throttled` where no such file can be read.
        low_voltage_alarms: Names of the hwmon chips whose `in0_lcrit_alarm` says that the voltage is too low; read
            where the firmware's word cannot be.
        throttling_devices: Types of the cooling devices that slow the processor down (a fan does not).
        event_counters: Names of the hwmon chips that count events of low voltage and over-current (`oc*_event_cnt`).
        power_monitors: Folders of INA3221 power monitors.
    """

    thermal_zones: tuple[str, ...] = ()
    hwmon_temperatures: tuple[str, ...] = ()
    throttled_words: tuple[str, ...] = ()
    vcgencmd: bool = False
    low_voltage_alarms: tuple[str, ...] = ()
    throttling_devices: tuple[str, ...] = ()
    event_counters: tuple[str, ...] = ()
    power_monitors: tuple[str, ...] = ()


class BoardFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a board's TOML file.

    Args:
        title: Name for people.
        device_tree_models: Beginnings of /sys/firmware/devicetree/base/model that tell the board.
        arch: What `uname -m` says on a 64-bit system; None where it may be any.
        cores: Processor cores; None where they vary.
        memory_mib: Of the smallest one sold, which is what a model has to fit; None where it varies.
        systems: Operating systems, the one to take first.
        camera: The usual camera; None where there is no usual one.
        facts: Where it tells its temperature, throttling and power.
    """

    title: str
    device_tree_models: tuple[str, ...] = ()
    arch: Literal["aarch64", "x86_64"] | None = None
    cores: int | None = None
    memory_mib: int | None = None
    systems: tuple[SystemRelease, ...] = ()
    camera: CameraDefaults | None = None
    facts: FactSources = FactSources()


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """One board.

    Args:
        name: Its id, the file name without .toml.
        facts: What the file says.
    """

    name: str
    facts: BoardFacts


def list_boards(folder: Path | None = None) -> tuple[str, ...]:
    """Names of all boards, sorted; `folder` None for edgekit's own."""
    return tuple(sorted(path.stem for path in (folder or find_resource_dir("devices")).glob("*.toml")))


def load_board(name: str, folder: Path | None = None) -> Board:
    """Read one board; `folder` None for edgekit's own.

    Raises:
        UnknownNameError: No file of that name.
        IntegrityError: The file is no valid TOML, or has unknown, missing or mistyped keys.
    """
    names = list_boards(folder)
    if name not in names:
        raise UnknownNameError("board", name, names)
    path = (folder or find_resource_dir("devices")) / f"{name}.toml"
    try:
        facts = msgspec.toml.decode(path.read_bytes(), type=BoardFacts)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"board file {path}: {error}") from error
    return Board(name=name, facts=facts)


def match_board(model: str, boards: tuple[Board, ...]) -> str:
    """Name of the board whose model name the given one begins with, the longest match; the host's when none does.

    >>> pi = Board(name="pi", facts=BoardFacts(title="Pi", device_tree_models=("Raspberry Pi 4",)))
    >>> match_board("Raspberry Pi 4 Model B Rev 1.4", (pi,)), match_board("Some PC", (pi,))
    ('pi', 'host_cpu')
    """
    matches = [
        (len(prefix), board.name)
        for board in boards
        for prefix in board.facts.device_tree_models
        if model.startswith(prefix)
    ]
    return max(matches)[1] if matches else HOST_BOARD
