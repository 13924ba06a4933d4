"""Emulated boards, one at a time. Their images are made by tools/emulated_device, not here: that takes minutes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from emulated_device.board import Board
from emulated_device.guest import Guest
from emulated_device.places import default_folder

# Now, before the tests get user folders of their own.
_IMAGES = default_folder()


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """An emulated machine with a camera, fresh from its snapshot, with the working tree in it."""
    machine = Guest(_IMAGES / "guest")
    if machine.obstacle is not None:
        pytest.skip(machine.obstacle)
    try:
        machine.boot()
        machine.remote.copy_tree(("edgekit", "devices", "tests/board"))
        yield machine
    finally:
        machine.stop()


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    """A board of namespaces, as new, with the working tree on it."""
    device = Board(_IMAGES / "board")
    if device.obstacle is not None:
        pytest.skip(device.obstacle)
    try:
        device.reset()
        device.up()
        device.remote.copy_tree(("edgekit", "devices", "tests/board"))
        yield device
    finally:
        device.down()
