"""Fakes of what the agent's loop meets: a source of frames that a test scripts, and a model that sees brightness."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.artifact import ModelCard
from edgekit.core.device_status import CameraStatus
from edgekit.core.errors import UnknownNameError
from edgekit.core.frame import Frame
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.runtime.classify import Classifier
from edgekit.runtime.tensor import TensorSpec

LABELS = ("dark", "medium", "bright")
SPEC = PreprocessSpec(input_size=(8, 8), num_channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


class BrightnessModel:
    """An `Interpreter` whose logits say whether its picture is dark, medium or bright.

    Args:
        answer: Logits to give instead, whatever it sees.
    """

    name = "fake 1.0"
    file_path = Path("fake.tflite")
    input = TensorSpec(name="input", shape=(1, 8, 8, 3), dtype="float32", layout="NHWC")
    output = TensorSpec(name="output", shape=(1, 3), dtype="float32")
    card = ModelCard(model="fake", scheme="float", labels=LABELS, preprocess=SPEC)
    tensor_names = ("output",)

    def __init__(self, answer: tuple[float, ...] | None = None) -> None:
        self._answer = answer
        self.seen: list[npt.NDArray[np.float32]] = []

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        self.seen.append(batch)
        if self._answer is not None:
            return np.array([self._answer], np.float32)
        centres = np.array([0.0, 0.5, 1.0])
        return (-40 * (centres - batch.mean()) ** 2)[np.newaxis].astype(np.float32)

    def read_tensor(self, name: str) -> npt.NDArray[np.float32]:
        raise UnknownNameError("tensor", name, self.tensor_names)


def brightness_classifier(answer: tuple[float, ...] | None = None) -> Classifier:
    return Classifier(BrightnessModel(answer), SPEC, LABELS)


def gray_frame(level: int, *, sequence: int = 0, captured_ns: int | None = None) -> Frame:
    return Frame(
        picture=np.full((24, 32, 3), level, np.uint8),
        color_order="bgr",
        sequence=sequence,
        captured_ns=time.monotonic_ns() if captured_ns is None else captured_ns,
        time_source="arrival",
    )


class ScriptedSource:
    """A `FrameSource` that gives what the test wrote; None stands for a moment without a frame.

    When the script is over it stops the loop.
    """

    def __init__(self, script: Iterable[Frame | None], stop: threading.Event | None = None) -> None:
        self._script = deque(script)
        self._stop = stop
        self.wanted: list[int] = []
        self.camera = CameraStatus(kind="synthetic", source="", state="streaming", width=32, height=24)

    def want(self, at_ns: int) -> None:
        self.wanted.append(at_ns)

    def take(self, timeout_s: float) -> Frame | None:
        del timeout_s
        if self._script:
            return self._script.popleft()
        if self._stop is not None:
            self._stop.set()
        self.camera = msgspec.structs.replace(self.camera, state="ended")
        return None

    def lose(self) -> None:
        self.camera = msgspec.structs.replace(self.camera, num_lost=self.camera.num_lost + 1)

    def status(self) -> CameraStatus:
        return self.camera
