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
        updates: Address of a published repository that it looks into; None for none.
    """

    camera: str | None = None
    http: tuple[str, int] | None = None
    has_page: bool = True
    token: str | None = None
    mqtt: tuple[str, int | None] | None = None
    device_id: str | None = None
    updates: str | None = None

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
        "# Written by edgekit flash, which keeps it unless it is told otherwise (--camera, --http, --mqtt).",
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
    if settings.updates is not None:
        lines += ["", "[update]", f"url = {_toml(settings.updates)}"]
    return "\n".join(lines) + "\n"


def wants_updates(config: str) -> bool:
    """Whether a configuration says where updates are."""
    known = _read(config)
    return known is not None and known.update is not None


def find_page(config: str | None) -> Page | None:
    """Where the live page of an agent is, by its configuration; None where there is none, or nobody can tell."""
    known = _read(config or "")
    if config is None or known is None or known.web is None:
        return None
    return Page(port=known.web.port, token=known.web.token)


def find_camera(config: str) -> str | None:
    """The configured camera, as after `--camera`; None where nobody can tell.

    >>> find_camera('camera.source = "v4l2:0"'), find_camera("")
    ('v4l2:0', '0')
    """
    known = _read(config)
    return None if known is None else known.camera.source


class _Web(msgspec.Struct, frozen=True, kw_only=True):
    port: int = _PAGE[1]
    token: str | None = None


class _Camera(msgspec.Struct, frozen=True, kw_only=True):
    source: str = "0"


class _Update(msgspec.Struct, frozen=True, kw_only=True):
    url: str


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What matters here of an agent's configuration."""

    web: _Web | None = _Web()
    camera: _Camera = _Camera()
    update: _Update | None = None


def _read(config: str) -> _Known | None:
    """What a configuration says; None where it cannot be read, which is for the agent to complain of."""
    try:
        return msgspec.toml.decode(config, type=_Known)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _toml(text: str) -> str:
    """A TOML string: JSON's, without the characters in which the two differ."""
    if not text.isprintable():
        raise UsageError(f"{text!a} holds characters that no configuration may")
    return json.dumps(text, ensure_ascii=False)
