"""The one who tells systemd that everything moves, and falls silent when a part does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edgekit.agent.lifecycle.heartbeats import Heartbeats
from edgekit.agent.lifecycle.notify import Notifier

MAX_DETECTION_S = 15.0
"""The longest limit that a part may be given, so that a wedge is found within it and one turn of the watchdog."""

_INTERVAL_S = 1.0
_STALL_TURNS = 3.0


class Watchdog:
    """A thread that looks at the heartbeats and pings systemd.

    A part that is overdue is a wedge: `on_wedge` is called once with the names, and systemd is pinged no more, so
    that it kills and restarts the service when `on_wedge` does not end it first. When the thread itself came late
    (the process was stopped, the machine swapped or slept), the parts are given that time before they are judged.

    Args:
        heartbeats: Of the parts.
        notifier: To systemd.
        on_wedge: Called once, from the watchdog's thread, with the names of the parts that stand still.
        interval_s: Time between looks; shorter when systemd wants to hear more often.
    """

    def __init__(
        self,
        heartbeats: Heartbeats,
        notifier: Notifier,
        on_wedge: Callable[[tuple[str, ...]], None],
        *,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._heartbeats = heartbeats
        self._notifier = notifier
        self._on_wedge = on_wedge
        # sd_watchdog_enabled(3): ping at half the time that is allowed at the latest; a third has room for a loss.
        self.interval_s = interval_s if notifier.watchdog_s is None else min(interval_s, notifier.watchdog_s / 3)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.wedged: tuple[str, ...] = ()

    def start(self) -> None:
        """Begin to watch. Does nothing when it does already."""
        if self._thread is None:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._run, name="edgekit-watchdog", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Watch no longer, without a word to systemd. Does nothing when it does not watch."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._thread = None

    def _run(self) -> None:
        looked_s = time.monotonic()
        while not self._stopped.wait(self.interval_s):
            now = time.monotonic()
            late_s = now - looked_s - self.interval_s
            looked_s = now
            if late_s > _STALL_TURNS * self.interval_s:
                self._heartbeats.forgive(late_s)
            if not self._look():
                return

    def _look(self) -> bool:
        """One turn; whether there is a next one."""
        names = self._heartbeats.overdue()
        if not names:
            self._notifier.ping()
            return True
        self.wedged = names
        self._notifier.status(f"wedged: {', '.join(names)}")
        self._on_wedge(names)
        return False
