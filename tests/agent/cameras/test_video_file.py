"""Real video files, whole and broken."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from camera_waits import plain_room, running, take, take_until
from edgekit.agent.camera import CAMERAS, Camera, CameraLostError, CameraRequest, parse_camera
from edgekit.agent.capture.painted_time import paint_time, read_time

NUM_FRAMES = 12


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of MJPG at 20 fps with their number painted in."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (320, 240))
    for number in range(NUM_FRAMES):
        picture = np.full((240, 320, 3), 120, np.uint8)
        paint_time(picture, number)
        writer.write(picture)
    writer.release()
    return path


def test_every_frame_comes_once_in_order_and_then_it_is_over(video: Path) -> None:
    request = msgspec.structs.replace(parse_camera(str(video)), paced=False)
    with running(request) as supervisor:
        numbers = [read_time(take(supervisor).picture) for _ in range(NUM_FRAMES)]
        assert supervisor.take(30.0) is None
        status = supervisor.status()
        assert supervisor.take(30.0) is None
        assert supervisor.pids() == ()

    assert numbers == list(range(NUM_FRAMES))
    assert (status.state, status.num_grabbed, status.num_dropped) == ("ended", NUM_FRAMES, 0)
    assert (status.width, status.height, status.declared_fps) == (320, 240, 20.0)


def test_frames_are_due_at_the_pace_of_the_file(video: Path) -> None:
    with running(parse_camera(str(video))) as supervisor:
        frames = take_until(supervisor, lambda: supervisor.status().state == "ended", "the end")

    first = frames[0]
    for frame in frames:
        due_ns = (frame.sequence - first.sequence) * 50_000_000
        assert frame.captured_ns - first.captured_ns == pytest.approx(due_ns, abs=10)


def test_file_begins_again_in_a_loop(video: Path) -> None:
    request = msgspec.structs.replace(parse_camera(str(video)), paced=False, loop=True)
    with running(request) as supervisor:
        numbers = [read_time(take(supervisor).picture) for _ in range(2 * NUM_FRAMES + 3)]
        sequence = take(supervisor).sequence

    assert numbers == [*range(NUM_FRAMES), *range(NUM_FRAMES), 0, 1, 2]
    assert sequence == 2 * NUM_FRAMES + 3


def test_own_pace_may_be_asked_for(video: Path) -> None:
    request = CameraRequest(kind="video_file", source=str(video), fps=200.0)
    camera = CAMERAS.load("video_file").open(request)
    began = time.monotonic_ns()
    grabs = [camera.grab() for _ in range(3)]
    camera.close()

    assert camera.facts.fps == 200.0
    assert grabs[2] is not None
    assert grabs[2].captured_ns - began >= 5_000_000


def test_truncated_file_gives_what_is_whole(video: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.avi"
    content = video.read_bytes()
    broken.write_bytes(content[: len(content) * 2 // 3])
    camera = CAMERAS.load("video_file").open(CameraRequest(kind="video_file", source=str(broken), paced=False))
    numbers: list[int | None] = []
    while camera.grab() is not None:
        numbers.append(read_time(camera.retrieve(plain_room).picture))
    camera.close()

    assert 0 < len(numbers) < NUM_FRAMES
    assert numbers[:3] == [0, 1, 2]


def drain(camera: Camera) -> int:
    """Number of frames to the end, or to the end of patience."""
    count = 0
    while count < 3 * NUM_FRAMES and camera.grab() is not None:
        count += 1
    return count


def read_to_the_end(request: CameraRequest) -> int:
    camera = CAMERAS.load("video_file").open(request)
    try:
        return drain(camera)
    finally:
        camera.close()


@pytest.mark.parametrize("content", [b"", b"no video at all", b"RIFF\xff\xff\xff\xffAVI LIST"])
def test_file_that_is_no_video_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.avi"
    path.write_bytes(content)
    with pytest.raises(CameraLostError, match=r"no video|no frame"):
        read_to_the_end(CameraRequest(kind="video_file", source=str(path)))


def test_file_that_vanishes_is_told(video: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.avi"
    copy.write_bytes(video.read_bytes())
    request = CameraRequest(kind="video_file", source=str(copy), paced=False, loop=True)
    camera = CAMERAS.load("video_file").open(request)
    assert camera.grab() is not None
    copy.unlink()
    with pytest.raises(CameraLostError, match=r"copy\.avi"):
        drain(camera)
    camera.close()
