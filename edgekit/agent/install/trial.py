"""Try one staged release in a process of its own: `python -m edgekit.agent.install.trial FD`.

Told by one `TrialOrder` on standard input; tells by `Message`s, one JSON document a line, on the descriptor FD.
Whatever a model does to a runtime, it does it here. Nothing is decided here: the installer judges what is told.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import resource
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path

import msgspec
import numpy as np

from edgekit.agent.install.frames import FramesMissingError, live_frames
from edgekit.agent.install.gate import NUM_FOR_P90, is_too_slow
from edgekit.agent.install.messages import (
    Alive,
    Failed,
    FailureKind,
    FrameSettings,
    Measured,
    Message,
    Stage,
    TrialOrder,
    TrialSettings,
)
from edgekit.agent.model import ServingModel, load_model
from edgekit.bundle.golden import GoldenSet, check_answers
from edgekit.bundle.reading import Bundle, open_bundle
from edgekit.core.errors import (
    BarNotMetError,
    DataError,
    EdgekitError,
    GraphError,
    MissingDependencyError,
    OutputError,
    UsageError,
)
from edgekit.core.frame import ColorOrder
from edgekit.runtime.predict import predict_logits
from edgekit.runtime.preprocess import Picture, fit_picture, to_input
from edgekit.runtime.probe import peak_rss_mib

_BEAT_S = 0.25
_SOAK_FPS = 10.0
_OOM_SCORE_PATH = Path("/proc/self/oom_score_adj")
_PR_SET_PDEATHSIG = 1


class Teller:
    """Tells the installer.

    Args:
        descriptor: Of the pipe.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._told_s = 0.0
        self.stage: Stage = "starting"

    def enter(self, stage: Stage) -> None:
        """Tell where it is from now on."""
        self.stage = stage
        self._told_s = 0.0
        self.beat()

    def beat(self) -> None:
        """Tell that something moves; not more often than is of use."""
        now_s = time.monotonic()
        if now_s - self._told_s >= _BEAT_S:
            self._told_s = now_s
            self.tell(Alive(stage=self.stage))

    def tell(self, message: Message) -> None:
        """Tell something."""
        content = memoryview(msgspec.json.encode(message) + b"\n")
        while content:
            content = content[os.write(self._descriptor, content) :]


class Trial:
    """One model on trial.

    Args:
        order: What was told.
        teller: To the installer.
    """

    def __init__(self, order: TrialOrder, teller: Teller) -> None:
        self._settings: TrialSettings = order.settings
        self._folder = Path(order.bundle)
        self._work_dir = Path(order.work_dir)
        self._teller = teller
        self._num_not_finite = 0

    def run(self) -> Measured:
        """Load, time, watch, soak. Raises EdgekitError for what the model or the machine does not do."""
        self._teller.enter("loading")
        bundle = open_bundle(self._folder)
        model = load_model(self._folder, self._settings.model, self._work_dir, beat=self._teller.beat)
        born_s = time.monotonic()
        self._teller.enter("timing")
        query_ms = self._time_queries(model, bundle)
        self._teller.enter("watching")
        num_frames, detail = self._watch(model, self._settings.frames)
        self._teller.enter("soaking")
        self._soak(model, bundle, born_s + self._settings.soak_s)
        lived_s = time.monotonic() - born_s
        num_after = self._ask_again(model, bundle)
        classifier = model.classifier
        return Measured(
            runtime=model.status.runtime,
            labels=classifier.labels,
            input_shape=classifier.interpreter.input.image_shape,
            num_classes=classifier.num_classes,
            load_ms=model.status.load_ms,
            num_golden=(model.status.num_golden, num_after),
            num_not_finite=self._num_not_finite,
            query_ms=tuple(query_ms),
            peak_rss_mib=peak_rss_mib(),
            num_frames=num_frames,
            frames_detail=detail,
            lived_s=lived_s,
        )

    def _time_queries(self, model: ServingModel, bundle: Bundle) -> list[float]:
        """Wall time of inferences, ms: as many as planned, fewer when it is clear that they are too slow."""
        classifier, allowed_ms = model.classifier, bundle.manifest.budgets.p90_ms
        planned = self._settings.num_queries
        until_s = time.monotonic() + self._settings.deadline_s / 3
        batches = [to_input(one[np.newaxis], classifier.spec, classifier.interpreter.input) for one in _few(bundle)]
        query_ms: list[float] = []
        for batch in itertools.islice(itertools.cycle(batches), planned):
            started = time.perf_counter()
            answer = classifier.interpreter.run(batch)
            query_ms.append((time.perf_counter() - started) * 1e3)
            self._count_not_finite(classifier.interpreter.output.dequantize(answer))
            self._teller.beat()
            if allowed_ms is not None and is_too_slow(query_ms, allowed_ms, planned):
                break
            if len(query_ms) >= NUM_FOR_P90 and time.monotonic() > until_s:
                break
        return query_ms

    def _watch(self, model: ServingModel, settings: FrameSettings) -> tuple[int, str]:
        """Answer live frames: how many, and why no more."""
        if settings.is_waived:
            return 0, ""
        num = 0
        try:
            with live_frames(settings, model.classifier.spec, self._teller.beat) as frames:
                for picture, order in frames:
                    self._answer(model, picture, order)
                    self._teller.beat()
                    num += 1
                    if num >= settings.num:
                        break
        except FramesMissingError as error:
            return num, str(error)
        return num, ""

    def _soak(self, model: ServingModel, bundle: Bundle, until_s: float) -> None:
        """Go on answering, at a camera's pace, until it has lived long enough."""
        for picture in itertools.cycle(_few(bundle)):
            self._answer(model, picture, "rgb")
            self._teller.beat()
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, 1 / _SOAK_FPS))

    def _answer(self, model: ServingModel, picture: Picture, order: ColorOrder) -> None:
        classifier = model.classifier
        fitted = fit_picture(picture, classifier.spec, color_order=order)
        self._count_not_finite(predict_logits(classifier.interpreter, fitted[np.newaxis], classifier.spec))

    def _count_not_finite(self, answer: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        self._num_not_finite += not bool(np.isfinite(answer).all())

    def _ask_again(self, model: ServingModel, bundle: Bundle) -> int:
        """How many golden pictures are still answered right after all that."""
        classifier, golden = model.classifier, bundle.golden
        num_right = 0
        for index, picture in enumerate(golden.pictures):
            answer = predict_logits(classifier.interpreter, picture[np.newaxis], classifier.spec)
            num_right += _is_right(golden, answer, index)
            self._teller.beat()
        return num_right


def bind(order: TrialOrder) -> None:
    """Put this process on a leash: it dies with its parent, goes first when memory runs out, and has limits.

    The size limit is on private memory, not on address space: runtimes map files and reserve far more than they use.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != order.parent_pid:
        sys.exit(1)  # it was gone before we looked
    with contextlib.suppress(OSError):
        _OOM_SCORE_PATH.write_text("1000", encoding="ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_DATA, order.max_bytes)
    _limit(resource.RLIMIT_CPU, int(order.settings.deadline_s * (os.cpu_count() or 1)) + 1)


def name_failure(error: EdgekitError, stage: Stage) -> FailureKind:
    """Which rule an error breaks."""
    if isinstance(error, (MissingDependencyError, OutputError)):
        return "environment"
    if isinstance(error, BarNotMetError):
        return "golden"
    if isinstance(error, UsageError):
        return "compatible"
    return "finite" if isinstance(error, GraphError) and stage != "loading" else "loads"


def main() -> None:
    """Run one trial. The exit code is 0 when it told what it found, whatever that was."""
    teller = Teller(int(sys.argv[1]))
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=TrialOrder)
    bind(order)
    teller.beat()
    with _failures_told(teller, order):
        teller.tell(Trial(order, teller).run())
        teller.enter("done")


@contextlib.contextmanager
def _failures_told(teller: Teller, order: TrialOrder) -> Generator[None, None, None]:
    try:
        yield
    except EdgekitError as error:
        words = " ".join(str(error).replace(f"{order.bundle}: ", "").split())
        told = Failed(kind=name_failure(error, teller.stage), stage=teller.stage, message=words)
    except MemoryError:
        told = Failed(kind="loads", stage=teller.stage, message="out of memory: it wants more than the trial may have")
    except OSError as error:
        told = Failed(kind="environment", stage=teller.stage, message=str(error))
    else:
        return
    teller.tell(told)


def _few(bundle: Bundle) -> list[Picture]:
    return list(bundle.golden.pictures)


def _is_right(golden: GoldenSet, answer: np.ndarray[tuple[int, ...], np.dtype[np.float32]], index: int) -> bool:
    try:
        check_answers(golden, answer, first=index)
    except (BarNotMetError, DataError):
        return False
    return True


def _limit(what: int, wanted: int) -> None:
    _, hard = resource.getrlimit(what)
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (value, value))


if __name__ == "__main__":
    main()
