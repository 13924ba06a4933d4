"""The agent's configuration for a board: written once from the board's usual camera, kept once it is there.

What is there and was not spoken of stays, word for word: `revise_config` replaces sections, not files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

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
        updates: Address of a published repository that it looks into; "" for nowhere, whatever was said before.
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
        "# Written by edgekit flash. Its options (--camera, --http, --mqtt, --updates) change their own parts only.",
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
    if settings.updates:
        lines += ["", "[update]", f"url = {_toml(settings.updates)}"]
    return "\n".join(lines) + "\n"


def revise_config(text: str, settings: AgentSettings) -> str:
    r"""A configuration with what the user says changed, and everything else as it is, comments included.

    Args:
        text: As it is there.
        settings: What the user says.

    Returns:
        The same text, when it says all that already.

    Raises:
        UsageError: It is not readable, or written so (dotted keys, inline tables) that no section can be replaced.

    >>> revise_config('[camera]\nsource = "0"\n\n[update]\nurl = "u"\n', AgentSettings(camera="1"))
    '[camera]\nsource = "1"\n\n[update]\nurl = "u"\n'
    """
    before = _tables(text)
    if before is None:
        raise UsageError("agent.toml there cannot be read", hint="mend or remove it")
    wanted = _revised(before, settings)
    if settings.device_id not in (None, before.get("device_id")):
        text = _with_section(text, "", _scalars(wanted))
    for name in _SECTIONS:
        section = wanted.get(name)
        if before.get(name) != section:
            text = _with_section(text, name, None if section is None else _scalars(section))
    if _tables(text) != wanted:
        raise UsageError(
            "agent.toml there is written so that no option can change it",
            hint="write its parts as [camera], [web], [mqtt], [update]; or change it there, and give no options",
        )
    return text


def wants_updates(config: str) -> bool:
    """Whether a configuration says where updates are."""
    known = _read(config)
    return known is not None and known.update is not None


def forgoes_updates(config: str) -> bool:
    """Whether a configuration that can be read names no updates."""
    known = _read(config)
    return known is not None and known.update is None


def is_readable(config: str) -> bool:
    """Whether a configuration is TOML at all."""
    return _tables(config) is not None


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


_Table: TypeAlias = dict[str, Any]

_SECTIONS = ("camera", "web", "mqtt", "update")
_HEADER = re.compile(r"^[ \t]*\[[^\n]*\n?", re.MULTILINE)
_TAIL = re.compile(r"(?:^[ \t]*(?:#[^\n]*)?(?:\n|\Z))*\Z", re.MULTILINE)
"""Blank lines and remarks at the end of a section: they speak of what follows."""


def _tables(text: str) -> _Table | None:
    try:
        return cast("_Table", msgspec.toml.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _revised(before: _Table, settings: AgentSettings) -> _Table:
    """What a configuration is to say."""
    told: dict[str, _Table | None] = {}
    if settings.camera is not None and _section(before, "camera").get("source") != settings.camera:
        told["camera"] = {"source": settings.camera}  # size and rate were the other camera's
    web: _Table = {} if settings.http is None else {"host": settings.http[0], "port": settings.http[1]}
    web |= {} if settings.token is None else {"token": settings.token}
    if web or not settings.has_page:
        told["web"] = {**_section(before, "web"), **web} if settings.has_page else None
    if settings.mqtt is not None:
        host, port = settings.mqtt
        kept = {key: value for key, value in _section(before, "mqtt").items() if key not in ("host", "port")}
        told["mqtt"] = {"host": host, **({} if port is None else {"port": port}), **kept}
    if settings.updates is not None:
        told["update"] = {**_section(before, "update"), "url": settings.updates} if settings.updates else None
    after = {**before, **{name: section for name, section in told.items() if section is not None}}
    after = {name: value for name, value in after.items() if told.get(name, value) is not None}
    return after if settings.device_id is None else {**after, "device_id": settings.device_id}


def _section(tables: _Table, name: str) -> _Table:
    found = tables.get(name)
    return cast("_Table", found) if isinstance(found, dict) else {}


def _scalars(table: _Table) -> _Table:
    """What stands under a table's own header."""
    return {key: value for key, value in table.items() if not isinstance(value, dict)}


def _with_section(text: str, name: str, content: Mapping[str, Any] | None) -> str:
    """A text with one section replaced, added, or, for None, left out; "" is what stands before the first header."""
    headers = [*_HEADER.finditer(text)]
    starts = [0, *(header.end() for header in headers)]
    ends = [*(header.start() for header in headers), len(text)]
    names = ["", *(header.group().split("#")[0].strip().strip("[]").strip() for header in headers)]
    lines = "" if content is None else "".join(f"{key} = {_value(value)}\n" for key, value in content.items())
    if name not in names:
        return text if content is None else f"{text.rstrip()}\n\n[{name}]\n{lines}"
    at = names.index(name)
    begin = starts[at] if content is not None else headers[at - 1].start()
    tail = _TAIL.search(text[starts[at] : ends[at]])
    return text[:begin] + lines + ("" if tail is None else tail.group()) + text[ends[at] :]


def _value(value: object) -> str:
    """A plain value as TOML has it; whatever else there may be shows when the text is read again."""
    return _toml(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _toml(text: str) -> str:
    """A TOML string: JSON's, without the characters in which the two differ."""
    if not text.isprintable():
        raise UsageError(f"{text!a} holds characters that no configuration may")
    return json.dumps(text, ensure_ascii=False)
