"""Running an agent from the command line: signals, the line on the terminal, one JSON document per second."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgekit.agent.config import AgentConfig
from edgekit.agent.install.living import NOT_THE_MODELS, Life
from edgekit.agent.install.serving import install_dir, released_path
from edgekit.agent.lifecycle.heartbeats import Beat
from edgekit.agent.model import load_model
from edgekit.agent.recognition import Recognizer
from edgekit.agent.service import Agent, Loaded
from edgekit.agent.status_line import status_line
from edgekit.cli.aside import Aside, log_aside
from edgekit.cli.console import QUIET_VARIABLE, is_set, note
from edgekit.core.device_status import DeviceStatus
from edgekit.core.errors import EdgekitError, OutputError

if TYPE_CHECKING:
    from typing_extensions import Self

_LAST_WORDS_S = 0.5
"""For what was said last to go out."""

_logger = logging.getLogger(__name__)


class Printer:
    """A sink of snapshots that shows each in a thread of its own; while that cannot be done, only the newest waits.

    Args:
        show: Shows one.
        stop: Set when it cannot be shown any more (the disk is full); then `error` says why.
    """

    def __init__(self, show: Callable[[DeviceStatus], None], stop: threading.Event) -> None:
        self._show = show
        self._stop = stop
        self._aside = Aside("edgekit-printer", max_waiting=1)
        self.error: OSError | None = None

    def offer(self, status: DeviceStatus) -> None:
        """Show one, when the one before has gone out."""
        self._aside.put(lambda: self._print(status))

    def close(self) -> bool:
        """Show the last one, and end; False when it does not go out. May be called again."""
        return self._aside.close(_LAST_WORDS_S)

    def _print(self, status: DeviceStatus) -> None:
        if self.error is not None:
            return
        try:
            self._show(status)
        except OSError as error:
            self.error = error
            self._stop.set()


def show_json(status: DeviceStatus, stop: threading.Event) -> None:
    """Print a snapshot as one line. Who reads no more ends the agent."""
    content = msgspec.json.encode(status) + b"\n"
    try:
        while content:
            content = content[os.write(sys.stdout.fileno(), content) :]
    except BrokenPipeError:
        stop.set()


class PageNote:
    """A sink of snapshots that says once where the live page is.

    Args:
        aside: Says it.
        find: The page's address; None without one, "" before it is there.
    """

    def __init__(self, aside: Aside, find: Callable[[], str | None]) -> None:
        self._aside = aside
        self._find = find
        self._is_told = False

    def offer(self, status: DeviceStatus) -> None:
        """Say it, if that has not been."""
        del status
        address = self._find()
        if address and not self._is_told:
            self._is_told = True
            self._aside.put(lambda: note(f"live page: {address}"))


class TerminalLine:
    """Keeps one line on the terminal, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._live = RichLive(console=Console(stderr=True), auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        _send_log_to_stderr()  # to what rich has put there: log lines then go above the line, not into it
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.stop()
        _send_log_to_stderr()

    def show(self, status: DeviceStatus) -> None:
        """Replace the line."""
        from rich.text import Text

        with contextlib.suppress(OSError):  # the terminal is gone; whoever closed it has said with SIGHUP what is to be
            self._live.update(Text(status_line(status)), refresh=True)


def _send_log_to_stderr() -> None:
    """Let edgekit's log go to what `sys.stderr` is now."""
    for handler in logging.getLogger("edgekit").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)


def run_agent(config: AgentConfig, *, as_json: bool) -> None:
    """Run until a signal, the end of the camera's file, or enough answers.

    Raises:
        OutputError: What it tells cannot be written.
        EdgekitError: As `Agent` and `Agent.run`.
    """
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        is_terminal = sys.stderr.isatty()
        shows: list[Callable[[DeviceStatus], None]] = []
        if as_json:
            shows.append(lambda status: show_json(status, stop))
        elif is_terminal and not is_set(QUIET_VARIABLE):
            shows.append(stack.enter_context(TerminalLine()).show)
        log = stack.enter_context(log_aside(logging.getLogger("edgekit"), _LAST_WORDS_S))
        printers = [Printer(show, stop) for show in shows]
        for printer in printers:
            stack.callback(printer.close)
        page = PageNote(log, lambda: agent.outside.web_address)
        life = stack.enter_context(living(config))

        def leave(code: int) -> None:
            if life is not None:  # a camera or a broker that stands still is not the model's fault
                life.end_quickly(in_good_order="inference" not in agent.wedged)
            os._exit(code)

        agent = Agent(
            config, lambda beat: load(config, agent.outside.state_dir, beat, life), [*printers, page], leave=leave
        )
        # a service is told by SIGHUP to load again; who sits at a terminal has closed it
        stack.enter_context(signals_set(stop, stop.set if is_terminal else agent.reload))
        agent.run(stop)
        is_told = all(tuple(printer.close() for printer in printers))
        if agent.is_stuck or not is_told:
            # the runtime, or the terminal, does not come back: waiting for its thread would be hanging at the very end
            log.close(_LAST_WORDS_S)
            if life is not None:
                life.end_quickly(in_good_order=True)
            os._exit(0)
        for error in (printer.error for printer in printers if printer.error is not None):
            raise OutputError(f"cannot print: {error.strerror or error}") from error


@contextlib.contextmanager
def living(config: AgentConfig) -> Generator[Life | None, None, None]:
    """Where `current` is served: settle what was left there, be found by installers, and see how this life ends."""
    folder = install_dir(Path(config.bundle))
    if folder is None:
        yield None
        return
    life = Life(folder)
    life.begin()
    in_good_order = False
    try:
        yield life
        in_good_order = True
    except NOT_THE_MODELS:
        in_good_order = True
        raise
    finally:
        life.end(in_good_order=in_good_order)


def load(config: AgentConfig, state_dir: Path, beat: Beat, life: Life | None = None) -> Loaded | None:
    """Load the configured bundle; where what made it is installed, a run folder, too.

    Returns:
        The model; None when `current` still names the release that was loaded last: an installer tells it more than
        once, and a release never changes.
    """
    path = released_path(Path(config.bundle))
    if life is not None and life.digest == path.name:
        return None
    try:
        serving = load_model(path, config.model, state_dir, make_bundle=bundle_run_folder, beat=beat)
    except EdgekitError as error:
        if life is not None:
            life.refused(path.name, str(error))
        raise
    if life is not None:
        life.took(serving.digest)
    return Loaded(recognizer=Recognizer(serving.classifier), status=serving.status, baseline=serving.baseline)


def bundle_run_folder(run_dir: Path, folder: Path) -> Path:
    """A bundle of a run folder. Its maker is imported only here: an agent on a board never needs it."""
    from edgekit.deploy.bundling import bundle_run

    return bundle_run(run_dir, folder)


@contextlib.contextmanager
def signals_set(stop: threading.Event, on_hangup: Callable[[], None]) -> Generator[None, None, None]:
    """While inside, SIGTERM and Ctrl-C set the event, a second Ctrl-C interrupts as usual, SIGHUP does `on_hangup`."""
    # An event may not be set in the handler: it may interrupt the main thread while that holds the event's lock.
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()

    def on_signal(number: int, frame: object) -> None:
        del frame
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt
        heard.put(number)

    def obey() -> None:
        while number := heard.get():
            if number == signal.SIGHUP:
                on_hangup()
            else:
                stop.set()

    obeying = threading.Thread(target=obey, name="edgekit-signals", daemon=True)
    obeying.start()
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        heard.put(0)
        obeying.join()
