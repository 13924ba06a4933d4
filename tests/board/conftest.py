"""Emulated boards as fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from board_devices import running_board, running_guest
from emulated_device.board import Board
from emulated_device.guest import Guest


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """An emulated machine with a camera."""
    with running_guest() as machine:
        yield machine


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    """A board of namespaces."""
    with running_board() as device:
        yield device
