"""The capture on arm64: a process of its own, shared memory and signals as the board's Python makes them."""

from __future__ import annotations

import pytest

from board_watch import Watch
from emulated_device.board import Board

pytestmark = [pytest.mark.board, pytest.mark.timeout(300)]

_WATCH = "exec python3 -u /opt/edgekit/tests/board/watch_camera.py"


def test_capture_streams_and_recovers_from_a_process_that_dies(board: Board) -> None:
    with Watch(board.remote, f"{_WATCH} synthetic:320x240@10,die_after=40") as watch:
        streaming = watch.until(lambda look: look["state"] == "streaming" and look["num_frames"] >= 5)
        watch.until(lambda look: look["state"] == "lost")
        recovered = watch.until(lambda look: look["num_lost"] == 1 and look["state"] == "streaming")
        end = watch.stop()

    assert streaming["frame"]["time_source"] == "painted"
    assert streaming["frame"]["size"] == [320, 240]
    assert recovered["pid"] == streaming["pid"]
    assert recovered["children"] != streaming["children"]
    assert all(look["rises"] for look in watch.looks if "rises" in look)
    assert end["stop_s"] < 10


def test_capture_kills_a_read_that_hangs(board: Board) -> None:
    with Watch(board.remote, f"{_WATCH} synthetic:320x240@10,hang_after=20") as watch:
        watch.until(lambda look: look["num_frames"] >= 5)
        lost = watch.until(lambda look: look["state"] == "lost")
        recovered = watch.until(lambda look: look["num_lost"] == 1 and look["state"] == "streaming")

    assert "no picture for" in lost["detail"]
    assert recovered["pid"] == lost["pid"]


def test_missing_camera_is_a_lost_one_and_says_which(board: Board) -> None:
    with Watch(board.remote, f"{_WATCH} /dev/video7") as watch:
        look = watch.until(lambda look: look["state"] == "lost")

    assert "/dev/video7" in look["detail"]
    assert look["num_grabbed"] == 0
