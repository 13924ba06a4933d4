"""What a board has recorded, put together: sessions, what happened, latency over time, and the host beside it.

The axis is the time that the agent ran, which no clock that is set can bend; wall time only labels it. A record that
was rotated begins in the middle of a session: its counters are taken from there.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from edgekit.core.device_record import DeviceRecord
from edgekit.core.device_status import (
    CameraStatus,
    DeviceStatus,
    DriftStatus,
    ModelStatus,
    MqttStatus,
    StageLatency,
    SystemStatus,
)
from edgekit.core.report import Report
from edgekit.report.device_events import DeviceEvent, find_events
from edgekit.report.device_host import HostSide, compare_host

DEVICE_REPORT_VERSION = 1
MAX_POINTS = 400
"""Points of a chart: what has more windows is joined."""


class DeviceSession(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the agent, as far as it is in the record.

    Args:
        started_unix_s: Wall clock when the agent started, as the first snapshot has it; it may have been wrong.
        begins_s: Where it begins on the axis of the report, seconds.
        seconds: How long it is in the record.
        num_windows: Windows recorded.
        num_answers: Frames answered.
        num_grabbed: Frames that the camera gave.
        num_dropped: Frames that were not answered.
        num_lost: How often the camera was lost.
        release: Release of the bundle; None for none.
    """

    started_unix_s: float
    begins_s: float
    seconds: float
    num_windows: int
    num_answers: int
    num_grabbed: int
    num_dropped: int
    num_lost: int
    release: int | None


class DevicePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One window, or several neighbours joined: times and temperature are the highest of them, rates the mean.

    Args:
        begins_s: On the axis, seconds.
        ends_s: On the axis.
        num_windows: How many are joined.
        session: Index of its session.
        p50_ms: Median end to end; of several windows the middle one's. None without answers.
        p90_ms: None where no window had 64 answers.
        max_ms: None without answers.
        fps_in: Frames grabbed per second.
        fps_out: Frames answered per second.
        was_slowed: Whether the board was slowed down in any; None where it does not tell.
        temperature_c: None where there is no sensor.
        cpu_percent: Of one core.
        rss_mib: Resident memory.
        mean_confidence: Running mean; None where drift is not watched.
    """

    begins_s: float
    ends_s: float
    num_windows: int
    session: int
    p50_ms: float | None
    p90_ms: float | None
    max_ms: float | None
    fps_in: float
    fps_out: float
    was_slowed: bool | None
    temperature_c: float | None
    cpu_percent: float
    rss_mib: float
    mean_confidence: float | None


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one board, for the page, for Markdown, and as JSON.

    Args:
        device_id: Its name.
        board: Board id.
        ended_unix_s: Wall clock of the last snapshot.
        state: Of the agent then.
        detail: Why.
        seconds: Recorded running time.
        num_windows: Windows recorded.
        num_damaged: Lines that could not be read.
        num_newer: Lines of a newer edgekit.
        share_slowed: Share of the recorded time in which the board was slowed down; None where it does not tell.
        max_temperature_c: None where there is no sensor.
        max_rss_mib: Most resident memory.
        model: The last that served; None when none did.
        stages: Latency since the last session began, one per stage.
        sessions: Oldest first.
        points: In time; at most `MAX_POINTS`.
        events: What happened, oldest first.
        camera: As it was last.
        system: As it was last.
        drift: As it was last; None where it is not watched.
        mqtt: As it was last.
        host: The run that made the model; None when none was given.
        version: Of this format.
    """

    device_id: str
    board: str
    ended_unix_s: float
    state: str
    detail: str
    seconds: float
    num_windows: int
    num_damaged: int
    num_newer: int
    share_slowed: float | None
    max_temperature_c: float | None
    max_rss_mib: float
    model: ModelStatus | None
    stages: tuple[StageLatency, ...]
    sessions: tuple[DeviceSession, ...]
    points: tuple[DevicePoint, ...]
    events: tuple[DeviceEvent, ...]
    camera: CameraStatus
    system: SystemStatus
    drift: DriftStatus | None
    mqtt: MqttStatus
    host: HostSide | None
    version: int = DEVICE_REPORT_VERSION


def build_device_report(record: DeviceRecord, host: Report | None = None) -> DeviceReport:
    """Put a record together.

    Args:
        record: At least one snapshot.
        host: Report of the run that made the model; None for none.
    """
    runs = split_sessions(record.statuses)
    begins = _beginnings(runs)
    windows = [
        point
        for number, (run, begin_s) in enumerate(zip(runs, begins, strict=True))
        for point in _windows(run, begin_s, number)
    ]
    last = record.statuses[-1]
    model = next((status.model for status in reversed(record.statuses) if status.model is not None), None)
    return DeviceReport(
        device_id=last.device_id,
        board=last.system.board,
        ended_unix_s=last.time_unix_s,
        state=last.state,
        detail=last.detail,
        seconds=sum(_recorded_s(run) for run in runs),
        num_windows=len(windows),
        num_damaged=record.num_damaged,
        num_newer=record.num_newer,
        share_slowed=_share_slowed(windows),
        max_temperature_c=max(
            (point.temperature_c for point in windows if point.temperature_c is not None), default=None
        ),
        max_rss_mib=max(status.system.rss_mib for status in record.statuses),
        model=model,
        stages=last.total,
        sessions=tuple(_session(run, begin_s) for run, begin_s in zip(runs, begins, strict=True)),
        points=join_points(windows, MAX_POINTS),
        events=find_events(runs, begins),
        camera=last.camera,
        system=last.system,
        drift=last.drift,
        mqtt=last.mqtt,
        host=None if host is None else compare_host(host, model, last.total),
    )


def split_sessions(statuses: Sequence[DeviceStatus]) -> list[list[DeviceStatus]]:
    """Cut where the agent was started anew: its uptime begins again."""
    runs: list[list[DeviceStatus]] = []
    for status in statuses:
        if not runs or status.uptime_s < runs[-1][-1].uptime_s or status.device_id != runs[-1][-1].device_id:
            runs.append([])
        runs[-1].append(status)
    return runs


def join_points(windows: Sequence[DevicePoint], most: int) -> tuple[DevicePoint, ...]:
    """At most about `most` points: neighbours of one session joined in groups of the same size."""
    size = -(-len(windows) // most)
    if size <= 1:
        return tuple(windows)
    groups: list[list[DevicePoint]] = []
    for window in windows:
        if not groups or len(groups[-1]) == size or groups[-1][0].session != window.session:
            groups.append([])
        groups[-1].append(window)
    return tuple(_join(group) for group in groups)


def _join(group: list[DevicePoint]) -> DevicePoint:
    medians = [point.p50_ms for point in group if point.p50_ms is not None]
    told = [point.was_slowed for point in group if point.was_slowed is not None]
    return DevicePoint(
        begins_s=group[0].begins_s,
        ends_s=group[-1].ends_s,
        num_windows=len(group),
        session=group[0].session,
        p50_ms=statistics.median_high(medians) if medians else None,
        p90_ms=max((point.p90_ms for point in group if point.p90_ms is not None), default=None),
        max_ms=max((point.max_ms for point in group if point.max_ms is not None), default=None),
        fps_in=statistics.fmean(point.fps_in for point in group),
        fps_out=statistics.fmean(point.fps_out for point in group),
        was_slowed=any(told) if told else None,
        temperature_c=max((point.temperature_c for point in group if point.temperature_c is not None), default=None),
        cpu_percent=statistics.fmean(point.cpu_percent for point in group),
        rss_mib=max(point.rss_mib for point in group),
        mean_confidence=group[-1].mean_confidence,
    )


def _first_s(run: list[DeviceStatus]) -> float:
    """Uptime at which a session enters the record: the beginning of its first window."""
    first = run[0]
    return max(0.0, first.uptime_s - (first.recent.seconds if first.recent is not None else 0.0))


def _recorded_s(run: list[DeviceStatus]) -> float:
    return run[-1].uptime_s - _first_s(run)


def _beginnings(runs: list[list[DeviceStatus]]) -> list[float]:
    begins = [0.0]
    for run in runs[:-1]:
        begins.append(begins[-1] + _recorded_s(run))
    return begins


def _windows(run: list[DeviceStatus], begin_s: float, session: int) -> list[DevicePoint]:
    first_s = _first_s(run)
    points: list[DevicePoint] = []
    for status in run:
        window = status.recent
        if window is None:
            continue
        whole = next((stage for stage in window.stages if stage.stage == "end_to_end"), None)
        ends_s = begin_s + status.uptime_s - first_s
        points.append(
            DevicePoint(
                begins_s=max(begin_s, ends_s - window.seconds),
                ends_s=ends_s,
                num_windows=1,
                session=session,
                p50_ms=None if whole is None else whole.p50_ms,
                p90_ms=None if whole is None else whole.p90_ms,
                max_ms=whole.max_ms if whole is not None and whole.n else None,
                fps_in=window.fps_in,
                fps_out=window.fps_out,
                was_slowed=window.was_slowed,
                temperature_c=window.temperature_c,
                cpu_percent=status.system.cpu_percent,
                rss_mib=status.system.rss_mib,
                mean_confidence=None if status.drift is None else status.drift.mean_confidence,
            )
        )
    return points


def _share_slowed(windows: list[DevicePoint]) -> float | None:
    told = [(point.ends_s - point.begins_s, point.was_slowed) for point in windows if point.was_slowed is not None]
    seconds = sum(length for length, _ in told)
    return sum(length for length, slowed in told if slowed) / seconds if seconds > 0 else None


def _session(run: list[DeviceStatus], begin_s: float) -> DeviceSession:
    first, last = run[0], run[-1]
    is_whole = _first_s(run) < 60.0  # what was counted in its first minute belongs to it, though it was not recorded

    def since(before: int, after: int) -> int:
        return after if is_whole else max(0, after - before)

    return DeviceSession(
        started_unix_s=first.time_unix_s - first.uptime_s,
        begins_s=begin_s,
        seconds=_recorded_s(run),
        num_windows=sum(status.recent is not None for status in run),
        num_answers=since(first.num_answers, last.num_answers),
        num_grabbed=since(first.camera.num_grabbed, last.camera.num_grabbed),
        num_dropped=since(first.camera.num_dropped, last.camera.num_dropped),
        num_lost=since(first.camera.num_lost, last.camera.num_lost),
        release=None if last.model is None else last.model.release,
    )
