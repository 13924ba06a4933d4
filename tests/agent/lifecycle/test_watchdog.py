"""A part that stands still is found, told, and systemd hears no more."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.agent.lifecycle.heartbeats import Heartbeats
from edgekit.agent.lifecycle.notify import Notifier
from edgekit.agent.lifecycle.watchdog import Watchdog

DEADLINE_S = 30


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(DEADLINE_S)
        yield listening


def notifier(ear: socket.socket, watchdog_s: float | None = None) -> Notifier:
    return Notifier(ear.getsockname(), watchdog_s)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_systemd_is_pinged_while_everything_moves(ear: socket.socket) -> None:
    heartbeats = Heartbeats()
    heartbeats.register("inference", 60)
    watchdog = Watchdog(heartbeats, notifier(ear), lambda names: pytest.fail(str(names)), interval_s=0.01)
    watchdog.start()
    watchdog.start()

    assert [ear.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    watchdog.stop()
    watchdog.stop()
    assert threading.active_count() == 1


def test_wedge_is_told_once_and_the_pings_end(ear: socket.socket) -> None:
    heartbeats = Heartbeats()
    beat = heartbeats.register("web", 60)
    heartbeats.register("camera", 0.05)
    heartbeats.register("inference", 0.05)
    told: list[tuple[str, ...]] = []
    watchdog = Watchdog(heartbeats, notifier(ear), told.append, interval_s=0.2)
    watchdog.start()
    wait_for(lambda: bool(told))
    beat()

    assert told == [("camera", "inference")]
    assert watchdog.wedged == ("camera", "inference")
    assert ear.recv(4096) == b"STATUS=wedged: camera, inference"
    ear.settimeout(0.6)
    with pytest.raises(TimeoutError):
        ear.recv(4096)
    assert len(told) == 1
    watchdog.stop()


def test_part_that_beats_in_time_is_no_wedge(ear: socket.socket) -> None:
    heartbeats = Heartbeats()
    beat = heartbeats.register("inference", 10)
    watchdog = Watchdog(heartbeats, notifier(ear), lambda names: pytest.fail(str(names)), interval_s=0.01)
    watchdog.start()
    for _ in range(20):
        ear.recv(4096)
        beat()
    watchdog.stop()
    assert watchdog.wedged == ()


def test_systemd_hears_thrice_in_the_time_that_it_allows(ear: socket.socket) -> None:
    assert Watchdog(Heartbeats(), notifier(ear, 1.5), lambda _: None).interval_s == pytest.approx(0.5)
    assert Watchdog(Heartbeats(), notifier(ear, 600), lambda _: None).interval_s == 1.0


def test_callback_may_stop_the_watchdog(ear: socket.socket) -> None:
    heartbeats = Heartbeats()
    heartbeats.register("camera", 0.01)
    ended = threading.Event()

    def end(_names: tuple[str, ...]) -> None:
        watchdog.stop()
        ended.set()

    watchdog = Watchdog(heartbeats, notifier(ear), end, interval_s=0.05)
    watchdog.start()
    assert ended.wait(DEADLINE_S)
    wait_for(lambda: threading.active_count() == 1)


_PROGRAM = """
import sys, time
from edgekit.agent.lifecycle.heartbeats import Heartbeats
from edgekit.agent.lifecycle.notify import Notifier
from edgekit.agent.lifecycle.watchdog import Watchdog
heartbeats = Heartbeats()
beat = heartbeats.register("inference", 3.0)
tell = lambda names: print("wedged", *names, flush=True)
watchdog = Watchdog(heartbeats, Notifier(sys.argv[1]), tell, interval_s=0.1)
watchdog.start()
print("started", flush=True)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    beat()
    time.sleep(0.02)
watchdog.stop()
"""


@pytest.mark.slow
def test_process_that_was_stopped_is_not_taken_for_wedged(ear: socket.socket, repository: Path) -> None:
    command = [sys.executable, "-c", _PROGRAM, ear.getsockname(), "8"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(repository)}
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        assert ear.recv(4096) == b"WATCHDOG=1"
        child.send_signal(signal.SIGSTOP)
        time.sleep(5)  # longer than the part may be silent
        child.send_signal(signal.SIGCONT)
        assert child.stdout.read() == ""
        assert child.wait(DEADLINE_S) == 0
