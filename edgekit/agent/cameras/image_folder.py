"""A folder of pictures, in the order of their names, as a camera would show them."""

from __future__ import annotations

from pathlib import Path

from edgekit.agent.camera import (
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
from edgekit.agent.capture.pace import Pace
from edgekit.core.errors import DataError
from edgekit.runtime.reading import PICTURE_SUFFIXES, read_picture

_DEFAULT_FPS = 1.0


class _ImageFolder:
    """Reads pictures as evaluation reads them. One that cannot be read is skipped, and counted as damaged."""

    def __init__(self, request: CameraRequest) -> None:
        self._folder = Path(request.source)
        self._loop = request.loop
        self._paths = _list_pictures(self._folder)
        fps = request.fps or _DEFAULT_FPS
        self.facts = CameraFacts(fps=fps if request.paced else None, on_demand=not request.paced)
        self._pace = Pace(fps if request.paced else None)
        self._index = -1
        self._num_bad = 0

    def grab(self) -> Grab | None:
        if self._index + 1 == len(self._paths):
            if not self._loop:
                return None
            self._index = -1
        self._index += 1
        return Grab(captured_ns=self._pace.wait(), time_source="arrival")

    def retrieve(self, room: Room) -> Shot:
        try:
            picture = read_picture(self._paths[self._index])
            place = copy_into(room, picture)
        except DataError as error:
            self._num_bad += 1
            if self._loop and self._num_bad >= len(self._paths):
                raise CameraLostError(f"no picture in {self._folder} can be read: {error.message}") from error
            raise
        self._num_bad = 0
        return Shot(picture=place, color_order="rgb" if place.shape[2] == 3 else "gray")

    def close(self) -> None:
        self._index = len(self._paths) - 1


def _list_pictures(folder: Path) -> list[Path]:
    if look_at(folder) != "folder":
        raise DataError(f"no folder at {folder}")
    try:
        paths = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and look_at(path) == "file"
        )
    except OSError as error:
        raise DataError(f"cannot read folder {folder}: {error.strerror or error}") from error
    if not paths:
        raise DataError(
            f"no pictures in {folder}", hint=f"files that end with {', '.join(sorted(PICTURE_SUFFIXES))} are read"
        )
    return paths


def _check(request: CameraRequest) -> None:
    _list_pictures(Path(request.source))


def _find_watched(request: CameraRequest) -> Path | None:
    return Path(request.source)


CAMERA = CameraKind(
    title="a folder of pictures",
    example="pictures/",
    open=_ImageFolder,
    check=_check,
    watched_path=_find_watched,
    is_live=False,
)
