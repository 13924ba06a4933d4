"""An explanation on a terminal. Made for 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgekit.core.explanation import Explanation
from edgekit.report import explanation as words
from edgekit.report.formatting import printable
from edgekit.report.terminal import quiet_table, sentence


def render_explanation(explanation: Explanation) -> RenderableType:
    """Draw the numbers of every picture, and what to mind."""
    title = Text(printable(explanation.given), style="bold")
    for side in words.sides(explanation):
        title.append(f"\n{printable(side.title)}: {printable(side.about.runtime)}", style="dim not bold")
    said = [sentence(remark) for remark in words.remarks(explanation)]
    said.append(sentence(words.headline(explanation), style="bold"))
    return Group(Padding(title, (0, 0, 1, 0)), Padding(_table(explanation), (0, 0, 1, 0)), *said)


def _table(explanation: Explanation) -> Table:
    known = words.sides(explanation)
    columns = [column for side in known for column in (printable(side.title), "largest drop")]
    titles: list[str] = ["picture", "class", *columns, *(["alike"] if len(known) == 2 else [])]
    table = quiet_table(*titles, num_left=2)
    for row in words.summary_rows(explanation):
        table.add_row(*(printable(cell) for cell in row))
    return table
