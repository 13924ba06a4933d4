"""Which pictures are kept for a human to label: a fair few of the many that made the model unsure.

Per reason a reservoir of k pictures. Each candidate draws a rank, u ** (1 / weight) with u uniform in 0..1, and the k
highest stay (weighted sampling without replacement: Efraimidis and Spirakis 2006, A-Res). The less sure an answer, the
more its picture weighs. Ranks are written beside the pictures, so a restart goes on where it was. A minute passes
between candidates of one reason: the frames of one second are all the same picture.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.agent.telemetry.samples import (
    Sample,
    SampleNote,
    SampleReason,
    list_samples,
    remove_leftovers,
    remove_sample,
    write_sample,
)
from edgekit.core.errors import EdgekitError
from edgekit.core.frame import Answer, ColorOrder, Frame

_JPEG_QUALITY = 90
_STOP_TIMEOUT_S = 5.0


class SampleConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many pictures are kept, and which.

    Args:
        max_per_reason: Pictures kept per reason.
        max_bytes: Of all files together, but for the moment in which a new one replaces an old one.
        interval_s: Least time between two candidates of one reason.
        uncertain_below: An answer less sure than this is a candidate.
        retry_s: Time until a disk that refused is tried again.
    """

    max_per_reason: int = 32
    max_bytes: int = 16 * 2**20
    interval_s: float = 60.0
    uncertain_below: float = 0.5
    retry_s: float = 60.0


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept, and why nothing can be: `detail` is "" while all is well."""

    num_samples: int
    size_bytes: int
    detail: str


class _Candidate(msgspec.Struct, frozen=True, kw_only=True):
    note: SampleNote
    jpeg: bytes | None
    picture: npt.NDArray[np.uint8] | None
    color_order: ColorOrder


class SampleStore:
    """Keeps sample pictures in a folder. The inference loop offers; a thread of its own codes and writes.

    A disk that is full or read-only is told in `state` and tried again later; nothing is raised.

    Args:
        folder: Made when it is first needed.
        config: None for the defaults.
        clock: Monotonic seconds.
        wall_clock: Unix seconds, for the notes.
        draw: Uniform numbers in 0..1; None for random ones.
    """

    def __init__(
        self,
        folder: Path,
        config: SampleConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        draw: Callable[[], float] | None = None,
    ) -> None:
        self._folder = folder
        self._config = config or SampleConfig()
        self._clock = clock
        self._wall_clock = wall_clock
        self._draw = draw or random.SystemRandom().random
        self._changed = threading.Condition()
        self._kept: list[Sample] = []
        self._detail = ""
        self._due_s: dict[SampleReason, float] = {"drifted": 0.0, "uncertain": 0.0}
        self._candidate: _Candidate | None = None
        self._is_stopping = False
        self._thread = threading.Thread(target=self._write_candidates, name="samples", daemon=True)
        self._thread.start()

    def offer(self, frame: Frame, answer: Answer, flags: tuple[str, ...]) -> None:
        """Keep this picture, perhaps. Costs next to nothing unless it is kept, and then one copy of the picture.

        Args:
            frame: The picture; it is copied, or its JPEG taken as it is.
            answer: What was said about it.
            flags: What has drifted at the moment.
        """
        reason = self._reason(answer, flags)
        now_s = self._clock()
        if reason is None or now_s < self._due_s[reason]:
            return
        with self._changed:
            if self._candidate is not None or self._is_stopping:
                return
            self._due_s[reason] = now_s + self._config.interval_s
            weight = max(1.0 - answer.confidence, 1e-6) if reason == "uncertain" else 1.0
            rank = self._draw() ** (1.0 / weight)
            ranks = [sample.note.rank for sample in self._kept if sample.note.reason == reason]
            if len(ranks) >= self._config.max_per_reason and rank <= min(ranks):
                return
            self._candidate = _Candidate(
                note=SampleNote(
                    reason=reason,
                    time_unix_s=self._wall_clock(),
                    label=answer.label,
                    confidence=answer.confidence,
                    top=answer.top,
                    flags=flags,
                    sequence=answer.sequence,
                    rank=rank,
                ),
                jpeg=None if frame.jpeg is None else bytes(frame.jpeg),
                picture=None if frame.jpeg is not None else np.array(frame.picture),
                color_order=frame.color_order,
            )
            self._changed.notify_all()

    def state(self) -> StoreState:
        """What is kept now."""
        with self._changed:
            return StoreState(
                num_samples=len(self._kept),
                size_bytes=sum(sample.size_bytes for sample in self._kept),
                detail=self._detail,
            )

    def stop(self) -> None:
        """Write what waits, and end the thread. May be called again."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._thread.join(_STOP_TIMEOUT_S)

    def _reason(self, answer: Answer, flags: tuple[str, ...]) -> SampleReason | None:
        if flags and self._clock() >= self._due_s["drifted"]:
            return "drifted"
        is_uncertain = answer.index is None or answer.confidence < self._config.uncertain_below
        return "uncertain" if is_uncertain else None

    def _write_candidates(self) -> None:
        self._open_folder()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._candidate is not None or self._is_stopping)
                candidate = self._candidate
            if candidate is None:
                return
            detail = self._write(candidate)
            with self._changed:
                self._detail = detail
                self._candidate = None
                if detail:
                    later_s = self._clock() + self._config.retry_s
                    self._due_s = {"drifted": later_s, "uncertain": later_s}
                self._changed.notify_all()

    def _open_folder(self) -> None:
        try:
            if self._folder.is_dir():
                remove_leftovers(self._folder)
            self._trim()
        except (OSError, EdgekitError) as error:
            with self._changed:
                self._detail = f"sample pictures: {error}"

    def _write(self, candidate: _Candidate) -> str:
        """Code and write a picture; why it could not be, or "".

        Room is made afterwards: where the disk is full, no old picture goes for a new one that cannot come.
        """
        note = candidate.note
        name = f"{note.reason}-{max(0, round(note.time_unix_s))}-{random.getrandbits(32):08x}"
        try:
            jpeg = candidate.jpeg or _encode(candidate)
            if jpeg is not None and len(jpeg) <= self._config.max_bytes // 4:
                write_sample(self._folder, name, jpeg, note)
                self._trim()
        except (OSError, EdgekitError) as error:
            return f"sample pictures: {error}"
        return ""

    def _trim(self) -> None:
        """Look what is there, and delete the lowest ranks: per reason beyond the number, then beyond the bytes."""
        by_rank = sorted(list_samples(self._folder), key=lambda sample: -sample.note.rank)
        kept: list[Sample] = []
        size_bytes = 0
        for sample in by_rank:
            num_same = sum(other.note.reason == sample.note.reason for other in kept)
            if num_same < self._config.max_per_reason and size_bytes + sample.size_bytes <= self._config.max_bytes:
                kept.append(sample)
                size_bytes += sample.size_bytes
            else:
                remove_sample(sample)
        with self._changed:
            self._kept = kept


def _encode(candidate: _Candidate) -> bytes | None:
    picture = candidate.picture
    if picture is None:
        return None
    if candidate.color_order == "rgb":
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    is_coded, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes() if is_coded else None
