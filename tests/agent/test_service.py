from __future__ import annotations

import gc
import itertools
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from agent_fakes import LABELS, BrightnessModel
from agent_lives import DEADLINE_S, Watching, config, loaded, running
from edgekit.agent import outside, service
from edgekit.agent.loop import LoopSettings
from edgekit.agent.service import WEDGED_EXIT_CODE, Agent, Loaded
from edgekit.agent.web.config import WebConfig
from edgekit.core.device_status import DeviceStatus, ModelStatus
from edgekit.core.errors import BarNotMetError, GraphError, UsageError
from mjpeg_server import MjpegServer


class Hanging(BrightnessModel):
    """A model whose runtime does not come back after some answers, until it is let go."""

    def __init__(self, num_answers: int) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self._num_left = num_answers

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        self._num_left -= 1
        if self._num_left < 0:
            self.let_go.wait()
        return super().run(batch)


def test_agent_goes_from_starting_to_serving_to_stopping_and_counts_every_answer(tmp_path: Path) -> None:
    watching = Watching()

    def load(_: object) -> Loaded:
        watching.wait(lambda status: status.state == "starting")
        return loaded()

    with running(Agent(config(tmp_path), load, [watching])):
        serving = watching.wait(lambda status: status.state == "serving" and status.num_answers > 20)
    last = watching.statuses[-1]
    assert last.state == "stopping"
    assert serving.model is not None
    assert serving.answer is not None
    assert serving.answer.label in LABELS
    assert [stage.n for stage in last.total] == [last.num_answers] * 5
    assert last.camera.num_grabbed >= last.num_answers
    assert (serving.camera.width, serving.camera.height) == (160, 120)
    assert (serving.device_id, serving.system.board) == ("kitchen", "host_cpu")


def test_agent_ends_by_itself_after_so_many_answers(tmp_path: Path) -> None:
    watching = Watching()
    agent = Agent(config(tmp_path, loop=LoopSettings(max_frames=5)), lambda _: loaded(), [watching])
    agent.run(threading.Event())
    assert watching.statuses[-1].num_answers == 5
    assert not agent.is_stuck


def test_agent_takes_every_frame_of_a_source_that_waits_for_it(tmp_path: Path) -> None:
    watching = Watching()
    asked = config(tmp_path, camera={"paced": False}, loop=LoopSettings(max_frames=300))
    Agent(asked, lambda _: loaded(), [watching]).run(threading.Event())
    assert watching.statuses[-1].num_answers == 300
    assert watching.statuses[-1].camera.num_dropped == 0


def test_agent_shows_a_lost_camera_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    plug = tmp_path / "plugged"
    plug.touch()
    watching = Watching()
    agent = Agent(config(tmp_path, source=f"synthetic:160x120@60,needs={plug}"), lambda _: loaded(), [watching])
    with running(agent):
        watching.wait(lambda status: status.state == "serving")
        plug.unlink()
        lost = watching.wait(lambda status: status.state == "waiting" and status.camera.state == "lost")
        assert lost.answer is None  # nobody knows what is there now
        plug.touch()
        back = watching.wait(lambda status: status.num_answers > lost.num_answers and status.state == "serving")
        assert back.answer is not None
    assert watching.statuses[-1].camera.num_lost == 1


def test_agent_leaves_nothing_behind(tmp_path: Path) -> None:
    def census() -> tuple[int, list[str]]:
        gc.collect()  # the memory that frames came through goes with the last array in it
        return len(list(Path("/proc/self/fd").iterdir())), sorted(thread.name for thread in threading.enumerate())

    asked = config(tmp_path, loop=LoopSettings(max_frames=3))
    Agent(asked, lambda _: loaded()).run(threading.Event())  # whatever is made once is made now
    before = census()
    Agent(asked, lambda _: loaded()).run(threading.Event())
    deadline = time.monotonic() + DEADLINE_S  # a camera's process may need a moment to die on a busy machine
    while census() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert census() == before


def test_agent_raises_why_the_model_may_not_serve(tmp_path: Path) -> None:
    def refuse(_: object) -> Loaded:
        raise BarNotMetError("golden picture 3: expected Bag, got Coat")

    watching = Watching()
    with pytest.raises(BarNotMetError, match="golden picture 3"):
        Agent(config(tmp_path), refuse, [watching]).run(threading.Event())
    assert all(status.model is None for status in watching.statuses)


def test_agent_ends_with_the_error_of_a_model_that_breaks_on_the_way(tmp_path: Path) -> None:
    broken = BrightnessModel((float("nan"), 0.0, 0.0))
    with pytest.raises(GraphError, match="NaN"):
        Agent(config(tmp_path), lambda _: loaded(broken)).run(threading.Event())


def test_agent_ends_within_two_seconds_while_the_runtime_hangs(tmp_path: Path) -> None:
    model = Hanging(num_answers=3)
    watching = Watching()
    agent = Agent(config(tmp_path), lambda _: loaded(model), [watching])
    with running(agent) as stop:
        watching.wait(lambda status: status.num_answers == 3)
        began = time.monotonic()
        stop.set()
        watching.wait(lambda status: status.state == "stopping")
    assert agent.is_stuck
    # generous: the bar is two seconds on a board, and this machine may be busy with something else
    assert time.monotonic() - began < 10
    model.let_go.set()


def test_wedged_inference_is_found_told_and_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "INFERENCE_LIMIT_S", 1.0)
    model, watching = Hanging(num_answers=3), Watching()
    left, codes = threading.Event(), list[int]()

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    agent = Agent(config(tmp_path), lambda _: loaded(model), [watching], leave=leave)
    with running(agent):
        wedged = watching.wait(lambda status: status.state == "wedged")
        assert left.wait(DEADLINE_S)
        model.let_go.set()
    assert codes == [WEDGED_EXIT_CODE]
    assert wedged.detail == "no longer moving: inference"


def wedge(tmp_path: Path, stick: Callable[[Agent, threading.Event], None], **changes: Any) -> DeviceStatus:
    """The snapshot of an agent of which a part was made to stand still; it must leave with the code for that."""
    watching, release, left = Watching(), threading.Event(), threading.Event()
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    agent = Agent(msgspec.structs.replace(config(tmp_path), **changes), lambda _: loaded(), [watching], leave=leave)
    with running(agent):
        watching.wait(lambda status: status.state == "serving")
        stick(agent, release)
        try:
            assert left.wait(DEADLINE_S)
            return next(status for status in watching.statuses if status.state == "wedged")
        finally:
            release.set()
            assert codes == [WEDGED_EXIT_CODE]


def test_wedged_event_loop_of_the_page_is_found_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "_LIMIT_S", 3.0)

    def block(agent: Agent, release: threading.Event) -> None:
        web: Any = agent.outside._web
        web._loop.call_soon_threadsafe(release.wait)

    assert wedge(tmp_path, block, web=WebConfig(port=0)).detail == "no longer moving: web"


def test_wedged_watcher_of_the_camera_is_found_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CAMERA_LIMIT_S", 1.0)

    def block(agent: Agent, release: threading.Event) -> None:
        camera: Any = agent._camera
        camera._beat = release.wait  # its thread beats, and does not come back from it

    assert "camera" in wedge(tmp_path, block).detail


def test_agent_serves_its_page_before_the_model_is_there(tmp_path: Path) -> None:
    may_load = threading.Event()

    def slow(_: object) -> Loaded:
        may_load.wait(DEADLINE_S)
        return loaded()

    watching = Watching()
    agent = Agent(msgspec.structs.replace(config(tmp_path), web=WebConfig(port=0)), slow, [watching])
    with running(agent):
        watching.wait(lambda status: status.state == "starting")
        with urllib.request.urlopen(f"{agent.outside.web_address}/status", timeout=DEADLINE_S) as answer:
            assert msgspec.json.decode(answer.read(), type=DeviceStatus).state == "starting"
        may_load.set()
        watching.wait(lambda status: status.state == "serving")
        with urllib.request.urlopen(f"{agent.outside.web_address}/readyz", timeout=DEADLINE_S) as answer:
            assert answer.status == 200


def test_agent_says_which_port_is_in_use_and_starts_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        asked = msgspec.structs.replace(config(tmp_path), web=WebConfig(port=port))
        with pytest.raises(UsageError, match=str(port)):
            Agent(asked, lambda _: loaded()).run(threading.Event())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgekit")]


def test_model_status_of_the_bundle_is_told_as_it_was_measured(tmp_path: Path) -> None:
    watching = Watching()
    asked = config(tmp_path, loop=LoopSettings(max_frames=1))
    Agent(asked, lambda _: loaded(), [watching]).run(threading.Event())
    told = watching.statuses[-1].model
    assert isinstance(told, ModelStatus)
    assert (told.packed_bytes, told.load_ms, told.num_golden) == (661_220, 48.2, 8)
    assert np.isfinite(told.first_inference_ms)


def test_pictures_of_every_shape_and_none_are_answered_or_passed_over(tmp_path: Path) -> None:
    def encode(height: int, width: int, *channels: int) -> bytes:
        return cv2.imencode(".jpg", np.full((height, width, *channels), 128, np.uint8))[1].tobytes()

    small = encode(64, 96, 3)
    huge = small.replace(b"\x00\x40\x00\x60", b"\xff\xdc\xff\xdc", 1)  # 65,500 x 65,500 in the header
    sizes = [(240, 320, 3), (1, 1), (1, 1, 3), (720, 1280, 3), (1, 65500), (65500, 1, 3), (3, 5, 3)]
    good = [encode(*size) for size in sizes]
    bad = [b"", b"\xff\xd8", huge, small[: len(small) // 2]]
    pictures = [picture for pair in itertools.zip_longest(good, bad) for picture in pair if picture is not None]
    server = MjpegServer(lambda number: pictures[number % len(pictures)], fps=20)
    watching = Watching()
    asked = config(tmp_path, source=server.address)
    try:
        with running(Agent(msgspec.structs.replace(asked, web=WebConfig(port=0)), lambda _: loaded(), [watching])):
            status = watching.wait(lambda status: status.num_answers > 30)
        shapes = {(status.camera.height, status.camera.width) for status in watching.statuses}
    finally:
        server.close()
    assert huge != small
    assert status.camera.num_lost == 0
    assert status.camera.state == "streaming"
    assert "damaged" in status.camera.detail
    assert shapes <= {(0, 0), *(size[:2] for size in sizes)}


def test_wall_clock_that_jumps_by_years_changes_nothing_but_the_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, shift_s = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: now() + shift_s[0])
    years_s = 30 * 365 * 86400.0
    watching = Watching()
    with running(Agent(config(tmp_path), lambda _: loaded(), [watching])):
        watching.wait(lambda status: status.state == "serving")
        for shift_s[0] in (-years_s, years_s):
            shifted = now() + shift_s[0]
            status = watching.wait(lambda status, then=shifted: abs(status.time_unix_s - then) < DEADLINE_S)
            watching.wait(lambda status, so_far=status.num_answers: status.num_answers > so_far)
    uptimes = [status.uptime_s for status in watching.statuses]
    assert uptimes == sorted(uptimes)
    assert uptimes[-1] < 4 * DEADLINE_S
    assert all(0 <= status.fps_out < 1000 for status in watching.statuses)
    assert {status.state for status in watching.statuses} <= {"starting", "waiting", "serving", "stopping"}
    assert watching.statuses[-1].camera.num_lost == 0
    end_to_end = watching.statuses[-1].total[-1]
    assert end_to_end.max_ms < DEADLINE_S * 1e3
