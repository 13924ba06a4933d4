"""Clocks that a test turns, answers, and snapshots."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgekit.core.device_status import SystemStatus, ThrottleStatus
from edgekit.core.frame import Answer

MakeAnswer = Callable[..., Answer]
MakeSystem = Callable[..., SystemStatus]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wall_clock() -> Clock:
    return Clock(1_700_000_000.0)


@pytest.fixture
def make_answer() -> MakeAnswer:
    def make(
        inference_ms: float = 10.0,
        *,
        confidence: float = 0.9,
        index: int | None = 0,
        label: str | None = None,
        answered_s: float = 100.0,
        sequence: int = 1,
    ) -> Answer:
        age_ms, preprocess_ms, post_ms = 5.0, 1.0, 0.1
        total_ns = round((age_ms + preprocess_ms + inference_ms + post_ms) * 1e6)
        answered_ns = round(answered_s * 1e9)
        name = label if label is not None else "unknown" if index is None else f"class {index}"
        return Answer(
            sequence=sequence,
            captured_ns=answered_ns - total_ns,
            answered_ns=answered_ns,
            label=name,
            index=index,
            confidence=confidence,
            top=((name, confidence),),
            capture_age_ms=age_ms,
            preprocess_ms=preprocess_ms,
            inference_ms=inference_ms,
            post_ms=post_ms,
        )

    return make


@pytest.fixture
def make_system() -> MakeSystem:
    def make(
        temperature_c: float | None = None, *, throttled: bool | None = None, occurred: tuple[str, ...] = ()
    ) -> SystemStatus:
        throttle = None if throttled is None else ThrottleStatus(throttled=throttled, has_occurred=occurred)
        return SystemStatus(
            board="host_cpu", cpu_percent=1.0, rss_mib=50.0, temperature_c=temperature_c, throttle=throttle
        )

    return make
