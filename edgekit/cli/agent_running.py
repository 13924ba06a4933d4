"""Running an agent from the command line: signals, the line on the terminal, one JSON document per second."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgekit.agent.config import AgentConfig
from edgekit.agent.install.installer import Installer
from edgekit.agent.install.serving import ServingPost, install_dir, released_path
from edgekit.agent.lifecycle.heartbeats import Beat
from edgekit.agent.model import load_model
from edgekit.agent.recognition import Recognizer
from edgekit.agent.service import Agent, Loaded
from edgekit.agent.status_line import status_line
from edgekit.cli.console import QUIET_VARIABLE, is_set
from edgekit.core.device_status import DeviceStatus
from edgekit.core.errors import EdgekitError

if TYPE_CHECKING:
    from typing_extensions import Self

    from edgekit.agent.reporter import StatusSink


_logger = logging.getLogger(__name__)


class JsonLines:
    """A sink of snapshots that prints each as one line. Who reads no more ends the agent, as a closed pipe should.

    Args:
        stop: Set when nobody reads any more.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def offer(self, status: DeviceStatus) -> None:
        """Print one."""
        try:
            sys.stdout.write(msgspec.json.encode(status).decode() + "\n")
            sys.stdout.flush()
        except (BrokenPipeError, ValueError):
            self._stop.set()


class TerminalLine:
    """A sink of snapshots that keeps one line on the terminal, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._live = RichLive(console=Console(stderr=True), auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        _send_log_to_stderr()  # to what rich has put there: log lines then go above the line, not into it
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
        _send_log_to_stderr()

    def offer(self, status: DeviceStatus) -> None:
        """Replace the line."""
        from rich.text import Text

        self._live.update(Text(status_line(status)), refresh=True)


def _send_log_to_stderr() -> None:
    """Let edgekit's log go to what `sys.stderr` is now."""
    for handler in logging.getLogger("edgekit").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)


def run_agent(config: AgentConfig, *, as_json: bool) -> None:
    """Run until a signal, the end of the camera's file, or enough answers. Raises as `Agent` and `Agent.run`."""
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        sinks: list[StatusSink] = []
        if as_json:
            sinks.append(JsonLines(stop))
        elif sys.stderr.isatty() and not is_set(QUIET_VARIABLE):
            sinks.append(stack.enter_context(TerminalLine()))
        post = stack.enter_context(posted(config))
        agent = Agent(config, lambda beat: load(config, agent.outside.state_dir, beat, post), sinks)
        stack.enter_context(signals_set(stop, agent.reload))
        agent.run(stop)
        if agent.is_stuck:
            # the runtime does not come back: waiting for its thread would be hanging at the very end
            sys.stdout.flush()
            os._exit(0)


@contextlib.contextmanager
def posted(config: AgentConfig) -> Generator[ServingPost | None, None, None]:
    """Where `current` is served: settle what an interrupted installation left, and be found by installers."""
    folder = install_dir(Path(config.bundle))
    if folder is None:
        yield None
        return
    try:
        report = Installer(folder).recover()
        if report.result != "unchanged":
            _logger.warning("%s release %d: %s %s", report.name, report.release, report.result, report.detail)
    except EdgekitError as error:  # what is there serves all the same
        _logger.warning("%s", error)
    post = ServingPost(folder)
    post.open()
    try:
        yield post
    finally:
        post.close()


def load(config: AgentConfig, state_dir: Path, beat: Beat, post: ServingPost | None = None) -> Loaded:
    """Load the configured bundle; where what made it is installed, a run folder, too."""
    path = released_path(Path(config.bundle))
    try:
        serving = load_model(path, config.model, state_dir, make_bundle=bundle_run_folder, beat=beat)
    except EdgekitError as error:
        if post is not None:
            post.refused(path.name, str(error))
        raise
    if post is not None:
        post.took(serving.digest)
    return Loaded(recognizer=Recognizer(serving.classifier), status=serving.status, baseline=serving.baseline)


def bundle_run_folder(run_dir: Path, folder: Path) -> Path:
    """A bundle of a run folder. Its maker is imported only here: an agent on a board never needs it."""
    from edgekit.deploy.bundling import bundle_run

    return bundle_run(run_dir, folder)


@contextlib.contextmanager
def signals_set(stop: threading.Event, reload: Callable[[], None]) -> Generator[None, None, None]:
    """While inside, SIGTERM and Ctrl-C set the event, a second Ctrl-C interrupts as usual, SIGHUP loads again."""

    def on_signal(number: int, frame: object) -> None:
        del frame
        if number == signal.SIGHUP:
            reload()
            return
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
