"""The synthetic camera by itself, without a process."""

from __future__ import annotations

import time

import numpy as np
import pytest

from camera_waits import plain_room, read_one
from edgekit.agent.camera import CAMERAS, CameraLostError, CameraRequest
from edgekit.agent.capture.painted_time import read_time
from edgekit.core.errors import DataError, UsageError


def test_picture_carries_the_time_of_its_capture() -> None:
    camera = CAMERAS.load("synthetic").open(CameraRequest(kind="synthetic", source="320x240@0"))
    before = time.monotonic_ns()
    grab = camera.grab()
    after = time.monotonic_ns()
    picture = camera.retrieve(plain_room).picture

    painted = read_time(picture)
    assert grab is not None
    assert painted is not None
    assert before <= painted <= grab.captured_ns <= after
    assert picture.shape == (240, 320, 3)


def test_picture_moves() -> None:
    camera = CAMERAS.load("synthetic").open(CameraRequest(kind="synthetic", source="320x240@0"))
    first, second = read_one(camera).picture, read_one(camera).picture
    assert (first[20:] != second[20:]).mean() > 0.1
    assert len(np.unique(first[20:].reshape(-1, 3), axis=0)) > 100


def test_request_overrules_the_source() -> None:
    request = CameraRequest(kind="synthetic", source="320x240@5", width=160, height=120, fps=50.0)
    facts = CAMERAS.load("synthetic").open(request).facts
    assert (facts.width, facts.height, facts.fps, facts.on_demand) == (160, 120, 50.0, False)


@pytest.mark.parametrize(
    "source",
    [
        "x",
        "640x",
        "640x480@",
        "640x480@-1",
        "@1e9x",
        "10x10",
        "6400x480",
        "99999x99999",
        "640x480@30,what=1",
        "@30,plain",
    ],
)
def test_source_is_refused_when_it_says_nothing(source: str) -> None:
    with pytest.raises(UsageError, match="synthetic camera"):
        CAMERAS.load("synthetic").open(CameraRequest(kind="synthetic", source=source))


def test_faults_happen_when_they_are_due() -> None:
    kind = CAMERAS.load("synthetic")
    losing = kind.open(CameraRequest(kind="synthetic", source="@0,lose_after=2"))
    assert losing.grab() is not None
    assert losing.grab() is not None
    with pytest.raises(CameraLostError):
        losing.grab()
    damaged = kind.open(CameraRequest(kind="synthetic", source="@0,damage_every=2"))
    read_one(damaged)
    with pytest.raises(DataError):
        read_one(damaged)
    frozen = kind.open(CameraRequest(kind="synthetic", source="@0,freeze_after=1"))
    assert (read_one(frozen).picture == read_one(frozen).picture).all()
