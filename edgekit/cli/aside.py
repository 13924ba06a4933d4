"""A thread for what may block: a terminal that stands still (Ctrl-S), a pipe whose reader is slow, a full journal."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

Job: TypeAlias = Callable[[], None]

_MAX_LOG_RECORDS = 1000


class Aside:
    """Does jobs one after the other, in a thread of its own: whoever gives it one never waits.

    Args:
        name: Of the thread.
        max_waiting: When more jobs than this wait, the oldest are dropped.
    """

    def __init__(self, name: str, *, max_waiting: int) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque(maxlen=max_waiting)
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Do this when it is its turn."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def close(self, timeout_s: float) -> bool:
        """Do what waits, and end; False when that takes longer than this."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_closing)
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            job()


class _LogAside(logging.Handler):
    """Gives log records to another handler, in a thread of its own."""

    def __init__(self, handler: logging.Handler, aside: Aside) -> None:
        super().__init__()
        self._handler = handler
        self._aside = aside

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = record.getMessage(), None  # as it is now: the arguments may change
        self._aside.put(lambda: self._emit(record))

    def _emit(self, record: logging.LogRecord) -> None:
        self._handler.handle(record)


@contextmanager
def log_aside(logger: logging.Logger, timeout_s: float) -> Generator[Aside, None, None]:
    """While inside, whoever logs never waits; at the end, what is still to go out has so long for it."""
    aside = Aside("edgekit-log", max_waiting=_MAX_LOG_RECORDS)
    before = logger.handlers[:]
    logger.handlers[:] = [_LogAside(handler, aside) for handler in before]
    try:
        yield aside
    finally:
        logger.handlers[:] = before
        aside.close(timeout_s)
