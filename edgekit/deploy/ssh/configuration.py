"""The agent's configuration for a board: written once from the board's usual camera, kept once it is there."""

from __future__ import annotations

import json

import msgspec

from edgekit.core.board import Board
from edgekit.core.errors import UsageError
from edgekit.deploy.ssh.layout import CURRENT, Layout

_PAGE = ("127.0.0.1", 8080)


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the user says about the agent; None where nothing is said.

    Args:
        camera: As after `edgekit agent run --camera`; None for the board's usual one.
        http: (host, port) of the live page.
        has_page: Whether there is a live page at all.
        token: That viewers need.
        mqtt: (host, port) of the broker; port None for the usual one.
        device_id: Name of the board; None for its host name.
    """

    camera: str | None = None
    http: tuple[str, int] | None = None
    has_page: bool = True
    token: str | None = None
    mqtt: tuple[str, int | None] | None = None
    device_id: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return self == AgentSettings()


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Where the agent's live page is. `token` None: nobody needs one."""

    port: int
    token: str | None = None

    @property
    def headers(self) -> tuple[str, ...]:
        """What a request needs."""
        return () if self.token is None else (f"Authorization: Bearer {self.token}",)


def config_text(settings: AgentSettings, board: Board, layout: Layout) -> str:
    """The text of agent.toml.

    Args:
        settings: What the user says.
        board: Says which camera is usual.
        layout: Where the bundle lies.
    """
    lines = [
        "# Written by edgekit flash, which keeps it from then on unless it is told otherwise (--camera, --http, --mqtt).",
        f"bundle = {_toml(f'{layout.state}/{CURRENT}')}",
    ]
    if settings.device_id is not None:
        lines.append(f"device_id = {_toml(settings.device_id)}")
    if layout.prefix:  # without systemd, nobody names the folder
        lines.append(f"state_dir = {_toml(layout.state)}")
    usual = board.facts.camera
    lines += ["", "[camera]"]
    if settings.camera is not None:
        lines.append(f"source = {_toml(settings.camera)}")
    elif usual is not None:
        lines.append(f"source = {_toml(f'{usual.kind}:{usual.source}')}")
        lines += [f"width = {usual.width}", f"height = {usual.height}", f"fps = {usual.fps}"]
    if settings.has_page:
        host, port = settings.http or _PAGE
        lines += ["", "[web]", f"host = {_toml(host)}", f"port = {port}"]
        lines += [f"token = {_toml(settings.token)}"] if settings.token is not None else []
    if settings.mqtt is not None:
        host, broker_port = settings.mqtt
        lines += ["", "[mqtt]", f"host = {_toml(host)}"]
        lines += [f"port = {broker_port}"] if broker_port is not None else []
    return "\n".join(lines) + "\n"


def find_page(config: str | None) -> Page | None:
    """Where the live page of an agent is, by its configuration; None where there is none, or nobody can tell."""

    class Web(msgspec.Struct):
        port: int = _PAGE[1]
        token: str | None = None

    class Known(msgspec.Struct):
        web: Web | None = Web()

    try:
        web = msgspec.toml.decode(config or "", type=Known).web
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if web is None or config is None else Page(port=web.port, token=web.token)


def find_camera(config: str) -> str | None:
    """The configured camera, as after `--camera`; None where nobody can tell.

    >>> find_camera('[camera]\\nsource = "v4l2:0"'), find_camera("")
    ('v4l2:0', '0')
    """

    class Camera(msgspec.Struct):
        source: str = "0"

    class Known(msgspec.Struct):
        camera: Camera = Camera()

    try:
        return msgspec.toml.decode(config, type=Known).camera.source
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _toml(text: str) -> str:
    """A TOML string: JSON's, without the characters in which the two differ."""
    if not text.isprintable():
        raise UsageError(f"{ascii(text)} holds characters that no configuration may")
    return json.dumps(text, ensure_ascii=False)
