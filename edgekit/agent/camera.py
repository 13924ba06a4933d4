"""Cameras: what is asked of one, what one offers, and how the text after `--camera` is read.

The folder `cameras/` is the catalogue, one file for each kind. Everything here runs in the capture process except
`parse_camera`, `check_camera` and `show_source`, which the agent itself calls; none of them opens anything.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import SplitResult, urlsplit

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.catalogue import Catalogue
from edgekit.core.errors import EdgekitError, UsageError
from edgekit.core.frame import ColorOrder, TimeSource

MAX_PIXELS = 64_000_000
"""Largest picture that is taken from a camera, by its header; the shared memory has room for four of them."""

MAX_JPEG_BYTES = 32 * 1024 * 1024
"""Largest coded picture that is taken from a camera."""

_VIDEO_SUFFIXES = frozenset((".avi", ".m4v", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"))
_SECRET_KEY = re.compile(r"pass|pwd|pw$|token|secret|key|auth|user|usr|login|cred|sess|sid|sig", re.IGNORECASE)


class CameraLostError(EdgekitError):
    """The camera is not there, or gives no pictures any more. It is opened again later; nobody has to act."""


class CameraRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of a camera.

    Args:
        kind: Catalogue name ("v4l2", "mjpeg", ...).
        source: Index, path, address or description, as its kind reads it. May hold a password: show `show_source`.
        width: Of the pictures, pixels; None for what the camera likes best.
        height: Of the pictures.
        fps: Frames per second to ask for, and to expect; None for what the camera says.
        loop: Files: begin again at the end.
        paced: Files and synthetic: at their own pace, as a camera; False: as fast as they are taken, none dropped.
        min_size: (height, width) that is needed at least: a JPEG larger than twice that is decoded at 1/2, 1/4 or 1/8.
            None: always in full.
        read_timeout_s: How long one picture may take before the camera counts as lost; None: 2 s, or three periods
            of the declared rate when that is longer.
        frozen_after: How many equal pictures in a row are called frozen.
    """

    kind: str
    source: str = ""
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    loop: bool = False
    paced: bool = True
    min_size: tuple[int, int] | None = None
    read_timeout_s: float | None = None
    frozen_after: int = 60

    def __repr__(self) -> str:
        return f"CameraRequest(kind={self.kind!r}, source={show_source(self)!r})"


class CameraFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an open camera says about itself.

    Args:
        width: Of the pictures, pixels; 0 when it is known only with the first.
        height: Of the pictures.
        fps: Frames per second that it declares; None when it does not say.
        on_demand: It waits until each frame is taken, so none is dropped (files, as fast as they are taken).
    """

    width: int = 0
    height: int = 0
    fps: float | None = None
    on_demand: bool = False


class Grab(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One frame that has come, not decoded yet.

    Args:
        captured_ns: On CLOCK_MONOTONIC.
        time_source: Whose clock that is.
    """

    captured_ns: int
    time_source: TimeSource


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """One decoded frame.

    Args:
        picture: uint8 [height, width, channels], 3 channels, or 1 for gray: an array that `room` gave.
        color_order: Of its channels.
        jpeg: The picture as the camera coded it, at most MAX_JPEG_BYTES; None when it was no JPEG.
        full_size: (height, width) as the camera sent it, where it was decoded smaller than that.
    """

    picture: npt.NDArray[np.uint8]
    color_order: ColorOrder
    jpeg: bytes | None = None
    full_size: tuple[int, int] | None = None


class Room(Protocol):
    """Place for one picture in the memory that both processes see."""

    def __call__(self, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
        """An array uint8 [height, width, channels] to write the picture to.

        Raises:
            DataError: More than MAX_PIXELS.
        """
        ...


class Camera(Protocol):
    """An open camera. One thread uses it."""

    @property
    def facts(self) -> CameraFacts:
        """What it says about itself."""
        ...

    def grab(self) -> Grab | None:
        """Wait for the next frame and keep it, not decoded, until the next call; None at the end of a file.

        Raises:
            CameraLostError: It gives no pictures any more.
        """
        ...

    def retrieve(self, room: Room) -> Shot:
        """Decode the frame that was grabbed last, into `room`.

        Raises:
            DataError: This one frame is damaged or too large; the next may be good.
            CameraLostError: It gives no pictures any more.
        """
        ...

    def close(self) -> None:
        """Give the device back. May be called twice."""
        ...


class CameraKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of camera, the `CAMERA` constant of a file in `cameras/`.

    Args:
        title: For people, one line.
        example: A text that `parse_camera` reads as this kind.
        open: Opens it. Raises CameraLostError when it may come later, another EdgekitError when somebody must act.
        check: Raises UsageError, DataError or MissingDependencyError for what can be told without opening it; must be
            cheap. None when there is nothing to tell.
        watched_path: The path whose appearing means that the camera is back; None for a kind or source without one.
        is_live: Whether it shows what is there now: then equal pictures in a row, or damaged ones, mean that something
            is wrong. False for files.
    """

    title: str
    example: str
    open: Callable[[CameraRequest], Camera]
    check: Callable[[CameraRequest], None] | None = None
    watched_path: Callable[[CameraRequest], Path | None] | None = None
    is_live: bool = True


CAMERAS: Catalogue[CameraKind] = Catalogue("edgekit.agent.cameras", "CAMERA", CameraKind, "camera kind")
"""All kinds of cameras."""


def parse_camera(text: str) -> CameraRequest:
    """Read the text after `--camera`. Nothing is opened and, but for paths, nothing is looked at.

    It is an index, a path, an address, or `KIND:SOURCE` with a name of the catalogue.

    Raises:
        UsageError: It means no camera.

    >>> request = parse_camera("rtsp://me:secret@kitchen/live")
    >>> request.kind, show_source(request)
    ('rtsp', 'rtsp://kitchen/live')
    >>> parse_camera("0").kind, parse_camera("synthetic:640x480@30").source, parse_camera("argus").source
    ('v4l2', '640x480@30', '')
    """
    text = text.strip()
    scheme, separator, rest = text.partition(":")
    if text.isdecimal() or text.startswith("/dev/"):
        return CameraRequest(kind="v4l2", source=text)
    if separator and rest.startswith("//"):
        if scheme.lower() in {"rtsp", "rtsps"}:
            return CameraRequest(kind="rtsp", source=text)
        if scheme.lower() in {"http", "https"}:
            return CameraRequest(kind="mjpeg", source=text)
        raise UsageError(
            f"no camera at a {scheme}:// address", hint="addresses begin with rtsp://, rtsps://, http:// or https://"
        )
    if scheme in CAMERAS.names:
        return CameraRequest(kind=scheme, source=rest)
    path = Path(text).expanduser()
    if text and look_at(path) == "folder":
        return CameraRequest(kind="image_folder", source=str(path))
    if path.suffix.lower() in _VIDEO_SUFFIXES or (text and look_at(path) == "file"):
        return CameraRequest(kind="video_file", source=str(path))
    examples = ", ".join(CAMERAS.load(name).example for name in CAMERAS.names)
    raise UsageError(f"no camera {text!r}: no index, device, address, file or folder", hint=f"for example: {examples}")


def check_camera(request: CameraRequest) -> None:
    """Say what is wrong with a request as far as it can be told without opening the camera.

    Raises:
        UnknownNameError: No such kind.
        UsageError: A value out of range, or a source that its kind cannot read.
        DataError: A file that does not exist.
        MissingDependencyError: Its library is not installed.
    """
    kind = CAMERAS.load(request.kind)
    for name, value in (("width", request.width), ("height", request.height), ("fps", request.fps)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"camera {name} is {value}, expected more than 0")
    if (request.width is None) != (request.height is None):
        raise UsageError("camera width and height go together", hint="give both, or neither")
    if (request.width or 0) * (request.height or 0) > MAX_PIXELS:
        raise UsageError(f"{request.width}x{request.height} pixels asked of the camera, at most {MAX_PIXELS}")
    if request.read_timeout_s is not None and not 0 < request.read_timeout_s < float("inf"):
        raise UsageError(f"camera read_timeout_s is {request.read_timeout_s}, expected more than 0")
    if request.frozen_after < 2:
        raise UsageError(f"camera frozen_after is {request.frozen_after}, expected at least 2")
    if kind.check is not None:
        kind.check(request)


def show_source(request: CameraRequest) -> str:
    """The source as people may see it: an address without user name, password, and whatever looks like one.

    >>> show_source(CameraRequest(kind="mjpeg", source="http://a:b@cam:8080/video?usr=a&pwd=b&fps=5#x"))
    'http://cam:8080/video?usr=***&pwd=***&fps=5'
    """
    if "://" not in request.source:
        return request.source
    try:
        parts = urlsplit(request.source)
    except ValueError:
        return request.source.partition("://")[0] + "://..."
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(_show_pair(pair) for pair in parts.query.split("&"))
    return SplitResult(parts.scheme, host, parts.path, query, "").geturl()


def _show_pair(pair: str) -> str:
    key, separator, _ = pair.partition("=")
    return f"{key}=***" if separator and _SECRET_KEY.search(key) else pair


def look_at(path: Path) -> Literal["file", "folder", "other"] | None:
    """What lies at a path; None for nothing, or nothing that may be looked at. Never raises."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a null character
        return None
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def choose_reduction(height: int, width: int, min_size: tuple[int, int] | None) -> int:
    """The largest of 1, 2, 4, 8 by which a JPEG can be decoded smaller and still has the size that is needed.

    >>> choose_reduction(480, 640, (224, 224)), choose_reduction(480, 640, (96, 96)), choose_reduction(480, 640, None)
    (2, 4, 1)
    """
    if min_size is None:
        return 1
    fitting = [k for k in (2, 4, 8) if height // k >= min_size[0] and width // k >= min_size[1]]
    return max(fitting, default=1)


def copy_into(room: Room, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Copy a picture, uint8 [height, width] or [height, width, channels], to the shared memory."""
    if picture.ndim == 2:
        picture = picture[:, :, np.newaxis]
    place = room(*picture.shape)
    np.copyto(place, picture)
    return place
