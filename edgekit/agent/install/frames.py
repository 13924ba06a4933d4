"""Live frames for a trial: pictures of the agent that serves, or of a camera that nobody else has."""

from __future__ import annotations

import contextlib
import http.client
import math
import time
from collections.abc import Callable, Generator, Iterator
from urllib.parse import urlsplit

import msgspec

from edgekit.agent.camera import MAX_JPEG_BYTES
from edgekit.agent.capture.supervisor import CaptureSupervisor
from edgekit.agent.install.messages import FrameSettings
from edgekit.core.errors import DataError, EdgekitError
from edgekit.core.frame import ColorOrder
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.runtime.preprocess import Picture
from edgekit.runtime.reading import decode_picture

_WAIT_S = 0.25
_PERIOD_S = 0.1
_REQUEST_TIMEOUT_S = 5.0


class FramesMissingError(Exception):
    """No frame came in time; says why. That is no fault of the model's."""


@contextlib.contextmanager
def live_frames(
    settings: FrameSettings, spec: PreprocessSpec, beat: Callable[[], None]
) -> Generator[Iterator[tuple[Picture, ColorOrder]], None, None]:
    """Open a source of frames, without an end.

    Args:
        settings: Which, and how long all of them may take.
        spec: How the model wants its pictures: a camera need not decode more.
        beat: Called while waiting.

    Yields:
        An iterator of pictures, uint8 [height, width, channels], each good until the next, and their colours' order.
        It raises `FramesMissingError` when none comes in time.
    """
    until_s = time.monotonic() + settings.timeout_s
    if settings.camera is None:
        yield _snapshots(settings, until_s, beat)
        return
    needed = (
        math.ceil(spec.input_size[0] / spec.crop_fraction),
        math.ceil(spec.input_size[1] / spec.crop_fraction),
    )
    try:
        camera = CaptureSupervisor(msgspec.structs.replace(settings.camera, min_size=needed))
    except EdgekitError as error:
        raise FramesMissingError(str(error)) from error
    try:
        camera.start()
        yield _camera_frames(camera, until_s, beat)
    finally:
        camera.stop()


def _camera_frames(
    camera: CaptureSupervisor, until_s: float, beat: Callable[[], None]
) -> Iterator[tuple[Picture, ColorOrder]]:
    while True:
        beat()
        frame = camera.take(_WAIT_S)
        if frame is not None:
            yield frame.picture, frame.color_order
            continue
        status = camera.status()
        if status.state == "ended" or time.monotonic() > until_s:
            raise FramesMissingError(f"camera {status.kind} is {status.state} {status.detail}".rstrip())


def _snapshots(
    settings: FrameSettings, until_s: float, beat: Callable[[], None]
) -> Iterator[tuple[Picture, ColorOrder]]:
    while True:
        beat()
        try:
            content = _get(settings)
            picture = decode_picture(content, name="snapshot.jpg")
        except (OSError, http.client.HTTPException, DataError, ValueError) as error:
            if time.monotonic() > until_s:
                raise FramesMissingError(f"{settings.snapshot_url}: {error or type(error).__name__}") from error
            time.sleep(_WAIT_S)
            continue
        yield picture, "rgb"
        time.sleep(_PERIOD_S)


def _get(settings: FrameSettings) -> bytes:
    """One picture. No proxy is asked: it is a neighbour's process."""
    address = urlsplit(settings.snapshot_url or "")
    if address.scheme != "http" or not address.hostname:
        raise DataError(f"{settings.snapshot_url} is no http:// address")
    headers = {} if settings.token is None else {"Authorization": f"Bearer {settings.token}"}
    connection = http.client.HTTPConnection(address.hostname, address.port or 80, timeout=_REQUEST_TIMEOUT_S)
    try:
        connection.request("GET", address.path or "/snapshot.jpg", headers=headers)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise DataError(f"answers {answer.status} {answer.reason}")
        content = answer.read(MAX_JPEG_BYTES + 1)
    finally:
        connection.close()
    if len(content) > MAX_JPEG_BYTES:
        raise DataError(f"sends more than {MAX_JPEG_BYTES:,} bytes")
    return content
