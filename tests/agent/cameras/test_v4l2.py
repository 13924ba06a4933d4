"""V4L2 over a capture that behaves as OpenCV's does, and, where there is one (`board`), a real device."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from camera_waits import plain_room, read_one, running, take, take_until
from edgekit.agent.camera import CameraLostError, CameraRequest, parse_camera
from edgekit.agent.cameras import v4l2
from edgekit.core.errors import DataError, UsageError

PICTURE = np.full((48, 64, 3), (10, 20, 200), np.uint8)
JPEG = cv2.imencode(".jpg", PICTURE)[1]
YUYV = 0x56595559


class FakeCapture:
    """What OpenCV's V4L2 capture does, of it that matters here.

    Args:
        formats: Codes that the device takes; another leaves the first.
        gives_raw: Whether CONVERT_RGB=0 hands the JPEG out.
    """

    def __init__(self, formats: tuple[int, ...] = (v4l2._MJPG,), *, gives_raw: bool = True) -> None:
        self.settings: dict[int, float] = {
            cv2.CAP_PROP_FOURCC: formats[0],
            cv2.CAP_PROP_FRAME_WIDTH: 640,
            cv2.CAP_PROP_FRAME_HEIGHT: 480,
            cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_CONVERT_RGB: 1,
        }
        self.formats = formats
        self.gives_raw = gives_raw
        self.frames_left = 1000
        self.num_timeouts = 0
        self.stamp_ms: float | None = None
        self.is_released = False
        self.payload: npt.NDArray[np.uint8] = JPEG.reshape(1, -1).astype(np.uint8)

    def set(self, name: int, value: float) -> bool:
        if name == cv2.CAP_PROP_FOURCC and value not in self.formats:
            return False
        self.settings[name] = value
        return True

    def get(self, name: int) -> float:
        if name == cv2.CAP_PROP_POS_MSEC:
            return time.monotonic() * 1000 if self.stamp_ms is None else self.stamp_ms
        return self.settings.get(name, 0.0)

    def grab(self) -> bool:
        if self.num_timeouts:
            self.num_timeouts -= 1
            time.sleep(float(os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"]))
            return False
        self.frames_left -= 1
        return self.frames_left >= 0  # after an unplugging: False for ever, and isOpened() stays True

    def retrieve(self) -> tuple[bool, npt.NDArray[np.uint8]]:
        is_raw = not self.settings[cv2.CAP_PROP_CONVERT_RGB] and self.gives_raw
        return True, self.payload if is_raw else PICTURE

    def release(self) -> None:
        self.is_released = True


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> FakeCapture:
    fake = FakeCapture()
    monkeypatch.setattr(v4l2, "open_capture", lambda *_: fake)
    monkeypatch.setattr(v4l2, "_probe", lambda _: None)
    return fake


def open_camera(**changes: object) -> v4l2._V4l2:
    return v4l2._V4l2(CameraRequest(kind="v4l2", source="0", **changes))  # pyright: ignore[reportArgumentType]


def test_jpeg_comes_through_undecoded_and_small(capture: FakeCapture) -> None:
    camera = open_camera(min_size=(24, 24))
    shot = read_one(camera)

    assert shot.jpeg == JPEG.tobytes()
    assert shot.picture.shape == (24, 32, 3)
    colors = shot.picture if shot.color_order == "bgr" else shot.picture[:, :, ::-1]
    assert np.abs(colors.astype(int) - PICTURE[0, 0]).max() < 12
    assert capture.settings[cv2.CAP_PROP_CONVERT_RGB] == 0


def test_format_size_and_rate_are_asked_for(capture: FakeCapture) -> None:
    camera = open_camera(width=1280, height=720, fps=15.0)

    assert (camera.facts.width, camera.facts.height, camera.facts.fps) == (1280, 720, 15.0)
    assert capture.settings[cv2.CAP_PROP_FOURCC] == v4l2._MJPG


def test_other_formats_are_converted_by_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCapture((YUYV,))
    monkeypatch.setattr(v4l2, "open_capture", lambda *_: fake)
    monkeypatch.setattr(v4l2, "_probe", lambda _: None)
    shot = read_one(open_camera())

    assert shot.jpeg is None
    assert shot.color_order == "bgr"
    assert (shot.picture == PICTURE).all()
    assert fake.settings[cv2.CAP_PROP_CONVERT_RGB] == 1


def test_opencv_that_decodes_all_the_same_is_taken_as_it_is(capture: FakeCapture) -> None:
    capture.gives_raw = False
    shot = read_one(open_camera())

    assert shot.jpeg is None
    assert (shot.picture == PICTURE).all()


def test_driver_that_sends_no_jpeg_is_left_to_opencv(capture: FakeCapture) -> None:
    capture.payload = np.zeros((1, 100), np.uint8)
    camera = open_camera()
    assert camera.grab() is not None
    with pytest.raises(DataError, match="no JPEG"):
        camera.retrieve(plain_room)

    assert (read_one(camera).picture == PICTURE).all()


def test_capture_time_is_the_drivers(capture: FakeCapture) -> None:
    capture.stamp_ms = 1234.5
    camera = open_camera()
    grab = camera.grab()
    assert (grab.captured_ns, grab.time_source) == (1_234_500_000, "driver")

    capture.stamp_ms = 0.0  # a driver without a clock
    assert camera.grab().time_source == "arrival"


def test_unplugging_is_a_lost_camera(capture: FakeCapture) -> None:
    capture.frames_left = 1
    camera = open_camera()
    camera.grab()
    for _ in range(2):
        with pytest.raises(CameraLostError, match="unplugged"):
            camera.grab()
    camera.close()
    assert capture.is_released


@pytest.mark.slow
def test_first_picture_may_take_longer_than_opencv_waits(capture: FakeCapture) -> None:
    camera = open_camera()
    capture.num_timeouts = 2
    camera.grab()

    capture.num_timeouts = 2
    with pytest.raises(CameraLostError, match="gives no pictures any more"):
        camera.grab()


@pytest.mark.slow
def test_slow_camera_has_the_time_that_its_declared_rate_needs(capture: FakeCapture) -> None:
    capture.settings[cv2.CAP_PROP_FPS] = 0.5
    camera = open_camera()
    camera.grab()
    capture.num_timeouts = 3
    camera.grab()


def test_missing_device_is_told_with_those_that_are_there() -> None:
    with pytest.raises(CameraLostError, match="no camera at /dev/nothing; there is"):
        v4l2._V4l2(CameraRequest(kind="v4l2", source="/dev/nothing"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_missing_permission_is_told(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch(stat.S_IWUSR)
    device.chmod(0)
    with pytest.raises(CameraLostError, match="no permission") as caught:
        v4l2._V4l2(CameraRequest(kind="v4l2", source=str(device)))
    assert caught.value.hint is not None
    assert "group 'video'" in caught.value.hint


def test_busy_camera_or_none_is_told(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    with pytest.raises(CameraLostError, match="busy"):
        v4l2._V4l2(CameraRequest(kind="v4l2", source=str(device)))


@pytest.mark.parametrize(
    ("source", "path"), [("", "/dev/video0"), ("0", "/dev/video0"), ("12", "/dev/video12"), ("/dev/null", "/dev/null")]
)
def test_device_is_found_by_index_and_path(source: str, path: str) -> None:
    assert v4l2.find_device(source) == Path(path)


def test_link_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    link.symlink_to("/dev/null")
    assert v4l2.find_device(str(link)) == Path("/dev/null")


def test_relative_path_is_refused() -> None:
    with pytest.raises(UsageError, match="no camera"):
        v4l2._check(CameraRequest(kind="v4l2", source="video0"))


@pytest.mark.board
def test_real_camera_gives_frames_with_the_drivers_time() -> None:
    """EDGEKIT_TEST_CAMERA names the device; vivid in an emulated guest does."""
    source = os.environ.get("EDGEKIT_TEST_CAMERA", "/dev/video0")
    if not Path(source).exists():
        pytest.skip(f"no camera at {source}")
    with running(parse_camera(source)) as supervisor:
        take(supervisor)
        frames = take_until(supervisor, lambda: supervisor.status().num_grabbed > 30, "thirty frames")
        status = supervisor.status()

    assert status.time_source == "driver"
    assert status.state == "streaming"
    times = [frame.captured_ns for frame in frames]
    assert times == sorted(set(times))
