"""The Raspberry Pi camera over a fake picamera2 that keeps the book on its buffers. No hardware was at hand."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from camera_waits import plain_room, read_one
from edgekit.agent.camera import CameraLostError, CameraRequest, check_camera
from edgekit.agent.cameras import picamera2
from edgekit.core.errors import MissingDependencyError, UsageError

MAX_HELD = 4


class FakeRequest:
    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.is_released = False

    def get_metadata(self) -> dict[str, Any]:
        return self.device.metadata()

    def make_array(self, name: str) -> npt.NDArray[np.uint8]:
        assert name == "main"
        assert not self.is_released
        width, height = self.device.configuration["main"]["size"]
        return np.full((height, width, 3), (200, 20, 10), np.uint8)  # B, G, R

    def release(self) -> None:
        assert not self.is_released
        self.is_released = True
        self.device.num_held -= 1


class FakeDevice:
    """Behaves as picamera2.Picamera2: frames that are not released starve the camera."""

    made: FakeDevice | None = None

    def __init__(self, index: int) -> None:
        if index > 1:
            raise IndexError("list index out of range")
        self.calls: list[str] = []
        self.num_held = 0
        self.fails = False
        self.configuration: dict[str, Any] = {}
        self.metadata = lambda: {"SensorTimestamp": time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 5_000_000}
        FakeDevice.made = self

    def create_video_configuration(self, **parts: Any) -> dict[str, Any]:
        return parts

    def configure(self, configuration: dict[str, Any]) -> None:
        self.calls.append("configure")
        self.configuration = configuration

    def camera_configuration(self) -> dict[str, Any]:
        return self.configuration

    def start(self) -> None:
        self.calls.append("start")

    def capture_request(self) -> FakeRequest:
        if self.fails:
            raise RuntimeError("camera frontend has timed out")
        self.num_held += 1
        assert self.num_held < MAX_HELD
        return FakeRequest(self)

    def close(self) -> None:
        assert self.num_held == 0
        self.calls.append("close")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeDevice]]:
    module = types.ModuleType("picamera2")
    module.Picamera2 = FakeDevice  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "picamera2", module)
    yield FakeDevice
    FakeDevice.made = None


def open_camera(source: str = "0", **changes: Any) -> tuple[picamera2._PiCamera, FakeDevice]:
    camera = picamera2._PiCamera(CameraRequest(kind="picamera2", source=source, **changes))
    assert FakeDevice.made is not None
    return camera, FakeDevice.made


@pytest.mark.usefixtures("device")
def test_camera_is_configured_as_asked() -> None:
    camera, device = open_camera(width=1280, height=720, fps=25.0)

    assert device.calls == ["configure", "start"]
    assert device.configuration["main"] == {"size": (1280, 720), "format": "RGB888"}
    assert device.configuration["controls"] == {"FrameDurationLimits": (40_000, 40_000)}
    assert (camera.facts.width, camera.facts.height, camera.facts.fps) == (1280, 720, 25.0)


@pytest.mark.usefixtures("device")
def test_picture_is_bgr_with_the_sensors_time() -> None:
    camera, _ = open_camera()
    grab = camera.grab()
    shot = camera.retrieve(plain_room)

    assert grab.time_source == "driver"
    assert 0 < time.monotonic_ns() - grab.captured_ns < 60_000_000_000
    assert shot.color_order == "bgr"
    assert shot.picture[0, 0].tolist() == [200, 20, 10]
    assert shot.picture.shape == (480, 640, 3)


@pytest.mark.usefixtures("device")
def test_every_frame_is_given_back() -> None:
    camera, device = open_camera()
    for _ in range(20):
        camera.grab()
    assert device.num_held == 1
    read_one(camera)
    camera.close()
    camera.close()

    assert device.num_held == 0
    assert device.calls[-1] == "close"


@pytest.mark.usefixtures("device")
def test_frame_without_a_time_has_that_of_its_arrival() -> None:
    camera, device = open_camera()
    device.metadata = dict
    assert camera.grab().time_source == "arrival"


@pytest.mark.usefixtures("device")
def test_failing_camera_is_lost() -> None:
    camera, device = open_camera()
    device.fails = True
    with pytest.raises(CameraLostError, match="timed out"):
        camera.grab()
    with pytest.raises(CameraLostError, match="no Raspberry Pi camera 7"):
        open_camera("7")


def test_missing_library_is_told_with_what_to_install() -> None:
    if "picamera2" in sys.modules:
        pytest.skip("picamera2 is installed")
    with pytest.raises(MissingDependencyError) as caught:
        check_camera(CameraRequest(kind="picamera2", source="0"))
    assert "python3-picamera2" in str(caught.value.hint)
    with pytest.raises(UsageError):
        check_camera(CameraRequest(kind="picamera2", source="front"))
