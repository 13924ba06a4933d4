"""Options of `edgekit agent run` over the settings of a file: pure, so that every rule can be tested alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgekit.agent.config import AgentConfig, load_config
from edgekit.agent.mqtt.config import MqttConfig
from edgekit.agent.web.config import WebConfig
from edgekit.core.errors import UsageError


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says; None (or False) where it says nothing. The names are those of the options."""

    bundle: Path | None = None
    camera: str | None = None
    size: str | None = None
    fps: float | None = None
    loop: bool = False
    max_fps: float | None = None
    top: int | None = None
    threshold: float | None = None
    smooth: float | None = None
    votes: str | None = None
    threads: int | None = None
    cpus: str | None = None
    http: str | None = None
    token_file: Path | None = None
    mqtt: str | None = None
    device_id: str | None = None
    state: Path | None = None
    frames: int | None = None
    any_board: bool = False


def read_settings(path: Path | None) -> AgentConfig:
    """The settings of a file, or the defaults. Raises as `load_config`."""
    return AgentConfig() if path is None else load_config(path)


def merge_options(config: AgentConfig, options: AgentOptions) -> AgentConfig:
    """The settings with the options laid over them.

    Raises:
        UsageError: An option that cannot be read, or no bundle at all.
    """
    width, height = (None, None) if options.size is None else _pair(options.size, "x", "--size", "640x480")
    votes, window = (None, None) if options.votes is None else _pair(options.votes, "/", "--votes", "3/5")
    smoothing = _changed(
        config.loop.smoothing, threshold=options.threshold, half_life_s=options.smooth, votes=votes, window=window
    )
    merged = _changed(
        config,
        bundle=None if options.bundle is None else str(options.bundle),
        device_id=options.device_id,
        state_dir=None if options.state is None else str(options.state),
        camera=_changed(
            config.camera,
            source=options.camera,
            width=width,
            height=height,
            fps=options.fps,
            loop=options.loop or None,
        ),
        model=_changed(
            config.model,
            num_threads=options.threads,
            affinity=None if options.cpus is None else _processors(options.cpus),
            any_board=options.any_board or None,
        ),
        loop=_changed(
            config.loop, top_k=options.top, max_fps=options.max_fps, max_frames=options.frames, smoothing=smoothing
        ),
    )
    if not merged.bundle:
        raise UsageError(
            "no bundle to run", hint="edgekit agent run --bundle RUN, where RUN is what edgekit compress made"
        )
    return msgspec.structs.replace(merged, web=_web(merged.web, options), mqtt=_mqtt(merged.mqtt, options.mqtt))


def _changed(settings: Any, **values: Any) -> Any:  # noqa: ANN401 - any of the settings' types, and the same again
    """The settings with those values that are not None."""
    return msgspec.structs.replace(settings, **{name: value for name, value in values.items() if value is not None})


def _pair(text: str, separator: str, option: str, example: str) -> tuple[int, int]:
    first, found, second = text.lower().partition(separator)
    if not (found and first.isdecimal() and second.isdecimal()):
        raise UsageError(f"{option} {text!r} cannot be read", hint=f"for example {option} {example}")
    return int(first), int(second)


def _processors(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--cpus {text!r} cannot be read", hint="for example --cpus 2,3")
    return tuple(int(part) for part in parts)


def _web(web: WebConfig | None, options: AgentOptions) -> WebConfig | None:
    if options.http == "off":
        return None
    token = None if options.token_file is None else read_token(options.token_file)
    host, port = (None, None) if options.http is None else read_address(options.http, "--http", "0.0.0.0:8080")
    if web is None and options.http is None:
        return None
    return _changed(web or WebConfig(), host=host, port=port, token=token)


def _mqtt(mqtt: MqttConfig | None, address: str | None) -> MqttConfig | None:
    if address is None:
        return mqtt
    host, port = read_address(address if ":" in address else f"{address}:", "--mqtt", "broker.local:1883")
    return _changed(mqtt or MqttConfig(), host=host, port=port)


def read_address(text: str, option: str, example: str) -> tuple[str | None, int | None]:
    """Host and port of "[HOST:]PORT"; None for what is not said. An IPv6 address stands in brackets.

    Raises:
        UsageError: A port that is no number.
    """
    host, _, port = text.rpartition(":")
    if port and not port.isdecimal():
        raise UsageError(f"{option} {text!r} cannot be read", hint=f"for example {option} {example}")
    return host.strip("[]") or None, int(port) if port else None


def read_token(path: Path) -> str:
    """The first line of a file.

    Raises:
        UsageError: No such file, or nothing in it.
    """
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the token file {path}: {error}") from error
    if not lines:
        raise UsageError(f"the token file {path} is empty")
    return lines[0]
