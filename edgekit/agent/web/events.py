"""The predictions as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import time

import msgspec

from edgekit.core.device_status import DeviceStatus
from edgekit.core.frame import Answer

RETRY_MS = 2000
"""After this the browser connects again."""


class AnswerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, as `/predictions` tells it.

    Args:
        sequence: Of the frame.
        label: Class name, or "unknown".
        confidence: 0..1.
        top: Best (label, probability) pairs.
        age_ms: From capture to answer.
        since_ms: From answer to this event.
        capture_age_ms: Age of the frame when the loop took it.
        preprocess_ms: Wall time.
        inference_ms: Wall time.
        post_ms: Wall time.
    """

    sequence: int
    label: str
    confidence: float
    top: tuple[tuple[str, float], ...]
    age_ms: float
    since_ms: float
    capture_age_ms: float
    preprocess_ms: float
    inference_ms: float
    post_ms: float


def answer_event(answer: Answer, now_ns: int | None = None) -> bytes:
    """Write an answer; `now_ns` is on CLOCK_MONOTONIC."""
    now_ns = time.monotonic_ns() if now_ns is None else now_ns
    event = AnswerEvent(
        sequence=answer.sequence,
        label=answer.label,
        confidence=answer.confidence,
        top=answer.top,
        age_ms=answer.end_to_end_ms,
        since_ms=max(0.0, (now_ns - answer.answered_ns) / 1e6),
        capture_age_ms=answer.capture_age_ms,
        preprocess_ms=answer.preprocess_ms,
        inference_ms=answer.inference_ms,
        post_ms=answer.post_ms,
    )
    return write_event("answer", msgspec.json.encode(event))


def status_event(status: DeviceStatus) -> bytes:
    """Write a snapshot."""
    return write_event("status", msgspec.json.encode(status))


def write_event(name: str, data: bytes = b"{}") -> bytes:
    r"""Write one event. JSON has no line breaks, so its text is one line of data.

    >>> write_event("heartbeat")
    b'event: heartbeat\ndata: {}\n\n'
    """
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def stream_opening() -> bytes:
    """What a stream of events begins with."""
    return b"retry: %d\n\n" % RETRY_MS
