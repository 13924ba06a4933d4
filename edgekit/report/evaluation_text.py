"""An evaluation on a terminal. Made for 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgekit.core.evaluation import Evaluation
from edgekit.report import evaluation as words
from edgekit.report.findings import measured_pictures
from edgekit.report.formatting import format_percent, percent_digits, printable
from edgekit.report.terminal import quiet_table, sentence

_MOST_LISTED = 10


def render_evaluation(evaluation: Evaluation) -> RenderableType:
    """Draw the averages, the comparison, and the classes that are found least."""
    data = evaluation.dataset
    title = Text(" against ".join(printable(one.about.given) for one in words.models(evaluation)), style="bold")
    about = f"{printable(data.name)} {printable(data.split)}, {measured_pictures(data)}"
    title.append(f"\n{about}", style="dim not bold")
    parts: list[RenderableType] = [title, _averages(evaluation)]
    parts.append(_classes(evaluation))
    said = [sentence(remark) for remark in words.remarks(evaluation)]
    comparison, other = evaluation.comparison, evaluation.other
    if comparison is not None and other is not None:
        verdict = words.comparison_sentence(comparison, evaluation.model.about.given, other.about.given)
        said.append(sentence(verdict, style="bold"))
        only = f"right alone on {comparison.num_only_first:,} and {comparison.num_only_second:,} pictures"
        same = format_percent(comparison.same_answer, percent_digits(data.n))
        said.append(sentence(f"{only}; same answer on {same}; test: {words.test_name(comparison)}"))
    said.append(sentence(words.headline(evaluation), style="bold"))
    parts.append(Group(*said))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts[:-1]), parts[-1])


def _averages(evaluation: Evaluation) -> Table:
    table = quiet_table("all classes", *(printable(one.about.given) for one in words.models(evaluation)))
    for index, (title, values) in enumerate(words.average_rows(evaluation)):
        table.add_row(title, *(Text(value, style="" if index else "bold") for value in values))
    return table


def _classes(evaluation: Evaluation) -> Table:
    """The classes that the model finds least; beside another model, with the change of recall."""
    scores, digits = evaluation.model.scores, 1
    rows = words.weakest_first(scores, _MOST_LISTED)
    title = f"{len(rows)} classes found least" if scores.averages.num_classes > _MOST_LISTED else "class"
    compared = evaluation.other is not None
    table = quiet_table(title, "pictures", "recall", *(["beside"] if compared else []), "precision", "F1", "FPR", "AUC")
    others = {row.name: row.recall for row in evaluation.other.scores.classes} if evaluation.other else {}
    for row in rows:
        table.add_row(
            printable(row.name),
            f"{row.num_pictures:,}",
            format_percent(row.recall, digits),
            *([format_percent(others[row.name], digits)] if compared else []),
            format_percent(row.precision, digits),
            format_percent(row.f_score, digits),
            format_percent(row.false_positive_rate, digits),
            words.format_area(row.auc),
        )
    return table
