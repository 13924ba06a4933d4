"""A real V4L2 device (the kernel's vivid driver, in an emulated machine), and what may happen to one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from board_watch import Look, Watch
from emulated_device.guest import Guest

pytestmark = [pytest.mark.board, pytest.mark.timeout(600)]

_WATCH = "exec python3 -u /opt/edgekit/tests/board/watch_camera.py"


def is_streaming(look: Look) -> bool:
    return look["state"] == "streaming" and look["num_frames"] >= 3


def is_lost(look: Look) -> bool:
    return look["state"] == "lost"


@pytest.fixture
def camera(guest: Guest) -> Iterator[Guest]:
    """The machine, with a camera that is well and shows something that moves, before and after."""
    guest.show("live")
    yield guest
    guest.remote.run("test -e /dev/video0 || modprobe vivid")
    for name in ("flow", "present"):
        guest.fault(name)


def watch_camera(guest: Guest, *words: str) -> Watch:
    return Watch(guest.remote, " ".join([_WATCH, *words]))


def test_frames_carry_the_time_of_the_driver(camera: Guest) -> None:
    with watch_camera(camera, "0") as watch:
        look = watch.until(is_streaming)
        end = watch.stop()

    assert look["kind"] == "v4l2"
    assert look["frame"]["size"] == [640, 480]
    assert look["frame"]["order"] == "bgr"
    assert look["frame"]["time_source"] == look["time_source"] == "driver"
    assert look["declared_fps"] == pytest.approx(25)
    assert look["frame"]["age_ms"] >= 0
    assert all(line["rises"] for line in watch.looks if "rises" in line)
    assert end["stop_s"] < 10


def test_frames_carry_the_time_of_arrival_when_that_of_the_driver_cannot_be_true(camera: Guest) -> None:
    camera.fault("future")

    with watch_camera(camera, "0") as watch:
        look = watch.until(is_streaming)

    assert look["frame"]["time_source"] == "arrival"
    assert look["frame"]["age_ms"] >= 0


@pytest.mark.parametrize(("colour", "bgr"), [("red", [0, 0, 255]), ("green", [0, 255, 0]), ("blue", [255, 0, 0])])
def test_colours_are_exact(camera: Guest, colour: str, bgr: list[int]) -> None:
    camera.show(colour)

    with watch_camera(camera, "0") as watch:
        look = watch.until(is_streaming)

    assert look["frame"]["low"] == look["frame"]["high"] == bgr


def test_format_and_rate_are_negotiated(camera: Guest) -> None:
    with watch_camera(camera, "/dev/video0", "width=320", "height=180", "fps=10") as watch:
        look = watch.until(is_streaming)
        driver = camera.remote.run("v4l2-ctl -d0 --get-fmt-video --get-parm")

    assert look["frame"]["size"] == [look["width"], look["height"]] == [320, 180]
    assert "320/180" in driver
    assert "10.000 (10/1)" in driver


def test_equal_pictures_are_shown_as_frozen_until_they_change(camera: Guest) -> None:
    with watch_camera(camera, "0") as watch:
        watch.until(is_streaming)
        camera.show("red")
        frozen = watch.until(lambda look: look["state"] == "frozen")
        camera.show("live")
        moving = watch.until(is_streaming)

    assert "the same picture" in frozen["detail"]
    assert moving["num_lost"] == 0
    assert moving["children"] == frozen["children"]


@pytest.mark.parametrize("fault", ["disconnect", "fatal"])
def test_camera_recovers_without_a_new_process_of_the_agent(camera: Guest, fault: str) -> None:
    with watch_camera(camera, "0") as watch:
        first = watch.until(is_streaming)
        for num_lost in (1, 2, 3):
            camera.fault(fault)
            lost = watch.until(is_lost)
            back = watch.until(lambda look, n=num_lost: is_streaming(look) and look["num_lost"] == n)
            watch.until(lambda look, n=back["num_frames"]: look["num_frames"] > n + 3)

    assert lost["detail"]
    assert back["pid"] == first["pid"]
    assert all(line["rises"] for line in watch.looks if "rises" in line)


def test_camera_recovers_when_it_is_plugged_in_again(camera: Guest) -> None:
    with watch_camera(camera, "0") as watch:
        first = watch.until(is_streaming)
        camera.fault("unplug")
        lost = watch.until(is_lost)
        camera.remote.run("test ! -e /dev/video0")
        watch.until(lambda look: is_lost(look) and look["at_s"] > lost["at_s"] + 5)
        camera.fault("plug")
        back = watch.until(is_streaming)

    assert lost["retry_in_s"] is None or 0 <= lost["retry_in_s"] <= 8
    assert back["pid"] == first["pid"]
    assert back["num_lost"] == 1


def test_camera_without_pictures_is_lost_until_they_flow_again(camera: Guest) -> None:
    with watch_camera(camera, "0") as watch:
        first = watch.until(is_streaming)
        camera.fault("stall")
        lost = watch.until(is_lost)
        camera.fault("flow")
        back = watch.until(is_streaming)

    assert "pictures" in lost["detail"] or "picture" in lost["detail"]
    assert back["pid"] == first["pid"]
    assert back["num_lost"] == 1


def test_capture_that_hangs_is_killed_and_replaced(camera: Guest) -> None:
    with watch_camera(camera, "0") as watch:
        first = watch.until(is_streaming)
        camera.remote.run(f"kill -STOP {first['children'][0]}")
        lost = watch.until(is_lost)
        back = watch.until(is_streaming)
        camera.remote.run(f"test ! -e /proc/{first['children'][0]}")

    assert "no picture for" in lost["detail"]
    assert back["pid"] == first["pid"]
    assert back["children"] != first["children"]


def test_damaged_buffer_does_not_lose_the_camera(camera: Guest) -> None:
    with watch_camera(camera, "0") as watch:
        first = watch.until(is_streaming)
        for _ in range(3):
            camera.fault("bad-buffer")
        later = watch.until(lambda look: is_streaming(look) and look["num_frames"] > first["num_frames"] + 10)

    assert later["num_lost"] == 0
    assert later["children"] == first["children"]


def test_busy_camera_is_said_to_be_busy_and_opened_when_it_is_free(camera: Guest) -> None:
    occupied = Watch(camera.remote, "v4l2-ctl -d0 --stream-mmap --stream-to=/dev/null & echo '{}'; cat; kill $!; wait")
    with occupied, watch_camera(camera, "0") as watch:
        occupied.until(lambda _: True)
        refused = watch.until(is_lost)
        occupied.stop()
        back = watch.until(is_streaming)

    assert "busy" in refused["detail"].lower() or "in use" in refused["detail"].lower()
    assert back["frame"]["size"] == [640, 480]
