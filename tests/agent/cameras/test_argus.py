"""The Jetson's CSI camera over a fake capture. No hardware was at hand."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from camera_waits import read_one
from edgekit.agent.camera import CameraLostError, CameraRequest, check_camera
from edgekit.agent.cameras import argus
from edgekit.core.errors import MissingDependencyError, UsageError


class FakeCapture:
    def __init__(self) -> None:
        self.frames_left = 3
        self.is_released = False

    def grab(self) -> bool:
        self.frames_left -= 1
        return self.frames_left >= 0

    def retrieve(self) -> tuple[bool, npt.NDArray[np.uint8]]:
        return True, np.full((720, 1280, 3), 7, np.uint8)

    def release(self) -> None:
        self.is_released = True


@pytest.fixture
def gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GStreamer:                   YES (1.20.3)")


@pytest.mark.usefixtures("gstreamer")
def test_pictures_come_from_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    fake = FakeCapture()
    monkeypatch.setattr(argus, "open_capture", lambda *arguments: asked.append(arguments) or fake)
    camera = argus._Argus(CameraRequest(kind="argus", source="1", fps=15.0))

    shot = read_one(camera)

    assert shot.picture.shape == (720, 1280, 3)
    assert (camera.facts.width, camera.facts.height, camera.facts.fps) == (1280, 720, 15.0)
    pipeline, backend, _ = asked[0]
    assert pipeline.startswith(
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),framerate=15000/1000 ! nvvidconv"
    )
    assert pipeline.endswith("format=BGR ! appsink drop=true max-buffers=1 sync=false")
    assert backend == cv2.CAP_GSTREAMER
    camera.grab()
    camera.grab()
    with pytest.raises(CameraLostError, match="gives no pictures"):
        camera.grab()
    camera.close()
    assert fake.is_released


@pytest.mark.usefixtures("gstreamer")
def test_camera_that_cannot_be_opened_is_lost_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argus, "open_capture", lambda *_: None)
    with pytest.raises(CameraLostError) as caught:
        argus._Argus(CameraRequest(kind="argus"))
    assert "nvargus-daemon" in str(caught.value.hint)


def test_opencv_without_gstreamer_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GStreamer:                   NO")
    for attempt in (check_camera, argus._Argus):
        with pytest.raises(MissingDependencyError) as caught:
            attempt(CameraRequest(kind="argus", source="0"))
        assert "system's OpenCV" in str(caught.value.hint)


def test_source_that_is_no_index_is_refused() -> None:
    with pytest.raises(UsageError, match="no CSI camera"):
        check_camera(CameraRequest(kind="argus", source="0 ! filesink location=/etc/passwd"))
