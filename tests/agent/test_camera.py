"""The text after --camera, and what is shown of it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.camera import (
    CAMERAS,
    MAX_PIXELS,
    CameraRequest,
    check_camera,
    choose_reduction,
    parse_camera,
    show_source,
)
from edgekit.core.errors import DataError, UnknownNameError, UsageError


@pytest.mark.parametrize(
    ("text", "kind", "source"),
    [
        ("0", "v4l2", "0"),
        (" 2 ", "v4l2", "2"),
        ("/dev/video0", "v4l2", "/dev/video0"),
        ("/dev/v4l/by-id/usb-cam", "v4l2", "/dev/v4l/by-id/usb-cam"),
        ("rtsp://cam/live", "rtsp", "rtsp://cam/live"),
        ("RTSPS://cam/live", "rtsp", "RTSPS://cam/live"),
        ("http://cam:8080/video", "mjpeg", "http://cam:8080/video"),
        ("https://cam/video", "mjpeg", "https://cam/video"),
        ("synthetic", "synthetic", ""),
        ("synthetic:640x480@30", "synthetic", "640x480@30"),
        ("argus:1", "argus", "1"),
        ("picamera2", "picamera2", ""),
        ("mjpeg:http://cam/x", "mjpeg", "http://cam/x"),
        ("video_file:strange", "video_file", "strange"),
        ("not/there/yet.MP4", "video_file", "not/there/yet.MP4"),
    ],
)
def test_text_is_read_as_the_kind_that_it_looks_like(text: str, kind: str, source: str) -> None:
    request = parse_camera(text)

    assert (request.kind, request.source) == (kind, source)


def test_existing_path_is_read_by_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(b"x")

    assert parse_camera(str(tmp_path)).kind == "image_folder"
    assert parse_camera(str(tmp_path / "film")).kind == "video_file"


@pytest.mark.parametrize("text", ["", "webcam", "ftp://cam/x", "no/such/folder", "-1"])
def test_text_is_refused_when_it_means_no_camera(text: str) -> None:
    with pytest.raises(UsageError, match="no camera"):
        parse_camera(text)


WORD = st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!$@:/?#%&= ", min_size=4, max_size=12).map(
    lambda text: "S3" + text + "T9"  # long enough not to stand elsewhere in the address
)


@given(user=WORD, password=WORD, key=st.sampled_from(["pwd", "password", "token", "usr", "auth_key"]))
def test_shown_source_never_holds_a_secret(user: str, password: str, key: str) -> None:
    secrets = [quote(user, safe=""), quote(password, safe="")]
    address = f"http://{secrets[0]}:{secrets[1]}@camera:8080/video?{key}={secrets[1]}&channel=1"

    request = CameraRequest(kind="mjpeg", source=address)

    for shown in (show_source(request), repr(request), f"{request}"):
        assert secrets[0] not in shown
        assert secrets[1] not in shown
    assert show_source(request) == f"http://camera:8080/video?{key}=***&channel=1"


@pytest.mark.parametrize("source", ["http://a:b@[bad/x", "rtsp://u:p@h:port/x", "http://u:p@h/x?y=1#p"])
def test_shown_source_holds_no_password_when_the_address_is_no_good(source: str) -> None:
    shown = show_source(CameraRequest(kind="mjpeg", source=source))

    assert ":p@" not in shown
    assert ":b@" not in shown


@pytest.mark.parametrize(
    "source", ["http:///x", "http://cam:99999/x", "http://cam:abc/x", "http://ca m/", "ftp://cam/", ""]
)
@pytest.mark.parametrize("kind", ["mjpeg", "rtsp"])
def test_address_is_refused_when_it_is_none(kind: str, source: str) -> None:
    source = source.replace("http", "rtsp") if kind == "rtsp" else source
    with pytest.raises(UsageError, match=r"no (HTTP|RTSP) address"):
        check_camera(CameraRequest(kind=kind, source=source))


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0, "height": 10},
        {"width": 640},
        {"width": MAX_PIXELS, "height": 2},
        {"fps": 0.0},
        {"fps": float("inf")},
        {"read_timeout_s": 0.0},
        {"frozen_after": 1},
    ],
)
def test_request_is_refused_when_a_value_is_out_of_range(changes: dict[str, int | float]) -> None:
    request = CameraRequest(kind="synthetic")
    check_camera(request)

    with pytest.raises(UsageError):
        check_camera(msgspec.structs.replace(request, **changes))


def test_unknown_kind_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError) as caught:
        check_camera(CameraRequest(kind="sythetic"))
    assert caught.value.suggestion == "synthetic"


def test_missing_file_and_folder_are_told_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no video file"):
        check_camera(CameraRequest(kind="video_file", source=str(tmp_path / "no.mp4")))
    with pytest.raises(DataError, match="no folder"):
        check_camera(CameraRequest(kind="image_folder", source=str(tmp_path / "no")))
    with pytest.raises(DataError, match="no pictures"):
        check_camera(CameraRequest(kind="image_folder", source=str(tmp_path)))


@given(
    height=st.integers(1, 5000), width=st.integers(1, 5000), need=st.tuples(st.integers(1, 600), st.integers(1, 600))
)
def test_reduction_keeps_at_least_what_is_needed(height: int, width: int, need: tuple[int, int]) -> None:
    reduction = choose_reduction(height, width, need)

    assert reduction in {1, 2, 4, 8}
    assert reduction == 1 or (height // reduction >= need[0] and width // reduction >= need[1])
    larger = 2 * reduction
    assert larger > 8 or height // larger < need[0] or width // larger < need[1]


def test_catalogue_holds_the_promised_kinds() -> None:
    promised = {"argus", "image_folder", "mjpeg", "picamera2", "rtsp", "synthetic", "v4l2", "video_file"}
    assert promised <= set(CAMERAS.names)


@pytest.mark.parametrize("text", ["a" * 5000, "a\0b", "/proc/1/fd/x"])
def test_path_that_cannot_be_looked_at_is_no_camera(text: str) -> None:
    with pytest.raises(UsageError, match="no camera"):
        parse_camera(text)
