"""Folders of real pictures, good and bad."""

from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from camera_waits import running, take, take_until
from edgekit.agent.camera import CameraRequest, parse_camera


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of different sizes and formats, in a folder and one below."""
    (tmp_path / "b").mkdir()
    cv2.imwrite(str(tmp_path / "a1.png"), np.full((20, 30, 3), (1, 2, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "a2.PNG"), np.full((10, 10), 77, np.uint8))
    cv2.imwrite(str(tmp_path / "b" / "c.bmp"), np.full((5, 40, 3), (9, 8, 7), np.uint8))
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    return tmp_path


def open_folder(folder: Path, **changes: object) -> CameraRequest:
    return msgspec.structs.replace(parse_camera(str(folder)), paced=False, **changes)


def test_pictures_come_in_order_and_then_it_is_over(folder: Path) -> None:
    with running(open_folder(folder)) as supervisor:
        frames = []
        for _ in range(3):
            frame = take(supervisor)
            frames.append((frame.picture.shape, frame.picture[0, 0].tolist(), frame.color_order))
        assert supervisor.take(30.0) is None
        assert supervisor.status().state == "ended"

    assert frames == [((20, 30, 3), [3, 2, 1], "rgb"), ((10, 10, 1), [77], "gray"), ((5, 40, 3), [7, 8, 9], "rgb")]


def test_unreadable_pictures_are_skipped(folder: Path) -> None:
    for number in range(20):
        (folder / f"a1_{number}.jpg").write_bytes(b"" if number % 2 else b"\xff\xd8\xff\xe0 and nothing more")

    with running(open_folder(folder)) as supervisor:
        shapes = [take(supervisor).picture.shape for _ in range(3)]
        assert supervisor.take(30.0) is None
        status = supervisor.status()

    assert shapes == [(20, 30, 3), (10, 10, 1), (5, 40, 3)]
    assert (status.state, status.num_grabbed, status.num_dropped) == ("ended", 23, 20)


def test_folder_begins_again_in_a_loop(folder: Path) -> None:
    with running(open_folder(folder, loop=True)) as supervisor:
        shapes = [take(supervisor).picture.shape for _ in range(7)]

    assert shapes[:3] == shapes[3:6]
    assert shapes[6] == shapes[0]


def test_folder_of_bad_pictures_alone_is_lost_in_a_loop(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with running(open_folder(tmp_path, loop=True)) as supervisor:
        take_until(supervisor, lambda: "can be read" in supervisor.status().detail, "it is told")
        assert supervisor.status().state == "lost"


def test_pictures_come_at_the_pace_that_is_asked_for(folder: Path) -> None:
    request = CameraRequest(kind="image_folder", source=str(folder), fps=20.0, loop=True)
    with running(request) as supervisor:
        frames = [take(supervisor) for _ in range(4)]
        status = supervisor.status()

    for frame in frames:
        due_ns = (frame.sequence - frames[0].sequence) * 50_000_000
        assert frame.captured_ns - frames[0].captured_ns == pytest.approx(due_ns, abs=10)
    assert status.declared_fps == 20.0
    assert status.state == "streaming"
