"""Settings that cannot be are refused before anything listens."""

from __future__ import annotations

import pytest

from edgekit.agent.live import Live
from edgekit.agent.web.config import WebConfig, check_config
from edgekit.agent.web.server import WebServer
from edgekit.core.errors import UsageError


@pytest.mark.parametrize(
    "config",
    [
        WebConfig(port=-1),
        WebConfig(port=65536),
        WebConfig(max_viewers=0),
        WebConfig(max_fps=0),
        WebConfig(max_fps=float("nan")),
        WebConfig(token=""),
        WebConfig(token="short"),
        WebConfig(token="with a blank in it"),
        WebConfig(token="line\nbreak-in-the-token"),
        WebConfig(token="ümlaute-are-no-header"),
    ],
)
def test_config_is_refused_when_it_cannot_be(config: WebConfig) -> None:
    with pytest.raises(UsageError) as caught:
        check_config(config)
    assert caught.value.hint


def test_config_never_shows_its_token() -> None:
    config = WebConfig(token="correct-horse-battery")

    assert "correct-horse" not in f"{config} {config!r} {[config]}"
    with pytest.raises(UsageError) as caught:
        check_config(WebConfig(token="secret secret secret"))
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_start_is_refused_when_others_could_look_without_a_token(host: str) -> None:
    server = WebServer(WebConfig(host=host, port=0), Live())

    with pytest.raises(UsageError, match="token") as caught:
        server.start()
    assert "ssh -L" in (caught.value.hint or "")


def test_start_is_refused_when_the_host_is_unknown_or_not_ours() -> None:
    for unknown in ("no.such.host.invalid", "", "a" * 70 + ".local"):
        with pytest.raises(UsageError, match=f"web host '{unknown}' is unknown"):
            WebServer(WebConfig(host=unknown, port=0), Live()).start()
    with pytest.raises(UsageError, match=r"192\.0\.2\.1") as caught:  # TEST-NET-1
        WebServer(WebConfig(host="192.0.2.1", port=0, token="correct-horse-battery"), Live()).start()
    assert "address of this machine" in (caught.value.hint or "")
