"""What every kind of camera in the catalogue promises. A new one needs no test here."""

from __future__ import annotations

import contextlib
import inspect
import subprocess
import sys

import msgspec
import pytest

from edgekit.agent.camera import (
    CAMERAS,
    CameraKind,
    CameraLostError,
    CameraRequest,
    check_camera,
    look_at,
    parse_camera,
)
from edgekit.core.errors import EdgekitError, MissingDependencyError

HEAVY = ("torch", "onnx", "tensorflow", "typer", "rich", "onnxruntime", "ai_edge_litert", "matplotlib", "scipy")


@pytest.fixture(params=CAMERAS.names)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def kind(name: str) -> CameraKind:
    return CAMERAS.load(name)


def test_title_is_one_line(kind: CameraKind) -> None:
    assert 0 < len(kind.title) <= 100
    assert "\n" not in kind.title


def test_example_is_read_as_this_kind(name: str, kind: CameraKind, tmp_path: object) -> None:
    if name == "image_folder":  # told by looking at the disk
        assert parse_camera(f"{name}:{kind.example}").kind == name
        assert parse_camera(str(tmp_path)).kind == name
    else:
        assert parse_camera(kind.example).kind == name


def test_kind_may_be_named(name: str) -> None:
    request = parse_camera(f"{name}:somewhere")
    assert (request.kind, request.source) == (name, "somewhere")


def test_example_passes_the_check_or_names_what_is_missing(name: str, kind: CameraKind) -> None:
    request = parse_camera(f"{name}:{kind.example.removeprefix(f'{name}:')}")
    try:
        check_camera(request)
    except EdgekitError as caught:
        error = caught
    else:
        return
    if isinstance(error, MissingDependencyError):
        assert error.hint
    else:  # the example's file or folder
        assert kind.example.rstrip("/") in error.message


def test_opening_what_is_not_there_is_an_error_with_a_reason(name: str, kind: CameraKind) -> None:
    nowhere = {
        "mjpeg": "http://127.0.0.1:1/",
        "rtsp": "rtsp://127.0.0.1:1/",
        "synthetic": "160x120,needs=/nowhere",
        "v4l2": "/dev/nowhere",
    }
    request = CameraRequest(kind=name, source=nowhere.get(name, "99" if name in {"argus", "picamera2"} else "/nowhere"))
    with pytest.raises(EdgekitError) as caught:
        kind.open(request)
    assert caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("source", ["", "\0", "\n", "://", "a" * 5000, "-1", "%", "http://[", "../../etc/passwd", "é∞"])
def test_strange_source_never_raises_what_is_no_error_of_ours(name: str, kind: CameraKind, source: str) -> None:
    request = CameraRequest(kind=name, source=source)
    with contextlib.suppress(EdgekitError):
        check_camera(request)
        if kind.watched_path is not None:
            path = kind.watched_path(request)
            assert path is None or look_at(path) in {None, "file", "folder", "other"}


def test_request_survives_the_way_to_the_child(name: str) -> None:
    request = CameraRequest(kind=name, source="x", width=5, height=6, fps=7.5, min_size=(8, 9), loop=True)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=CameraRequest) == request


def test_open_takes_the_request_alone(kind: CameraKind) -> None:
    assert len(inspect.signature(kind.open).parameters) == 1
    assert issubclass(CameraLostError, EdgekitError)


def test_module_loads_nothing_heavy(name: str) -> None:
    program = f"import sys, edgekit.agent.cameras.{name}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
