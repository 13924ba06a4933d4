"""Boards: what a measurement was made on. One TOML file each in devices/, whose name is the id."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.errors import IntegrityError, UnknownNameError
from edgekit.core.resources import find_resource_dir

HOST_BOARD = "host_cpu"
"""The board for every machine that no file describes."""


class BoardFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a board's TOML file.

    Args:
        title: Name for people.
        device_tree_models: Beginnings of /sys/firmware/devicetree/base/model that tell the board.
    """

    title: str
    device_tree_models: tuple[str, ...] = ()


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
