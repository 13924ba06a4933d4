"""The agent as a whole: its parts in their order, and one life from the first snapshot to the last.

The main thread only waits, so that a signal is answered at once whatever the runtime is doing; loading and inference
have a thread of their own. Whoever tells things outside (terminal, HTTP, MQTT, files) is there before the model is.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from edgekit.agent.camera import show_source
from edgekit.agent.capture.supervisor import CaptureSupervisor
from edgekit.agent.config import AgentConfig
from edgekit.agent.lifecycle.heartbeats import Beat, Heartbeats
from edgekit.agent.lifecycle.notify import Notifier
from edgekit.agent.lifecycle.watchdog import Watchdog
from edgekit.agent.loop import InferenceLoop, Serving
from edgekit.agent.outside import Outside
from edgekit.agent.recognition import Recognizer
from edgekit.agent.reporter import StatusSink
from edgekit.core.device_status import CameraStatus, ModelStatus
from edgekit.core.errors import EdgekitError

_logger = logging.getLogger(__name__)

WEDGED_EXIT_CODE = 70
"""What the process ends with when a part of it no longer moves. Whoever watches over it starts it again."""

INFERENCE_LIMIT_S = 10.0
CAMERA_LIMIT_S = 10.0
"""How long these parts may be silent. The camera's is that of the thread which watches the camera: a camera that gives
nothing is a state, not a wedge."""

_SLOW_MODEL_FACTOR = 5
_LONGEST_LIMIT_S = 14.0
"""However slow the model: a wedge is to be found within 15 s."""

_GRACE_S = 1.0
"""For the loop to finish its frame when the agent ends."""

_SHOW_WEDGE_S = 1.5


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A model that may serve.

    Args:
        recognizer: The model.
        status: What is told about it.
        baseline: Share of each class on test pictures; None when it is not known.
    """

    recognizer: Recognizer
    status: ModelStatus
    baseline: tuple[float, ...] | None = None


class Agent:
    """One agent.

    Args:
        config: What it was told. Checked here: raises UsageError, DataError or MissingDependencyError.
        load: Loads the model, in the thread that will run it; its argument is called now and then meanwhile. None,
            but not the first time: what it loaded last is still what is configured.
        sinks: Get every snapshot, besides those that the configuration names.
        notifier: To systemd; None to look whether there is one.
        leave: Ends the process when a part is wedged, with an exit code.
    """

    def __init__(
        self,
        config: AgentConfig,
        load: Callable[[Beat], Loaded | None],
        sinks: Sequence[StatusSink] = (),
        *,
        notifier: Notifier | None = None,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        config.loop.check()
        self._config = config
        self._load = load
        self._leave = leave
        self._request = config.camera.request()
        self._notifier = notifier or Notifier.from_environment()
        self._heartbeats = Heartbeats()
        self._watchdog = Watchdog(self._heartbeats, self._notifier, self._on_wedge)
        self._camera: CaptureSupervisor | None = None
        self._beat_camera: Beat = _never
        self._loop: InferenceLoop | None = None
        self._loading = threading.Lock()
        self._is_loading = True  # the first model; whatever is asked for meanwhile is taken up after it
        self._is_asked = False
        self._error: Exception | None = None
        self.wedged: tuple[str, ...] = ()
        self._finished = threading.Event()
        waiting = CameraStatus(kind=self._request.kind, source=show_source(self._request), state="opening")
        self.outside = Outside(config, waiting, self._heartbeats, self.pids, sinks)

    def run(self, stop: threading.Event) -> None:
        """Live until told to stop, or until the camera's file is over or enough frames are answered.

        Raises:
            EdgekitError: The model may not serve, or a part cannot start (a port in use); nothing is left running.
        """
        worker = threading.Thread(target=self._work, args=(stop,), name="edgekit-inference", daemon=True)
        try:
            self.outside.start()
            self._watchdog.start()
            worker.start()
            stop.wait()
        finally:
            self._end(worker)
        if self._error is not None:
            raise self._error

    def reload(self) -> None:
        """Load the configured bundle again, beside the model that serves, and change over between two frames.

        Returns at once. While a model is being loaded it is remembered, and done after that: what is configured last
        serves in the end. A bundle that may not serve changes nothing but the snapshots' `detail`.
        """
        with self._loading:
            self._is_asked = True
            if self._is_loading:
                _logger.info("a model is being loaded; the next one comes after it")
                return
            self._is_loading = self._start_loader()

    @property
    def is_stuck(self) -> bool:
        """Whether the inference thread did not end with the rest: the process must leave without it."""
        return not self._finished.is_set()

    def pids(self) -> tuple[int, ...]:
        """The processes that are the agent: this one, and the camera's."""
        return (os.getpid(), *(self._camera.pids() if self._camera is not None else ()))

    def _work(self, stop: threading.Event) -> None:
        """What the inference thread does: load, then answer."""
        try:
            loaded = self._load(lambda: None)
            if loaded is not None and not stop.is_set():
                self._serve(loaded, stop)
        except Exception as error:  # noqa: BLE001 - it is raised again, in the main thread
            self._error = error
        finally:
            self._finished.set()
            stop.set()

    def _serve(self, loaded: Loaded, stop: threading.Event) -> None:
        self._beat_camera = self._heartbeats.register("camera", CAMERA_LIMIT_S)
        serving = self._put_to_work(loaded)
        slow_s = _SLOW_MODEL_FACTOR * loaded.status.first_inference_ms / 1e3
        limit_s = max(INFERENCE_LIMIT_S, min(slow_s, _LONGEST_LIMIT_S))
        beat = self._heartbeats.register("inference", limit_s)
        self._notifier.ready(f"{loaded.status.name} serves {show_source(self._request)}")
        loop = InferenceLoop(serving.source, serving.recognizer, self._config.loop, serving.sinks, beat)
        self._loop = loop
        with self._loading:
            self._is_loading = self._is_asked and self._start_loader()
        try:
            loop.run(stop)
        finally:
            self._heartbeats.unregister("inference")

    def _put_to_work(self, loaded: Loaded) -> Serving:
        """The camera for this model, and everybody told of it. The inference thread calls this, between two frames."""
        min_size = None if self._config.camera.full_decode else loaded.recognizer.min_picture_size
        if self._camera is None or _is_too_small(self._request.min_size, min_size):
            if self._camera is not None:
                self._camera.stop()
            self._request = msgspec.structs.replace(self._request, min_size=min_size)
            self._camera = CaptureSupervisor(self._request, beat=self._beat_camera)
            self._camera.start()
        sinks = self.outside.serve(self._camera, loaded.status, loaded.recognizer.labels, loaded.baseline)
        return Serving(source=self._camera, recognizer=loaded.recognizer, sinks=sinks)

    def _start_loader(self) -> bool:
        """Start the loader's thread, with the lock held; False when there is no further thread to be had."""
        try:
            threading.Thread(target=self._load_asked, name="edgekit-loader", daemon=True).start()
        except RuntimeError as error:
            _logger.warning("no new model: %s", error)
            return False
        return True

    def _load_asked(self) -> None:
        """What the loader's thread does: load as long as somebody has asked meanwhile."""
        while True:
            with self._loading:
                self._is_loading, self._is_asked = self._is_asked, False
                if not self._is_loading:
                    return
            try:
                self._load_again()
            except BaseException:  # a defect: it ends this thread, and may not end all loading
                with self._loading:
                    self._is_loading = False
                raise

    def _load_again(self) -> None:
        """Load once: the old model serves until the new one has proved itself."""
        try:
            loaded = self._load(lambda: None)
        except (EdgekitError, OSError, MemoryError) as error:
            _logger.error("the old model serves on: %s", error)  # noqa: TRY400 - a refusal, not a defect
            self.outside.tell(f"a new model was refused: {error}")
            return
        if self._loop is not None and loaded is not None:
            self._loop.exchange(lambda: self._put_to_work(loaded))
            self.outside.tell("")
            _logger.info("%s takes over", loaded.status.name)

    def _end(self, worker: threading.Thread) -> None:
        """Stop everything, side by side: all of it has two seconds."""
        self._notifier.stopping()
        if worker.is_alive():
            worker.join(_GRACE_S)
        self._watchdog.stop()
        camera = self._camera
        closing = None if camera is None else threading.Thread(target=camera.stop, daemon=True)
        if closing is not None:
            closing.start()
        self.outside.stop()
        if closing is not None:
            closing.join(_GRACE_S)

    def _on_wedge(self, names: tuple[str, ...]) -> None:
        """A part stands still: say so, leave time for one snapshot that shows it, and end."""
        self.wedged = names
        _logger.error("%s: nothing moved for too long; the agent ends", " and ".join(names))
        time.sleep(_SHOW_WEDGE_S)
        self._leave(WEDGED_EXIT_CODE)


def _never() -> None:
    """Nobody watches the camera yet."""


def _is_too_small(has: tuple[int, int] | None, needed: tuple[int, int] | None) -> bool:
    """Whether pictures that were asked for at one size at least may be too small for what needs another."""
    if has is None:
        return False
    return needed is None or has[0] < needed[0] or has[1] < needed[1]
