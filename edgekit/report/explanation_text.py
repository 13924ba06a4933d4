"""An explanation on a terminal. Made for 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgekit.core.explanation import Explanation
from edgekit.report import explanation as words
from edgekit.report.formatting import printable


def render_explanation(explanation: Explanation) -> RenderableType:
    """Draw the numbers of every picture, and what to mind."""
    title = Text(printable(explanation.given), style="bold")
    for side in words.sides(explanation):
        title.append(f"\n{printable(side.title)}: {printable(side.about.runtime)}", style="dim not bold")
    said = [_sentence(remark) for remark in words.remarks(explanation)]
    said.append(_sentence(words.headline(explanation), style="bold"))
    return Group(Padding(title, (0, 0, 1, 0)), Padding(_table(explanation), (0, 0, 1, 0)), *said)


def _sentence(said: str, style: str = "") -> Text:
    """Text that wraps, also where the stream is no terminal and nothing else does."""
    return Text(printable(said), style=style, no_wrap=False, overflow="fold")


def _table(explanation: Explanation) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="dim", border_style="dim")
    known = words.sides(explanation)
    columns = [column for side in known for column in (printable(side.title), "largest drop")]
    titles: list[str] = ["picture", "class", *columns, *(["alike"] if len(known) == 2 else [])]
    for index, column in enumerate(titles):
        table.add_column(column, justify="right" if index > 1 else "left", overflow="fold", no_wrap=False)
    for row in words.summary_rows(explanation):
        table.add_row(*(printable(cell) for cell in row))
    return table
