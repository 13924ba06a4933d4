"""What the commands print: bars and notes on stderr, results on stdout, and nothing when nobody reads it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from edgekit.core.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    import msgspec
    from rich.console import Console, RenderableType
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.table import Table
    from typing_extensions import Self

DocumentT = TypeVar("DocumentT", bound="msgspec.Struct")

DEBUG_VARIABLE = "EDGEKIT_DEBUG"
QUIET_VARIABLE = "EDGEKIT_QUIET"
VERBOSE_VARIABLE = "EDGEKIT_VERBOSE"
_PIPE_WIDTH = 160
"""Columns where no terminal says otherwise: tables that go into a file should not be folded."""


def is_set(variable: str) -> bool:
    """Whether a global switch is on (--debug, --quiet, --verbose set them while a command runs)."""
    return os.environ.get(variable, "") not in {"", "0"}


def show(renderable: RenderableType) -> None:
    """Print a result for people, unless --quiet. Text is printed as it is: brackets in file names are no markup."""
    if not is_set(QUIET_VARIABLE):
        write_text(sys.stdout, _render(sys.stdout, renderable))


def show_lines(lines: Iterable[str]) -> None:
    """Print lines for people, unless --quiet, and cut none: a file name at the end must stay whole."""
    if not is_set(QUIET_VARIABLE):
        write_text(sys.stdout, "".join(f"{line}\n" for line in lines))


def note(message: str) -> None:
    """Print one line on stderr, unless --quiet."""
    if not is_set(QUIET_VARIABLE):
        print_line(message)


def print_line(message: str, style: str | None = None) -> None:
    """Print one line on stderr, also under --quiet: that is for errors."""
    write_text(sys.stderr, _render(sys.stderr, message, style))


def print_json(document: Any) -> None:  # noqa: ANN401 - anything msgspec can encode
    """Print exactly one JSON document on stdout, in UTF-8 (as JSON has to be) whatever the terminal speaks."""
    import msgspec

    print_document(msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2))


def print_document(content: bytes) -> None:
    """Print a JSON document that is encoded already."""
    text = content.rstrip().decode() + "\n"
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        write_text(sys.stdout, text)
        return
    sys.stdout.flush()
    with _unread_is_fine(sys.stdout):
        buffer.write(text.encode())
        buffer.flush()


def show_document(
    document: DocumentT, render: Callable[[DocumentT], RenderableType], html_path: Path | None, *, as_json: bool
) -> None:
    """Print what was measured: as one JSON document, or for people, with the page that was written.

    Args:
        document: What `edgekit.report` writes.
        render: Draws it for a terminal.
        html_path: Its page; None for none.
        as_json: Whether programs read it.
    """
    from edgekit.report.files import encode_report, without_surrogates

    if as_json:
        print_document(encode_report(without_surrogates(document)).encode())
        return
    show(render(document))
    if html_path is not None:
        show(f"\n{html_path}")


def write_text(stream: TextIO, text: str) -> None:
    """Write and flush; when the reader went away (`| head`), go on in silence: the exit code still tells the result."""
    with _unread_is_fine(stream):
        stream.write(text)
        stream.flush()


def plain_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str], unbroken: Collection[str] = ()
) -> Table:
    """A table without lines, numbers to the right.

    Args:
        titles: Of the columns.
        rows: Cells, as many as titles.
        left: Titles of the columns that read from the left.
        unbroken: Titles of the columns whose cells stay on one line.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, justify="left" if title in left else "right", no_wrap=title in unbroken)
    for row in rows:
        table.add_row(*row)
    return table


def model_file(path: Path) -> Path:
    """The file that a command works on: the path itself, or `model.tflite` of a run folder.

    Raises:
        UsageError: A folder without one.
    """
    if not path.is_dir():
        return path
    file = path / "model.tflite"
    if not file.is_file():
        raise UsageError(f"{path} holds no model.tflite", hint="name a .tflite or .onnx file, or a run of compress")
    return file


def unreadable_lines(reasons: Sequence[str], num_unreadable: int) -> list[str]:
    """Notes on the pictures that were left out: the first few by name, and how many there are in all.

    >>> unreadable_lines(["unreadable picture a.png: truncated"], 3)
    ['left out: unreadable picture a.png: truncated', 'left out: 3 pictures in all']
    """
    lines = [f"left out: {reason}" for reason in reasons]
    return [*lines, f"left out: {num_unreadable} pictures in all"] if num_unreadable > len(reasons) else lines


class Bars:
    """A `Progress` that draws one bar after the other on stderr; nothing when stderr is no terminal.

    Used in a `with` statement, which gives the terminal back whatever happens.
    """

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._shown = sys.stderr.isatty() and not is_set(QUIET_VARIABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

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
            console=_console(sys.stderr),
        )
        self._bar.start()
        self._task = self._bar.add_task(label, total=max(total, 1), status="")

    def advance(self, amount: int = 1, status: str = "") -> None:
        """Move the bar and show the numbers of the moment."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=amount)
            if status:
                self._bar.update(self._task, status=status)

    def end(self) -> None:
        """Stop drawing."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    is_terminal = stream.isatty()
    width = None if is_terminal or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=stream, width=width, soft_wrap=not is_terminal, highlight=False, markup=False, emoji=False)


def _render(stream: TextIO, renderable: RenderableType, style: str | None = None) -> str:
    """Text with the colours that the stream can show. Rich does not write itself: it ends the program on EPIPE."""
    console = _console(stream)
    with console.capture() as captured:
        console.print(renderable, style=style)
    text = captured.get()
    # Tables come padded to their width, which is only of use to a terminal.
    return text if stream.isatty() else "".join(f"{line.rstrip()}\n" for line in text.splitlines())


@contextlib.contextmanager
def _unread_is_fine(stream: TextIO) -> Generator[None, None, None]:
    """Go on when the reader went away; other failures (a full disk) are raised once, and not again at exit."""
    try:
        yield
    except OSError as error:
        _silence(stream)
        if not isinstance(error, BrokenPipeError):
            raise


def _silence(stream: TextIO) -> None:
    """Send what is still to come nowhere, so that nothing fails again when Python flushes at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
