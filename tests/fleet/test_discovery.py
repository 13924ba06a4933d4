"""Boards that announce themselves: services that the test registers, on the loopback interface."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

pytest.importorskip("zeroconf", reason="the extra `flash` is not installed")

from zeroconf import ServiceInfo, Zeroconf

from edgekit.fleet.discovery import EDGEKIT_SERVICE, SSH_SERVICE, Found, discover, found_from, merge
from ssh_board import wait_for

LOOPBACK = "127.0.0.1"


def service(kind: str, name: str, port: int, host: str, **properties: str) -> ServiceInfo:
    return ServiceInfo(
        kind,
        f"{name}.{kind}",
        addresses=[socket.inet_aton("127.0.0.7")],
        port=port,
        properties=properties,
        server=f"{host}.",
    )


@pytest.fixture
def network() -> Iterator[Zeroconf]:
    """Somebody else on the network."""
    responder = Zeroconf(interfaces=[LOOPBACK])
    yield responder
    responder.close()


def test_boards_are_heard_with_what_they_say(network: Zeroconf) -> None:
    # Names of this process: the same test may run elsewhere on this machine, on the same loopback interface.
    kitchen, desk = f"kitchen-{os.getpid()}", f"desk-{os.getpid()}"
    network.register_service(
        service(EDGEKIT_SERVICE, kitchen, 8080, f"{kitchen}.local", board="raspberry_pi_4b", release="7")
    )
    network.register_service(service(SSH_SERVICE, kitchen, 2222, f"{kitchen}.local"))
    network.register_service(service(SSH_SERVICE, desk, 22, f"{desk}.local"))
    expected = [
        Found(name=desk, host=f"{desk}.local", addresses=("127.0.0.7",), port=22),
        Found(
            name=kitchen,
            host=f"{kitchen}.local",
            addresses=("127.0.0.7",),
            port=2222,
            board="raspberry_pi_4b",
            release="7",
            is_edgekit=True,
        ),
    ]

    def hear() -> list[Found]:
        return [one for one in discover(3.0, interfaces=[LOOPBACK]) if one.name in {kitchen, desk}]

    # Who has just announced itself does not answer again for a second (RFC 6762, 6): several attempts are in order.
    wait_for(lambda: hear() == expected, "boards", 60)


def test_nothing_is_heard_where_nothing_is() -> None:
    assert not [one for one in discover(0.1, interfaces=[LOOPBACK]) if one.is_edgekit]


def test_odd_bytes_of_a_stranger_do_not_reach_the_terminal() -> None:
    info = service(EDGEKIT_SERVICE, "kitchen", 8080, "kitchen.local", board="\x1b[31mred", ssh_port="no port")

    found = found_from(info)

    assert found.board == "?[31mred"
    assert found.port == 22


def test_merge_keeps_boards_apart() -> None:
    one, other = (Found(name=name, host=f"{name}.local", addresses=(), port=22) for name in "ba")

    assert [found.host for found in merge([one, other, one])] == ["a.local", "b.local"]
