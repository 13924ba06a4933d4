"""Agents that run in a thread of a test, and what they are made of."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from agent_fakes import BrightnessModel, brightness_classifier
from agent_statuses import healthy_status
from edgekit.agent.config import AgentConfig, CameraSection
from edgekit.agent.recognition import Recognizer
from edgekit.agent.service import Agent, Loaded
from edgekit.core.device_status import DeviceStatus

DEADLINE_S = 30.0


class Watching:
    """A sink of snapshots that a test can wait on."""

    def __init__(self) -> None:
        self.statuses: list[DeviceStatus] = []
        self._changed = threading.Condition()

    def offer(self, status: DeviceStatus) -> None:
        with self._changed:
            self.statuses.append(status)
            self._changed.notify_all()

    def wait(self, condition: Callable[[DeviceStatus], bool]) -> DeviceStatus:
        with self._changed:
            met = self._changed.wait_for(lambda: any(map(condition, self.statuses)), DEADLINE_S)
            assert met, f"not within {DEADLINE_S} s; last: {self.statuses[-1:]}"
            return next(filter(condition, self.statuses))


def loaded(model: BrightnessModel | None = None) -> Loaded:
    classifier = brightness_classifier()
    if model is not None:
        classifier.interpreter = model
    status = healthy_status().model
    assert status is not None
    return Loaded(recognizer=Recognizer(classifier), status=msgspec.structs.replace(status, num_classes=3))


def config(tmp_path: Path, **changes: Any) -> AgentConfig:
    camera = CameraSection(source=changes.pop("source", "synthetic:160x120@60"), **changes.pop("camera", {}))
    return AgentConfig(
        bundle="unused", device_id="kitchen", state_dir=str(tmp_path / "state"), camera=camera, web=None, **changes
    )


@contextlib.contextmanager
def running(agent: Agent) -> Iterator[threading.Event]:
    """The agent in a thread, as its main thread; its errors come out at the end."""
    stop, errors = threading.Event(), list[Exception]()

    def run() -> None:
        try:
            agent.run(stop)
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(DEADLINE_S)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def named(name: str, model: BrightnessModel | None = None) -> Loaded:
    one = loaded(model)
    return msgspec.structs.replace(one, status=msgspec.structs.replace(one.status, name=name))
