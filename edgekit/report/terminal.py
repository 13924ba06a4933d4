"""What the summaries on a terminal are made of. Streams that are no terminal get them too, 160 columns wide."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from edgekit.report.formatting import printable


def quiet_table(*columns: str, num_left: int = 1, breaks: bool = True) -> Table:
    """A table with no more than a line below its titles.

    Args:
        *columns: Titles.
        num_left: So many columns read from the left, the others are numbers.
        breaks: Whether the columns of numbers may break their cells, too.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="dim", border_style="dim")
    for index, column in enumerate(columns):
        is_left = index < num_left
        no_wrap = not (is_left or breaks)
        table.add_column(column, justify="left" if is_left else "right", overflow="fold", no_wrap=no_wrap)
    return table


def sentence(said: str, style: str = "") -> Text:
    """Text that wraps, also where the stream is no terminal and nothing else does."""
    return Text(printable(said), style=style, no_wrap=False, overflow="fold")
