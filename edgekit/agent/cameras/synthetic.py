"""No camera at all: a moving pattern with the capture time painted into it, and faults on request.

The source is `WIDTHxHEIGHT@FPS,FAULT=VALUE,...`, every part optional. Faults, each counted from every opening:

- `lose_after=N`: gives up after N frames; `hang_after=N`: never returns; `die_after=N`: the process ends;
- `freeze_after=N`: the same picture ever after; `shrink_after=N`: half the size;
- `damage_every=N`: every Nth cannot be decoded; `back_after=N`: the clock of the camera runs an hour behind;
- `needs=PATH`: lost while there is no file of that name, as an unplugged device; `stalls_without=PATH`: hangs then;
- `plain=1`: every picture is one gray level, its number modulo 256, and carries no time.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.agent.camera import (
    MAX_PIXELS,
    CameraFacts,
    CameraKind,
    CameraLostError,
    CameraRequest,
    Grab,
    Room,
    Shot,
    copy_into,
    look_at,
)
from edgekit.agent.capture.painted_time import MIN_WIDTH, paint_time
from edgekit.core.errors import DataError, UsageError

_SIZE = re.compile(r"(?:(\d{1,5})x(\d{1,5}))?(?:@(\d+(?:\.\d+)?))?")
_SCROLL_ROWS = 64
_HOUR_NS = 3_600_000_000_000


class _Pattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    width: int = 640
    height: int = 480
    fps: float = 30.0
    lose_after: int | None = None
    hang_after: int | None = None
    die_after: int | None = None
    freeze_after: int | None = None
    shrink_after: int | None = None
    back_after: int | None = None
    damage_every: int | None = None
    needs: str | None = None
    stalls_without: str | None = None
    plain: bool = False


class _Synthetic:
    """Paints only when asked: a frame that nobody takes costs a look at the clock."""

    def __init__(self, request: CameraRequest) -> None:
        self._pattern = _read_source(request)
        fps = self._pattern.fps
        self.facts = CameraFacts(
            width=self._pattern.width,
            height=self._pattern.height,
            fps=fps or None,
            on_demand=not request.paced or fps == 0,
        )
        self._period_ns = 0 if self.facts.on_demand else round(1e9 / fps)
        self._due_ns = time.monotonic_ns() + self._period_ns
        self._count = 0
        self._captured_ns = 0
        self._scroll = 0
        self._canvas = _draw(self._pattern.height, self._pattern.width)
        if not _is_there(self._pattern.needs):
            raise CameraLostError(f"no camera: {self._pattern.needs} is missing")

    def grab(self) -> Grab:
        pattern = self._pattern
        self._wait()
        self._count += 1
        if _is_over(pattern.die_after, self._count):
            os._exit(9)
        if _is_over(pattern.lose_after, self._count) or not _is_there(pattern.needs):
            raise CameraLostError("the synthetic camera went away")
        while _is_over(pattern.hang_after, self._count) or not _is_there(pattern.stalls_without):
            time.sleep(0.02)
        if not _is_over(pattern.freeze_after, self._count):
            self._captured_ns = time.monotonic_ns()
            self._scroll = self._count % _SCROLL_ROWS
        behind_ns = _HOUR_NS if _is_over(pattern.back_after, self._count) else 0
        return Grab(captured_ns=time.monotonic_ns() - behind_ns, time_source="painted")

    def retrieve(self, room: Room) -> Shot:
        pattern = self._pattern
        if pattern.damage_every and self._count % pattern.damage_every == 0:
            raise DataError("damaged on request")
        if _is_over(pattern.shrink_after, self._count) and self._canvas.shape[1] == pattern.width:
            self._canvas = _draw(pattern.height // 2, pattern.width // 2)
        height = self._canvas.shape[0] - _SCROLL_ROWS
        picture = copy_into(room, self._canvas[self._scroll : self._scroll + height])
        if pattern.plain:
            picture[:] = self._count % 256
        else:
            paint_time(picture, self._captured_ns)
        return Shot(picture=picture, color_order="rgb")

    def close(self) -> None:
        pass

    def _wait(self) -> None:
        if not self._period_ns:
            return
        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns:
            time.sleep((self._due_ns - now_ns) / 1e9)
            self._due_ns += self._period_ns
        else:  # late: what a camera saw meanwhile is gone
            self._due_ns = now_ns + self._period_ns


def _is_over(limit: int | None, count: int) -> bool:
    return limit is not None and count > limit


def _is_there(path: str | None) -> bool:
    return path is None or look_at(Path(path)) is not None


def _draw(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Slopes and bars, _SCROLL_ROWS higher than the picture, which is a part of it that moves."""
    row = np.arange(height + _SCROLL_ROWS)[:, np.newaxis]
    column = np.arange(width)[np.newaxis, :]
    bars = ((row // 16 + column // 32) % 2) * 60
    red = column * 180 // width + bars
    green = (row % _SCROLL_ROWS) * 180 // _SCROLL_ROWS + bars
    return np.stack([red + 0 * row, green + 0 * column, 200 - bars], axis=2).astype(np.uint8)


def _read_source(request: CameraRequest) -> _Pattern:
    size, *options = request.source.split(",")
    match = _SIZE.fullmatch(size)
    if match is None:
        raise UsageError(
            f"synthetic camera {size!r}, expected WIDTHxHEIGHT@FPS", hint="for example synthetic:640x480@30"
        )
    asked: dict[str, str | int | float] = {}
    for option in options:
        name, separator, value = option.partition("=")
        if not separator:
            raise UsageError(f"synthetic camera option {option!r}, expected NAME=VALUE")
        asked[name] = value
    if match[1]:
        asked.update(width=match[1], height=match[2])
    if match[3]:
        asked["fps"] = match[3]
    if request.width is not None and request.height is not None:
        asked.update(width=request.width, height=request.height)
    if request.fps is not None:
        asked["fps"] = request.fps
    try:
        pattern = msgspec.convert(asked, _Pattern, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"synthetic camera {request.source!r}: {error}") from error
    if not MIN_WIDTH <= pattern.width <= 8 * pattern.height or pattern.width * pattern.height > MAX_PIXELS:
        raise UsageError(
            f"synthetic camera of {pattern.width}x{pattern.height}, expected at least {MIN_WIDTH} wide, at most 8 times"
            f" as wide as high, and at most {MAX_PIXELS} pixels"
        )
    return pattern


def _check(request: CameraRequest) -> None:
    _read_source(request)


def _find_watched(request: CameraRequest) -> Path | None:
    needs = _read_source(request).needs
    return Path(needs) if needs else None


CAMERA = CameraKind(
    title="a moving pattern with its time painted in, for tests",
    example="synthetic:640x480@30",
    open=_Synthetic,
    check=_check,
    watched_path=_find_watched,
)
