"""One agent in this process, measured from its first steady answer to its last: a part of `bench_agent.py`.

    python tools/agent_worker.py MODEL CAMERA --answers N [--unpaced] [--max-fps F] [--delay-ms D] [--http]
    python tools/agent_worker.py MODEL VIDEO --bare --answers N

MODEL is a model file, or `burn:MS` for a stand-in that computes for so long without a runtime and answers nonsense.
`--bare` runs the bare loop instead of an agent: the same steps of the same interpreter over the frames of the file,
all decoded before, and nothing else. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from agent_usage import Usage, read_usage, restart
from edgekit.agent.capture.painted_time import read_time
from edgekit.agent.config import AgentConfig, CameraSection
from edgekit.agent.loop import LoopSettings
from edgekit.agent.recognition import Recognizer
from edgekit.agent.service import Agent, Loaded
from edgekit.agent.web.config import WebConfig
from edgekit.core.artifact import ModelCard
from edgekit.core.device_status import DeviceStatus, ModelStatus
from edgekit.core.errors import UnknownNameError
from edgekit.core.frame import Frame
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.runtime.classify import Classifier
from edgekit.runtime.interpreter import RawArray
from edgekit.runtime.tensor import TensorSpec

NUM_WARMUP = 30
"""Answers before the measuring begins."""


class Burner:
    """An `Interpreter` that keeps its thread busy for a while: inference without a runtime and without its memory.

    Args:
        burn_ms: For so long.
    """

    name = "burner 1.0"
    file_path = Path("burner.tflite")
    input = TensorSpec(name="input", shape=(1, 224, 224, 3), dtype="uint8", layout="NHWC")
    output = TensorSpec(name="output", shape=(1, 10), dtype="float32")
    card = ModelCard(
        model="burner",
        scheme="float",
        labels=tuple(f"class {index}" for index in range(10)),
        preprocess=PreprocessSpec(input_size=(224, 224), num_channels=3, mean=(0.0,) * 3, std=(1 / 255,) * 3),
    )
    tensor_names = ("output",)

    def __init__(self, burn_ms: float) -> None:
        self._burn_s = burn_ms / 1e3

    def run(self, batch: RawArray) -> RawArray:
        """Burn, and answer the same as always."""
        end = time.thread_time() + self._burn_s
        while time.thread_time() < end:
            batch.max()
        return np.arange(10, dtype=np.float32)[np.newaxis]

    def read_tensor(self, name: str) -> npt.NDArray[np.float32]:
        """There is none."""
        raise UnknownNameError("tensor", name, self.tensor_names)


class Meter(Recognizer):
    """A recognizer that watches the answers pass: the agent's own loop and sinks are left as they are.

    Args:
        classifier: The model.
        given: `answers` are measured, then the agent is told to stop; `marks` are taken on the way; every inference
            sleeps for `delay_ms`, as a model that is slower than the camera.
        stop: What ends the agent.
        agent: The agent, once it is made.
    """

    def __init__(
        self, classifier: Classifier, given: argparse.Namespace, stop: threading.Event, agent: list[Agent]
    ) -> None:
        super().__init__(classifier)
        num_answers, num_marks, delay_ms = given.answers, given.marks, given.delay_ms
        self.begin: Usage | None = None
        self.end: Usage | None = None
        self.painted_ages_ms: list[float] = []
        self.inference_ms: list[float] = []
        self.num_seen = -NUM_WARMUP
        self.marks: list[Usage] = []
        self._mark_every = max(1, num_answers // max(1, num_marks))
        self._num_answers = num_answers
        self._delay_s = delay_ms / 1e3
        self._is_timed = num_marks == 1  # a soak must not grow by what measures it
        self._stop = stop
        self._agent = agent
        self._painted_ns: int | None = None

    def prepare(self, frame: Frame) -> RawArray:
        """Look for a painted time, when ages are measured; then as always."""
        if self._delay_s:
            self._painted_ns = read_time(frame.picture)
        return super().prepare(frame)

    def infer(self, batch: RawArray) -> RawArray:
        """Sleep, then as always."""
        started = time.perf_counter()
        if self._delay_s:
            time.sleep(self._delay_s)
        answer = super().infer(batch)
        if self.num_seen >= 0 and self._is_timed:
            self.inference_ms.append((time.perf_counter() - started) * 1e3)
        return answer

    def to_probabilities(self, answer: RawArray) -> npt.NDArray[np.float64]:
        """As always; then count."""
        probabilities = super().to_probabilities(answer)
        if self._painted_ns is not None and self.num_seen >= 0:
            self.painted_ages_ms.append((time.monotonic_ns() - self._painted_ns) / 1e6)
        self.num_seen += 1
        if self.num_seen == 0:
            pids = self._agent[0].pids()
            self.begin = restart(read_usage(pids), pids)
        elif self.num_seen > 0 and self.num_seen % self._mark_every == 0:
            self.marks.append(read_usage(self._agent[0].pids()))
        if self.num_seen == self._num_answers:
            self.end = self.marks[-1] if self.num_seen % self._mark_every == 0 else read_usage(self._agent[0].pids())
            self._stop.set()
        return probabilities


class Last:
    """A sink that keeps the last snapshot of an agent that serves."""

    def __init__(self) -> None:
        self.status: DeviceStatus | None = None

    def offer(self, status: DeviceStatus) -> None:
        """Keep it."""
        if status.num_answers:
            self.status = status


def main() -> None:
    """Measure, and print the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("model")
    parser.add_argument("camera")
    parser.add_argument("--answers", type=int, required=True)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--unpaced", action="store_true")
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--full-decode", action="store_true")
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--max-fps", type=float)
    parser.add_argument("--marks", type=int, default=1)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--state", type=Path, required=True)
    given = parser.parse_args()
    figures = run_bare(given) if given.bare else run_agent(given)
    sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")


def open_model(name: str) -> Classifier:
    """A model file, or `burn:MS`."""
    if name.startswith("burn:"):
        burner = Burner(float(name.removeprefix("burn:")))
        return Classifier(burner, burner.card.preprocess, burner.card.labels)
    return Classifier.open(Path(name))


def run_bare(given: argparse.Namespace) -> dict[str, Any]:
    """The same steps in a bare loop over frames that are decoded already."""
    import cv2

    recognizer = Recognizer(open_model(given.model))
    capture = cv2.VideoCapture(given.camera)
    pictures: list[npt.NDArray[np.uint8]] = []
    while (read := capture.read())[0]:
        pictures.append(np.asarray(read[1], np.uint8))
    capture.release()
    begin = None
    for number in range(-NUM_WARMUP, given.answers):
        if number == 0:
            begin = read_usage(())
        frame = Frame(
            picture=pictures[number % len(pictures)],
            color_order="bgr",
            sequence=number + NUM_WARMUP,
            captured_ns=0,
            time_source="arrival",
        )
        int(recognizer.infer(recognizer.prepare(frame)).argmax())
    if begin is None:
        raise SystemExit("--answers must be at least 1")
    return describe(given.answers, begin, read_usage(()))


def run_agent(given: argparse.Namespace) -> dict[str, Any]:
    """A whole agent."""
    stop = threading.Event()
    config = AgentConfig(
        bundle=given.model,
        state_dir=str(given.state),
        camera=CameraSection(
            source=given.camera, paced=not given.unpaced, loop=given.loop, full_decode=given.full_decode
        ),
        loop=LoopSettings(max_fps=given.max_fps),
        web=WebConfig(port=0) if given.http else None,
    )
    agents: list[Agent] = []
    meter = Meter(open_model(given.model), given, stop, agents)
    last = Last()
    agents.append(Agent(config, lambda _: describe_model(meter), [last]))
    agents[0].run(stop)
    if meter.begin is None or meter.end is None or last.status is None:
        raise SystemExit(f"the camera gave only {meter.num_seen + NUM_WARMUP} frames")
    figures = describe(given.answers, meter.begin, meter.end)
    figures["status"] = last.status
    figures["marks"] = describe_marks(meter.begin, meter.marks, given.answers // given.marks)
    if meter.inference_ms:
        figures["inference_p50_ms"] = float(np.median(meter.inference_ms))
    if meter.painted_ages_ms:
        figures["painted_age_p50_ms"] = float(np.median(meter.painted_ages_ms))
        figures["painted_age_p99_ms"] = float(np.percentile(meter.painted_ages_ms, 99))
        figures["painted_n"] = len(meter.painted_ages_ms)
    return figures


def describe_model(recognizer: Recognizer) -> Loaded:
    """The model as the agent tells of it."""
    interpreter = recognizer.classifier.interpreter
    status = ModelStatus(
        name=interpreter.file_path.name,
        scheme="",
        sha256="",
        release=None,
        packed_bytes=None,
        file_bytes=interpreter.file_path.stat().st_size if interpreter.file_path.is_file() else 0,
        resident_mib=0.0,
        load_ms=0.0,
        first_inference_ms=0.0,
        num_golden=0,
        runtime=interpreter.name,
        num_threads=1,
        num_classes=len(recognizer.labels),
    )
    return Loaded(recognizer=recognizer, status=status)


def describe_marks(begin: Usage, marks: list[Usage], num_answers: int) -> list[dict[str, float]]:
    """Memory at each mark, and CPU time per answer since the one before."""
    before = [begin, *marks]
    return [
        {"pss_mib": mark.pss_mib, "cpu_ms_per_answer": (mark.cpu_s - last.cpu_s) / num_answers * 1e3}
        for last, mark in zip(before, marks, strict=False)
    ]


def describe(num_answers: int, begin: Usage, end: Usage) -> dict[str, Any]:
    """Times per answer between two moments, and the memory at the second."""
    wall_s, cpu_s = end.wall_s - begin.wall_s, end.cpu_s - begin.cpu_s
    return {
        "answers": num_answers,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "answers_per_s": num_answers / wall_s,
        "cpu_ms_per_answer": cpu_s / num_answers * 1e3,
        "cpu_percent": cpu_s / wall_s * 100,
        "pss_begin_mib": begin.pss_mib,
        "pss_end_mib": end.pss_mib,
    }


if __name__ == "__main__":
    main()
