"""What systemd hears, on real sockets."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.agent.lifecycle.notify import Notifier


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(address)
        ear.settimeout(20)
        yield ear


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


def test_words_reach_a_socket_in_the_file_system(path: str) -> None:
    with listening(path) as ear:
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": path})
        assert all((notifier.ready("serving"), notifier.status("30 fps"), notifier.ping(), notifier.stopping()))
        heard = [ear.recv(4096) for _ in range(4)]

    assert heard == [b"READY=1\nSTATUS=serving", b"STATUS=30 fps", b"WATCHDOG=1", b"STOPPING=1"]


def test_words_reach_an_abstract_socket() -> None:
    name = f"edgekit-test-{secrets.token_hex(8)}"
    with listening(f"\0{name}") as ear:
        assert Notifier.from_environment({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert ear.recv(4096) == b"READY=1"


def test_status_stays_one_short_line(path: str) -> None:
    with listening(path) as ear:
        Notifier(path).status("kitchen\nMAINPID=1\n" + "x" * 5000)
        heard = ear.recv(65536)

    assert heard.startswith(b"STATUS=kitchen MAINPID=1 x")
    assert b"\n" not in heard
    assert len(heard) < 600


@pytest.mark.parametrize("address", [None, "", "relative", "/", "@", "vsock:2:1"])
def test_nobody_is_told_when_there_is_no_socket(address: str | None) -> None:
    environment = {} if address is None else {"NOTIFY_SOCKET": address}

    assert not Notifier.from_environment(environment).ready()


def test_nothing_fails_when_systemd_is_gone(path: str) -> None:
    notifier = Notifier(path)
    assert not notifier.ping()
    with listening(path):
        assert notifier.ping()
    assert not notifier.ping()
    assert not Notifier("/" + "x" * 500).ping()
    assert not Notifier("/a\0b").ping()


def test_nothing_waits_when_systemd_does_not_listen(path: str) -> None:
    with listening(path):
        told = [Notifier(path).ping() for _ in range(5000)]  # far more than a queue holds

    assert told[0]
    assert not told[-1]


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({}, None),
    ],
)
def test_watchdog_time_is_read(environment: dict[str, str], watchdog_s: float | None) -> None:
    assert Notifier.from_environment(environment).watchdog_s == watchdog_s
