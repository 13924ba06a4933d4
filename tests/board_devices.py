"""Emulated boards for tests, one at a time. tools/emulated_device makes their images: that takes minutes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from emulated_device.board import Board
from emulated_device.guest import Guest
from emulated_device.places import default_folder

# Now, before the tests get user folders of their own.
_IMAGES = default_folder()
_FOLDERS = ("edgekit", "devices", "tests/board")


@contextmanager
def running_guest() -> Iterator[Guest]:
    """An emulated machine with a camera, fresh from its snapshot, with the working tree in it."""
    machine = Guest(_IMAGES / "guest")
    if machine.obstacle is not None:
        pytest.skip(machine.obstacle)
    try:
        machine.boot()
        machine.remote.copy_tree(_FOLDERS)
        yield machine
    finally:
        machine.stop()


@contextmanager
def running_board() -> Iterator[Board]:
    """A board of namespaces, as new, with the working tree on it."""
    with fresh_board() as device:
        device.remote.copy_tree(_FOLDERS)
        yield device


@contextmanager
def fresh_board() -> Iterator[Board]:
    """A board of namespaces, as new."""
    device = Board(_IMAGES / "board")
    if device.obstacle is not None:
        pytest.skip(device.obstacle)
    try:
        device.reset()
        device.up()
        yield device
    finally:
        device.down()
