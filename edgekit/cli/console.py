"""What the commands print, and how they end: bars on stderr, results on stdout, errors in two lines."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

DEBUG_VARIABLE = "EDGEKIT_DEBUG"
QUIET_VARIABLE = "EDGEKIT_QUIET"
VERBOSE_VARIABLE = "EDGEKIT_VERBOSE"


def is_set(variable: str) -> bool:
    """Whether a global switch is on (--debug, --quiet, --verbose set them for the process)."""
    return os.environ.get(variable, "") not in {"", "0"}


def stdout() -> Console:
    """Console for results."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def stderr() -> Console:
    """Console for bars, notes and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def show(renderable: RenderableType) -> None:
    """Print a result for people, unless --quiet."""
    if not is_set(QUIET_VARIABLE):
        stdout().print(renderable)


def note(message: str) -> None:
    """Print one line on stderr, unless --quiet."""
    if not is_set(QUIET_VARIABLE):
        stderr().print(message, markup=False)


def print_json(document: Any) -> None:  # noqa: ANN401 - anything msgspec can encode
    """Print exactly one JSON document on stdout."""
    import msgspec

    content = msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2)
    sys.stdout.write(content.decode() + "\n")


class Bars:
    """A `Progress` that draws one bar after the other on stderr; nothing when stderr is no terminal."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._shown = sys.stderr.isatty() and not is_set(QUIET_VARIABLE)

    def begin(self, label: str, total: int) -> None:
        """Start a bar; the one before it stays on screen, finished."""
        self.end()
        if not self._shown:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[status]}"),
            console=stderr(),
        )
        self._bar.start()
        self._task = self._bar.add_task(label, total=max(total, 1), status="")

    def advance(self, amount: int = 1, status: str = "") -> None:
        """Move the bar and show the numbers of the moment."""
        if self._bar is not None and self._task is not None:
            fields = {"status": status} if status else {}
            self._bar.update(self._task, advance=amount, **fields)

    def end(self) -> None:
        """Stop drawing."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
