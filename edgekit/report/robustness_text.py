"""A robustness measurement on a terminal. Made for 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgekit.core.robustness import Robustness
from edgekit.report import robustness as words
from edgekit.report.findings import measured_pictures
from edgekit.report.formatting import format_percent, percent_digits, printable


def render_robustness(robustness: Robustness) -> RenderableType:
    """Draw what sums up the models, the families of corruptions, and the findings."""
    data = robustness.dataset
    title = Text(" against ".join(words.names(robustness)), style="bold")
    title.append(
        f"\n{printable(data.name)} {printable(data.split)}, {measured_pictures(data)}; "
        f"{min(robustness.settings.num_attacked, data.n):,} attacked",
        style="dim not bold",
    )
    parts: list[RenderableType] = [title, _summary(robustness), _corruptions(robustness)]
    said = [*robustness.notes, *words.sentences(robustness)]
    said += [
        words.suggestion_sentence(model.suggestion, name)
        for model, name in zip(robustness.models, words.names(robustness), strict=True)
    ]
    last = _sentence(words.headline(robustness), style="bold")
    parts.append(Group(*(_sentence(sentence) for sentence in said), last))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts[:-1]), parts[-1])


def _sentence(said: str, style: str = "") -> Text:
    """Text that wraps, also where the stream is no terminal and nothing else does."""
    return Text(printable(said), style=style, no_wrap=False, overflow="fold")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="dim", border_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold", no_wrap=False)
    return table


def _summary(robustness: Robustness) -> Table:
    table = _table("robustness", *words.names(robustness))
    for title, values in words.table(robustness):
        table.add_row(title, *values)
    return table


def _corruptions(robustness: Robustness) -> Table:
    """Mean top-1 over the severities, and the error relative to the reference's."""
    digits = percent_digits(robustness.dataset.n)
    table = _table("corruption, mean of 5 severities", *words.names(robustness), "error")
    for sweep in robustness.corruptions:
        means = [
            sum(level.outcomes[index].top1 for level in sweep.levels) / len(sweep.levels)
            for index in range(len(robustness.models))
        ]
        errors = sweep.error if len(sweep.error) == 1 else sweep.error[1:]
        table.add_row(
            printable(sweep.title),
            *(format_percent(mean, digits) for mean in means),
            ", ".join(words.format_error(error) for error in errors),
        )
    return table
