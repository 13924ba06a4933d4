"""What happened on a board, from how its snapshots differ from one to the next."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.device_status import DeviceStatus
from edgekit.report.formatting import format_number, format_seconds, plural

EventKind: TypeAlias = Literal["agent", "camera", "board", "drift", "clock", "record", "model"]

_CLOCK_SLACK_S = 60.0
_GAP_WINDOWS = 3.0
_DAY_S = 86_400.0


class DeviceEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened.

    Args:
        at_s: On the axis of the report, seconds.
        time_unix_s: Wall clock of the snapshot that tells it.
        kind: What it is about.
        text: For people.
        is_trouble: Whether it is bad news.
    """

    at_s: float
    time_unix_s: float
    kind: EventKind
    text: str
    is_trouble: bool


def find_events(runs: Sequence[Sequence[DeviceStatus]], begins: Sequence[float]) -> tuple[DeviceEvent, ...]:
    """All events of all sessions, oldest first.

    Args:
        runs: Snapshots of each session.
        begins: Where each begins on the axis, seconds.
    """
    events: list[DeviceEvent] = []
    for number, (run, begin_s) in enumerate(zip(runs, begins, strict=True)):
        first_s = run[0].uptime_s - (run[0].recent.seconds if run[0].recent is not None else 0.0)
        if number:
            events.append(_event(run[0], begin_s, "agent", "the agent was started again", is_trouble=False))
        for before, after in itertools.pairwise(run):
            at_s = begin_s + after.uptime_s - max(0.0, first_s)
            events += [_event(after, at_s, kind, text, is_trouble=bad) for kind, text, bad in _changes(before, after)]
    return tuple(events)


def describe_jump(seconds: float) -> str:
    """A jump of the clock in words.

    >>> describe_jump(-7200.0), describe_jump(86_400 * 365.25 * 3)
    ('2 h 00 min back', '1,096 days forward')
    """
    length = abs(seconds)
    words = f"{format_number(length / _DAY_S, 0)} days" if length > 2 * _DAY_S else format_seconds(length)
    return f"{words} {'forward' if seconds > 0 else 'back'}"


def _event(status: DeviceStatus, at_s: float, kind: EventKind, text: str, *, is_trouble: bool) -> DeviceEvent:
    return DeviceEvent(at_s=at_s, time_unix_s=status.time_unix_s, kind=kind, text=text, is_trouble=is_trouble)


def _changes(before: DeviceStatus, after: DeviceStatus) -> Iterator[tuple[EventKind, str, bool]]:
    passed_s = after.uptime_s - before.uptime_s
    window_s = after.recent.seconds if after.recent is not None else 10.0
    jump_s = after.time_unix_s - before.time_unix_s - passed_s
    if abs(jump_s) > _CLOCK_SLACK_S:
        yield "clock", f"the clock jumped {describe_jump(jump_s)}", False
    if passed_s > _GAP_WINDOWS * window_s:
        yield "record", f"nothing recorded for {format_seconds(passed_s - window_s)}", True
    if after.state != before.state:
        yield "agent", _with_detail(f"the agent is {after.state}", after.detail), after.state == "wedged"
    yield from _camera_changes(before, after)
    yield from _board_changes(before, after)
    yield from _drift_changes(before, after)
    if before.model is not None and after.model is not None and before.model.sha256 != after.model.sha256:
        release = "" if after.model.release is None else f", release {after.model.release}"
        yield "model", f"another model serves: {after.model.name}{release}", False


def _camera_changes(before: DeviceStatus, after: DeviceStatus) -> Iterator[tuple[EventKind, str, bool]]:
    num_lost = after.camera.num_lost - before.camera.num_lost
    if num_lost > 0:
        how_often = "the camera was lost" if num_lost == 1 else f"the camera was lost {plural(num_lost, 'time')}"
        yield "camera", _with_detail(how_often, after.camera.detail), True
    elif after.camera.state != before.camera.state:
        is_trouble = after.camera.state in {"lost", "frozen", "degraded"}
        yield "camera", _with_detail(f"the camera is {after.camera.state}", after.camera.detail), is_trouble


def _board_changes(before: DeviceStatus, after: DeviceStatus) -> Iterator[tuple[EventKind, str, bool]]:
    slowed_before = before.recent is not None and bool(before.recent.was_slowed)
    slowed_after = after.recent is not None and bool(after.recent.was_slowed)
    if slowed_after and not slowed_before:
        throttle = after.system.throttle
        names = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
        now = [name for name in names if throttle is not None and getattr(throttle, name)]
        yield (
            "board",
            _with_detail("the board was slowed down", ", ".join(name.replace("_", " ") for name in now)),
            True,
        )
    elif slowed_before and not slowed_after:
        yield "board", "the board runs at full speed again", False


def _drift_changes(before: DeviceStatus, after: DeviceStatus) -> Iterator[tuple[EventKind, str, bool]]:
    flags_before = before.drift.flags if before.drift is not None else ()
    flags_after = after.drift.flags if after.drift is not None else ()
    for flag in flags_after:
        if flag not in flags_before:
            yield "drift", f"{flag}: drifted", True
    for flag in flags_before:
        if flag not in flags_after:
            yield "drift", f"{flag}: as it was again", False


def _with_detail(text: str, detail: str) -> str:
    return f"{text} ({detail})" if detail else text
