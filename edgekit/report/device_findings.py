"""What follows from a board's record, in words and rows. Pure; shared by the page, Markdown and the terminal."""

# The examples show the signs that are printed.
# ruff: noqa: RUF002

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.device_status import StageLatency
from edgekit.report.device import DeviceReport
from edgekit.report.formatting import (
    DASH,
    TIMES,
    format_bytes,
    format_ms,
    format_number,
    format_percent,
    format_seconds,
    plural,
    printable,
)

Mood: TypeAlias = Literal["passed", "failed", "unverified"]

STAGE_NAMES = {
    "capture_age": "age when taken",
    "preprocess": "preprocess",
    "inference": "inference",
    "post": "after it",
    "end_to_end": "end to end",
}
STAGE_TITLES = ("stage", "n", "mean ms", "p50 ms", "p90 ms", "p99 ms", "max ms")


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One named value of a list."""

    name: str
    value: str


def mood(report: DeviceReport) -> Mood:
    """How it stands with the board: "failed" when it does not answer now, "passed" when nothing is wrong."""
    if report.state == "wedged" or report.camera.state in {"lost", "frozen"}:
        return "failed"
    has_trouble = bool(report.share_slowed) or (report.drift is not None and bool(report.drift.flags))
    return "passed" if report.state == "serving" and not has_trouble else "unverified"


def headline(report: DeviceReport) -> str:
    """One sentence that says how it stands."""
    if report.state == "wedged":
        return "A part of the agent no longer moves"
    if report.camera.state in {"lost", "frozen"}:
        return f"The camera is {report.camera.state}"
    if report.state == "serving":
        rate = report.points[-1].fps_out if report.points else 0.0
        return f"Answers {format_number(rate, 1)} frames a second"
    return f"The agent is {report.state}"


def remarks(report: DeviceReport) -> tuple[str, ...]:
    """What a reader should know beside that, most important first."""
    return tuple(_remarks(report))


def _remarks(report: DeviceReport) -> Iterator[str]:
    if report.detail:
        yield printable(report.detail)
    if report.share_slowed:
        share = format_percent(report.share_slowed, 1)
        yield f"The board was slowed down in {share} of the recorded time: latency there is not the model's fault."
    if report.drift is not None and report.drift.flags:
        yield f"Drifted: {', '.join(report.drift.flags)}. Look at the sample pictures (edgekit agent samples)."
    num_lost = sum(session.num_lost for session in report.sessions)
    if num_lost:
        back = " and came back" if report.camera.state == "streaming" else ""
        yield f"The camera was lost {plural(num_lost, 'time')}{back}."
    if report.host is not None and report.host.file is None:
        yield "The board runs another file than any of the run beside it: its sizes and latencies are not comparable."
    if report.num_damaged or report.num_newer:
        parts = [
            f"{plural(report.num_damaged, 'damaged line')}" if report.num_damaged else "",
            f"{plural(report.num_newer, 'line')} of a newer edgekit" if report.num_newer else "",
        ]
        yield f"Left out of the record: {', '.join(part for part in parts if part)}."


def stage(report: DeviceReport, name: str) -> StageLatency | None:
    """Latency of one stage since the last session began."""
    return next((row for row in report.stages if row.stage == name), None)


def stage_rows(report: DeviceReport) -> tuple[tuple[str, ...], ...]:
    """Cells of the table of stages, under `STAGE_TITLES`."""
    return tuple(
        (
            STAGE_NAMES.get(row.stage, row.stage),
            f"{row.n:,}",
            format_ms(row.mean_ms) if row.n else DASH,
            format_ms(row.p50_ms),
            format_ms(row.p90_ms),
            format_ms(row.p99_ms),
            format_ms(row.max_ms) if row.n else DASH,
        )
        for row in report.stages
    )


def ratio_words(ratio: float | None) -> str:
    """How many times as long the board takes.

    >>> ratio_words(6.14), ratio_words(0.52), ratio_words(None)
    ('6.1× the host', '0.52× the host', '–')
    """
    return DASH if ratio is None else f"{format_number(ratio, 1 if ratio >= 1 else 2)}{TIMES} the host"


def camera_facts(report: DeviceReport) -> tuple[Fact, ...]:
    """The camera over the whole record."""
    camera = report.camera
    num_grabbed = sum(session.num_grabbed for session in report.sessions)
    num_dropped = sum(session.num_dropped for session in report.sessions)
    share = f" ({format_percent(num_dropped / num_grabbed, 1)}): newer ones had come" if num_dropped else ""
    declared = "not told" if camera.declared_fps is None else f"{format_number(camera.declared_fps, 1)} fps"
    clock = {"driver": "the camera driver's", "arrival": "of arrival", "painted": "painted into the picture"}
    return (
        Fact(name="kind", value=printable(f"{camera.kind} {camera.source}".strip())),
        Fact(name="state", value=printable(f"{camera.state}: {camera.detail}" if camera.detail else camera.state)),
        Fact(name="picture", value=f"{camera.width}{TIMES}{camera.height}" if camera.width else DASH),
        Fact(name="declared rate", value=declared),
        Fact(name="frames grabbed", value=f"{num_grabbed:,}"),
        Fact(name="not answered", value=f"{num_dropped:,}{share}"),
        Fact(name="lost", value=plural(sum(session.num_lost for session in report.sessions), "time")),
        Fact(name="capture time", value=clock[camera.time_source]),
    )


def board_facts(report: DeviceReport) -> tuple[Fact, ...]:
    """The board as it was last, and the extremes of the record."""
    system = report.system
    hottest = (
        "no sensor" if report.max_temperature_c is None else f"at most {format_number(report.max_temperature_c, 1)} °C"
    )
    now = "" if system.temperature_c is None else f"{format_number(system.temperature_c, 1)} °C, "
    slowed = "not told by this board" if report.share_slowed is None else format_percent(report.share_slowed, 1)
    facts = [
        Fact(name="board", value=printable(report.board)),
        Fact(name="processor", value=f"{format_number(system.cpu_percent, 1)} % of one core"),
        Fact(name="memory", value=_memory(report)),
        Fact(name="temperature", value=f"{now}{hottest}"),
        Fact(name="time slowed down", value=slowed),
    ]
    occurred = system.throttle.has_occurred if system.throttle is not None else ()
    if occurred:
        words = ", ".join(printable(name).replace("_", " ") for name in occurred)
        facts.append(Fact(name="since it booted", value=words))
    facts += [
        Fact(name=printable(rail.name), value=f"{format_number(rail.watts, 2)} W ({format_number(rail.volts, 2)} V)")
        for rail in system.power_rails
    ]
    return tuple(facts)


def _memory(report: DeviceReport) -> str:
    system = report.system
    proportional = "" if system.pss_mib is None else f" ({format_number(system.pss_mib, 0)} with shared pages once)"
    return f"{format_number(system.rss_mib, 0)} MiB{proportional}, at most {format_number(report.max_rss_mib, 0)}"


def model_facts(report: DeviceReport) -> tuple[Fact, ...]:
    """What serves; empty when nothing does."""
    model = report.model
    if model is None:
        return ()
    return (
        Fact(name="release", value=DASH if model.release is None else str(model.release)),
        Fact(name="SHA-256", value=f"{printable(model.sha256[:16])}..."),
        Fact(name="runtime", value=f"{printable(model.runtime)}, {plural(model.num_threads, 'thread')}"),
        Fact(name="packed", value=format_bytes(model.packed_bytes)),
        Fact(name="file", value=format_bytes(model.file_bytes)),
        Fact(name="in memory", value=f"{format_number(model.resident_mib, 1)} MiB"),
        Fact(name="loading", value=f"{format_ms(model.load_ms)} ms"),
        Fact(name="first inference", value=f"{format_ms(model.first_inference_ms)} ms, in no latency"),
        Fact(name="golden pictures", value=f"{model.num_golden} answered right before it served"),
    )


def drift_facts(report: DeviceReport) -> tuple[Fact, ...]:
    """Drift as it was last; empty when it is not watched."""
    drift = report.drift
    if drift is None:
        return ()
    psi = "not judged (no baseline, or too few answers)" if drift.psi is None else format_number(drift.psi, 3)
    facts = [
        Fact(name="answers counted", value=f"{drift.n:,}"),
        Fact(name="classes, PSI", value=psi),
        Fact(name="mean confidence", value=format_number(drift.mean_confidence, 3)),
        Fact(name="brightness", value=f"{format_number(drift.brightness, 0)} of 255"),
        Fact(name="sharpness", value=format_number(drift.sharpness, 0)),
        Fact(name="sample pictures", value=f"{drift.num_samples}, {format_bytes(drift.samples_bytes)}"),
    ]
    if drift.detail:
        facts.append(Fact(name="trouble", value=printable(drift.detail)))
    return tuple(facts)


def format_time(unix_s: float) -> str:
    """Wall clock of a board in UTC; what no calendar holds is said to be no time.

    >>> format_time(1_700_000_000.0), format_time(1e300)
    ('2023-11-14 22:13 UTC', 'no time')
    """
    try:
        return f"{datetime.fromtimestamp(unix_s, timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "no time"


def format_axis(seconds: float) -> str:
    """A place on the axis.

    >>> format_axis(95.0), format_axis(7322.0)
    ('1 min 35 s', '2 h 02 min')
    """
    return format_seconds(round(seconds)) if seconds >= 1 else "0 s"
