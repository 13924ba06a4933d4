"""A real capture process with a synthetic camera that fails in every way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from camera_waits import PATIENCE_S, count_descriptors, is_alive, list_children, running, take, take_until, wait_until
from edgekit.agent.camera import CameraRequest, parse_camera
from edgekit.agent.capture import supervisor as supervisor_module
from edgekit.agent.capture.painted_time import read_time
from edgekit.agent.capture.supervisor import CaptureSupervisor
from edgekit.agent.capture.worker import CaptureProcess
from edgekit.core.errors import UsageError

FAST = "synthetic:160x120@100"


def request(options: str = "", *, read_timeout_s: float | None = 0.4, paced: bool = True) -> CameraRequest:
    text = f"{FAST},{options}" if options else FAST
    return msgspec.structs.replace(parse_camera(text), read_timeout_s=read_timeout_s, paced=paced, frozen_after=10)


def test_frames_come_with_their_time_and_rising_numbers() -> None:
    with running(request()) as supervisor:
        frames = [take(supervisor) for _ in range(10)]
        status = supervisor.status()
        painted = read_time(take(supervisor).picture)

    numbers = [frame.sequence for frame in frames]
    times = [frame.captured_ns for frame in frames]
    assert numbers == sorted(set(numbers))
    assert times == sorted(set(times))
    assert all(frame.time_source == "painted" for frame in frames)
    assert painted is not None
    assert times[-1] < painted < time.monotonic_ns()
    assert (status.state, status.width, status.height, status.declared_fps) == ("streaming", 160, 120, 100.0)
    assert (status.kind, status.source) == ("synthetic", "160x120@100")


def test_every_frame_is_taken_or_counted_as_dropped() -> None:
    with running(request()) as supervisor:
        num_taken = 0
        for _ in range(8):
            take(supervisor)
            num_taken += 1
            time.sleep(0.05)  # five frames come meanwhile
        os.kill(supervisor.pids()[0], signal.SIGSTOP)
        while supervisor.take(0.01) is not None:
            num_taken += 1
        status = supervisor.status()

    assert status.num_dropped > 8
    assert status.num_grabbed == num_taken + status.num_dropped


def test_slow_consumer_gets_new_frames_and_few_are_decoded() -> None:
    """The camera decodes what will be taken: damaged pictures are counted when they are decoded."""
    with running(request("damage_every=2")) as supervisor:
        taken = []
        take(supervisor)
        for _ in range(10):
            supervisor.want(time.monotonic_ns() + 200_000_000)
            time.sleep(0.2)
            taken.append(take(supervisor))
        ages_ns = [time.monotonic_ns() - frame.captured_ns for frame in taken[-1:]]
        counters = supervisor._link.counters()

    assert counters.num_grabbed > 150
    assert counters.num_damaged < 50
    assert ages_ns[0] < PATIENCE_S * 1e9


def test_nothing_is_dropped_when_frames_wait_for_the_consumer() -> None:
    with running(request(paced=False)) as supervisor:
        frames = []
        for turn in range(50):
            frames.append(take(supervisor).sequence)
            if turn % 10 == 0:
                time.sleep(0.05)
        status = supervisor.status()

    assert frames == list(range(50))
    assert status.num_dropped == 0


def test_camera_is_not_lost_when_the_consumer_is_slow() -> None:
    with running(request(paced=False, read_timeout_s=0.2)) as supervisor:
        first = take(supervisor)
        time.sleep(1.0)
        frames = [take(supervisor).sequence for _ in range(3)]

        assert frames == [first.sequence + 1, first.sequence + 2, first.sequence + 3]
        assert supervisor.status().num_lost == 0


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("hang_after=20", "no picture for 0.4 s"),
        ("lose_after=20", "went away"),
        ("die_after=20", "capture process ended with 9"),
    ],
)
def test_camera_comes_back_when_it_fails(fault: str, why: str) -> None:
    details: set[str] = set()

    with running(request(fault)) as supervisor:

        def came_back_twice() -> bool:
            status = supervisor.status()
            if status.state == "lost":
                details.add(status.detail)
            return status.num_lost >= 2 and status.state == "streaming"

        frames = take_until(supervisor, came_back_twice, "the camera came back twice")

    numbers = [frame.sequence for frame in frames]
    times = [frame.captured_ns for frame in frames]
    assert numbers == sorted(set(numbers))
    assert times == sorted(set(times))
    assert numbers[-1] >= 38
    assert any(why in detail for detail in details), details


def test_camera_that_hangs_is_killed_and_its_process_replaced() -> None:
    with running(request("hang_after=5")) as supervisor:
        take(supervisor)
        first = supervisor.pids()
        take_until(supervisor, lambda: supervisor.pids() not in {first, ()}, "another process")

        assert not Path(f"/proc/{first[0]}").exists()


def test_unplugged_camera_is_opened_as_soon_as_it_is_there_again(tmp_path: Path) -> None:
    device = tmp_path / "device"
    with running(request(f"needs={device}")) as supervisor:
        wait_until(lambda: supervisor.status().state == "lost", "the missing camera is told")
        assert f"{device} is missing" in supervisor.status().detail
        supervisor._course._outage_ns = time.monotonic_ns() - 3_600_000_000_000  # it has been away for an hour
        wait_until(lambda: (supervisor.status().retry_in_s or 0) > 3, "a long wait")

        device.touch()

        frame = supervisor.take(2.5)
        assert frame is not None
        device.unlink()
        take_until(supervisor, lambda: supervisor.status().state == "lost", "the unplugging is seen")
        assert supervisor.status().num_lost == 1


def test_frozen_picture_is_shown_and_nothing_is_killed() -> None:
    with running(request("freeze_after=20")) as supervisor:
        take(supervisor)
        pids = supervisor.pids()
        take_until(supervisor, lambda: supervisor.status().state == "frozen", "the frozen picture is seen")

        assert "the same picture" in supervisor.status().detail
        assert supervisor.pids() == pids
        assert supervisor.status().num_lost == 0


def test_slow_camera_is_degraded() -> None:
    slow = msgspec.structs.replace(parse_camera("synthetic:160x120@40"), paced=True)
    with running(msgspec.structs.replace(slow, source="160x120@40")) as supervisor:
        supervisor._course._request = msgspec.structs.replace(slow, fps=100.0)  # it had promised more
        take_until(supervisor, lambda: supervisor.status().state == "degraded", "the low rate is seen")

        assert "of 100.0 frames per second" in supervisor.status().detail


def test_resolution_may_change_in_the_stream() -> None:
    with running(request("shrink_after=20")) as supervisor:
        frames = take_until(supervisor, lambda: supervisor.status().width == 80, "the picture is smaller")
        frames.append(take(supervisor))

    assert frames[0].picture.shape == (120, 160, 3)
    assert frames[-1].picture.shape == (60, 80, 3)
    assert read_time(frames[-1].picture) is not None


def test_clock_of_the_camera_may_run_backwards() -> None:
    with running(request("back_after=20")) as supervisor:
        take(supervisor)
        frames = take_until(supervisor, lambda: supervisor.status().time_source == "arrival", "its clock is distrusted")

    times = [frame.captured_ns for frame in frames]
    assert times == sorted(times)
    assert time.monotonic_ns() - times[-1] < PATIENCE_S * 1e9


def test_damaged_pictures_are_ridden_over() -> None:
    with running(request("damage_every=3", paced=False)) as supervisor:
        numbers = [take(supervisor).sequence for _ in range(20)]
        status = supervisor.status()

    assert all((number + 1) % 3 for number in numbers)
    assert status.state == "streaming"
    assert "damaged" in status.detail


def test_camera_of_damaged_pictures_alone_is_lost() -> None:
    with running(request("damage_every=1")) as supervisor:
        take_until(supervisor, lambda: "damaged pictures in a row" in supervisor.status().detail, "it is told")

        assert supervisor.status().state == "lost"


def test_take_gives_nothing_in_time_when_there_is_nothing() -> None:
    with running(parse_camera("synthetic:160x120@0.01")) as supervisor:
        assert supervisor.take(0.2) is None


def test_beat_goes_on_while_the_camera_is_lost() -> None:
    beats: list[float] = []
    supervisor = CaptureSupervisor(request("needs=/no/such/device"), beat=lambda: beats.append(time.monotonic()))
    supervisor.start()
    try:
        wait_until(lambda: len(beats) > 10, "ten beats")
    finally:
        supervisor.stop()


@pytest.mark.parametrize("fault", ["", "hang_after=1", "needs=/no/such/device"])
def test_stop_leaves_nothing_behind(fault: str) -> None:
    descriptors, children = count_descriptors(), list_children()
    threads = threading.active_count()
    supervisor = CaptureSupervisor(request(fault, read_timeout_s=None))
    supervisor.start()
    supervisor.take(0.5)

    supervisor.stop()
    supervisor.stop()

    assert count_descriptors() == descriptors
    assert list_children() == children
    assert threading.active_count() == threads
    assert supervisor.take(10.0) is None
    assert supervisor.pids() == ()
    with pytest.raises(UsageError, match="was stopped"):
        supervisor.start()


def test_stop_without_start_leaves_nothing_behind() -> None:
    descriptors = count_descriptors()
    CaptureSupervisor(request()).stop()
    assert count_descriptors() == descriptors


def test_stop_wakes_a_consumer_that_waits() -> None:
    supervisor = CaptureSupervisor(request("needs=/no/such/device"))
    supervisor.start()
    taken: list[object] = []
    consumer = threading.Thread(target=lambda: taken.append(supervisor.take(3600)))
    consumer.start()

    supervisor.stop()

    consumer.join(PATIENCE_S)
    assert taken == [None]


def test_frame_outlives_the_capture() -> None:
    with running(request("plain=1")) as supervisor:
        frame = take(supervisor)
    assert (frame.picture == (frame.sequence + 1) % 256).all()


def test_child_is_replaced_after_many_openings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.agent.capture.supervisor._MAX_OPENINGS", 2)
    with running(request("lose_after=3")) as supervisor:
        take(supervisor)
        first = supervisor.pids()
        take_until(supervisor, lambda: supervisor.pids() not in {first, ()}, "a fresh process")
        take(supervisor)


def test_child_dies_with_the_agent() -> None:
    program = (
        "import os, sys, time\n"
        "from edgekit.agent.camera import parse_camera\n"
        "from edgekit.agent.capture.supervisor import CaptureSupervisor\n"
        "supervisor = CaptureSupervisor(parse_camera('synthetic:160x120@10'))\n"
        "supervisor.start(); supervisor.take(30)\n"
        "print(*supervisor.pids(), flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        child = int(agent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        agent.kill()

    wait_until(lambda: not is_alive(child), "the child is gone")


def test_child_loads_only_what_it_needs() -> None:
    program = (
        "import sys; import edgekit.agent.capture.child, edgekit.agent.cameras.synthetic\n"
        "heavy = {'cv2', 'typer', 'rich', 'onnx', 'onnxruntime', 'ai_edge_litert', 'torch', 'scipy', 'http.client'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_bad_request_is_refused_before_a_process_starts() -> None:
    descriptors = count_descriptors()
    with pytest.raises(UsageError):
        CaptureSupervisor(parse_camera("synthetic:1x1@30"))
    assert count_descriptors() == descriptors


def test_picture_is_the_same_memory_in_both_processes() -> None:
    with running(request()) as supervisor:
        frame = take(supervisor)
        assert not frame.picture.flags.owndata
        assert isinstance(frame.picture, np.ndarray)


def test_camera_is_lost_while_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    is_full = threading.Event()
    is_full.set()

    def start(*arguments: Any) -> CaptureProcess:
        if is_full.is_set():
            raise OSError(11, "Resource temporarily unavailable")
        return CaptureProcess(*arguments)

    monkeypatch.setattr(supervisor_module, "CaptureProcess", start)
    with running(request()) as supervisor:
        wait_until(lambda: supervisor.status().state == "lost", "the camera is lost")
        assert "Resource temporarily unavailable" in supervisor.status().detail
        is_full.clear()
        take(supervisor)


def test_no_more_processes_are_started_while_those_that_were_killed_do_not_die(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_die = threading.Event()
    started: list[CaptureProcess] = []

    class Undying(CaptureProcess):
        """As a process whose driver hangs: killed, and there all the same."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self)

        def end(self, patience_s: float) -> bool:
            return super().end(patience_s) and may_die.is_set()

        def reap(self) -> bool:
            return may_die.is_set()

    monkeypatch.setattr(supervisor_module, "CaptureProcess", Undying)
    with running(request("die_after=3")) as supervisor:
        wait_until(lambda: "cannot be killed" in supervisor.status().detail, "no further process")
        assert supervisor.status().state == "lost"
        assert len(started) == 4
        may_die.set()
        wait_until(lambda: len(started) > 4, "another process")
