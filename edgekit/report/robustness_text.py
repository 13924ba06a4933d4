"""A robustness measurement on a terminal. Made for 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgekit.core.robustness import Robustness
from edgekit.report import robustness as words
from edgekit.report.findings import measured_pictures
from edgekit.report.formatting import format_percent, percent_digits, printable
from edgekit.report.terminal import quiet_table, sentence

_MOST_BESIDE = 3


def render_robustness(robustness: Robustness) -> RenderableType:
    """Draw what sums up the models, the families of corruptions, and the findings."""
    data = robustness.dataset
    title = Text(" against ".join(words.names(robustness)), style="bold")
    title.append(
        f"\n{printable(data.name)} {printable(data.split)}, {measured_pictures(data)}; "
        f"{min(robustness.settings.num_attacked, data.n):,} attacked",
        style="dim not bold",
    )
    groups = _groups(len(robustness.models))
    parts: list[RenderableType] = [title, *(_summary(robustness, group) for group in groups)]
    parts += [_corruptions(robustness, group) for group in groups]
    said = [*robustness.notes, *words.remarks(robustness), *words.sentences(robustness)]
    said += [
        words.suggestion_sentence(model.suggestion, name)
        for model, name in zip(robustness.models, words.names(robustness), strict=True)
    ]
    last = sentence(words.headline(robustness), style="bold")
    parts.append(Group(*(sentence(one) for one in said), last))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts[:-1]), parts[-1])


def _groups(num_models: int) -> list[tuple[int, ...]]:
    """Which models share a table: so many that 80 columns hold them, the first in every table."""
    others = range(1, num_models)
    starts = range(0, len(others), _MOST_BESIDE) or (0,)
    return [(0, *others[start : start + _MOST_BESIDE]) for start in starts]


def _summary(robustness: Robustness, group: tuple[int, ...]) -> Table:
    names = words.names(robustness)
    table = quiet_table("robustness", *(names[index] for index in group))
    for title, values in words.table(robustness):
        table.add_row(title, *(values[index] for index in group))
    return table


def _corruptions(robustness: Robustness, group: tuple[int, ...]) -> Table:
    """Mean top-1 over the severities, and the error relative to the reference's."""
    digits, names = percent_digits(robustness.dataset.n), words.names(robustness)
    table = quiet_table("corruption, mean of 5 severities", *(names[index] for index in group), "error")
    for sweep in robustness.corruptions:
        means = [sum(level.outcomes[index].top1 for level in sweep.levels) / len(sweep.levels) for index in group]
        errors = [sweep.error[index] for index in group[1:] or group]
        table.add_row(
            printable(sweep.title),
            *(format_percent(mean, digits) for mean in means),
            ", ".join(words.format_error(error) for error in errors),
        )
    return table
