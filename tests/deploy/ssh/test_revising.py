"""What the user says goes into the configuration that is there; all else in it stays, to the letter."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.board import load_board
from edgekit.core.errors import UsageError
from edgekit.deploy.ssh.configuration import AgentSettings, config_text, revise_config
from edgekit.deploy.ssh.layout import Layout

EDITED = """\
# Ours.
bundle = "/var/lib/edgekit/current"
device_id = "kitchen"  # beside the stove

[camera]
source = "v4l2:0"
width = 640
# the lamp flickers
fps = 25.0

# for the neighbours
[web]
host = "0.0.0.0"
port = 9000
token = "aaaaaaaaaaaaaaaaaaaaaaaa"
allowed_hosts = ["pi.example"]

[mqtt]
host = "old.local"
port = 1884
username = "u"

[mqtt.tls]
ca_path = "/etc/ca.pem"

[loop]
max_fps = 5.0

# a slow line
[update]
url = "https://models.example/www"
channel = "beta"
"""


def read(text: str) -> dict[str, Any]:
    return msgspec.toml.decode(text)


def test_camera_is_exchanged_and_nothing_else() -> None:
    revised = revise_config(EDITED, AgentSettings(camera="picamera2:0"))

    assert read(revised) == {**read(EDITED), "camera": {"source": "picamera2:0"}}
    assert revised.startswith(EDITED[: EDITED.index('source = "v4l2:0"')])
    assert revised.endswith(EDITED[EDITED.index("# for the neighbours") :])


def test_page_moves_and_keeps_its_token() -> None:
    revised = read(revise_config(EDITED, AgentSettings(http=("127.0.0.1", 8080))))

    assert revised["web"] == {**read(EDITED)["web"], "host": "127.0.0.1", "port": 8080}


def test_broker_is_exchanged_and_the_usual_port_is_its_own() -> None:
    revised = read(revise_config(EDITED, AgentSettings(mqtt=("new.local", None))))

    assert revised["mqtt"] == {"host": "new.local", "username": "u", "tls": {"ca_path": "/etc/ca.pem"}}


def test_updates_come_from_elsewhere_on_the_same_channel_or_no_more() -> None:
    moved = revise_config(EDITED, AgentSettings(updates="https://other.example"))
    ended = revise_config(EDITED, AgentSettings(updates=""))

    assert read(moved)["update"] == {"url": "https://other.example", "channel": "beta"}
    assert read(ended) == {name: part for name, part in read(EDITED).items() if name != "update"}
    assert "# a slow line" in ended


def test_name_is_exchanged_at_the_top() -> None:
    assert read(revise_config(EDITED, AgentSettings(device_id="hall"))) == {**read(EDITED), "device_id": "hall"}


@pytest.mark.parametrize(
    "text",
    [
        'camera.source = "v4l2:0"',
        'camera = { source = "v4l2:0" }',
        'web.port = 8080\ncamera.source = "v4l2:0"',
        '[camera]\nsource = """\n[web]\n"""',
    ],
)
def test_text_that_would_come_out_wrong_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no option can change it"):
        revise_config(text, AgentSettings(camera="v4l2:1"))


def test_text_that_is_no_toml_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        revise_config("no toml [", AgentSettings(camera="v4l2:1"))


_WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12).filter(
    str.isprintable
)
_SETTINGS = st.builds(
    AgentSettings,
    camera=st.none() | _WORDS,
    http=st.none() | st.tuples(_WORDS, st.integers(1, 65535)),
    has_page=st.booleans(),
    token=st.none() | _WORDS,
    mqtt=st.none() | st.tuples(_WORDS, st.none() | st.integers(1, 65535)),
    device_id=st.none() | _WORDS,
    updates=st.none() | _WORDS,
)


@given(_SETTINGS, st.sampled_from(("edited", "written")))
def test_what_was_said_is_so_and_saying_it_again_changes_nothing(settings: AgentSettings, which: str) -> None:
    text = EDITED if which == "edited" else config_text(AgentSettings(), load_board("raspberry_pi_4b"), Layout())

    revised = revise_config(text, settings)

    after, before = read(revised), read(text)
    assert revise_config(revised, settings) == revised
    assert after.get("loop") == before.get("loop")
    if settings.camera is None:
        assert after["camera"] == before["camera"]
    else:
        assert after["camera"]["source"] == settings.camera
    if settings.updates is None:
        assert after.get("update") == before.get("update")
    else:
        assert after.get("update", {}).get("url", "") == settings.updates
