"""Whether it moves, whether it serves."""

from __future__ import annotations

import msgspec
import pytest

from agent_live import build_status, replace_camera
from edgekit.agent.live import Live
from edgekit.agent.web.health import (
    MAX_SNAPSHOT_AGE_S,
    MAX_STARTING_S,
    SnapshotClock,
    judge_health,
    judge_readiness,
)
from edgekit.core.device_status import DeviceStatus

SERVING = build_status()


def test_health_and_readiness_are_good_when_it_serves() -> None:
    assert judge_health(SERVING, 0.4, ()).ok
    assert judge_readiness(SERVING, 0.4, ()).ok
    assert judge_readiness(replace_camera(SERVING, state="degraded"), 0.4, ()).ok


@pytest.mark.parametrize(
    ("status", "age_s", "overdue", "reason"),
    [
        (SERVING, 0.4, ("capture", "inference"), "does not move: capture, inference"),
        (SERVING, MAX_SNAPSHOT_AGE_S + 1, (), "no snapshot for 16 s"),
        (build_status(state="wedged", detail="inference in /home/pi"), 0.4, (), "a part does not move"),
        (None, MAX_STARTING_S + 1, (), "no snapshot for 121 s"),
    ],
)
def test_health_is_bad_when_something_does_not_move(
    status: DeviceStatus | None, age_s: float, overdue: tuple[str, ...], reason: str
) -> None:
    assert judge_health(status, age_s, overdue).reason == reason
    assert not judge_health(status, age_s, overdue).ok
    assert judge_readiness(status, age_s, overdue).reason == reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, "starting"),
        (build_status(state="starting", model=None), "the model is not loaded yet"),
        (build_status(state="stopping"), "stopping"),
        (replace_camera(build_status(state="waiting"), state="lost", detail="rtsp://10.0.0.7/door"), "camera lost"),
        (replace_camera(build_status(state="waiting"), state="opening"), "camera opening"),
        (replace_camera(build_status(state="waiting"), state="ended"), "camera ended"),
        (replace_camera(SERVING, state="frozen"), "camera frozen"),
        (build_status(state="waiting"), "waiting"),
    ],
)
def test_readiness_says_why_not_and_health_is_good_all_the_same(status: DeviceStatus | None, reason: str) -> None:
    readiness = judge_readiness(status, 0.4, ())

    assert not readiness.ok
    assert readiness.reason == reason
    assert judge_health(status, 0.4, ()).ok


def test_snapshot_clock_counts_from_when_a_snapshot_was_first_seen() -> None:
    live, now_s = Live(), [100.0]
    snapshots = SnapshotClock(live, lambda: now_s[0])

    now_s[0] = 107.0
    assert snapshots.look() == (None, 7.0)
    live.put_status(SERVING)
    assert snapshots.look() == (SERVING, 0.0)
    now_s[0] = 109.5
    assert snapshots.look() == (SERVING, 2.5)
    again = msgspec.structs.replace(SERVING)  # equal, but written anew
    live.put_status(again)
    assert snapshots.look()[1] == 0.0
