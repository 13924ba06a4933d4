"""An evaluation as one HTML file, in the look of the run's report: no request to anywhere, everything escaped."""

from __future__ import annotations

from functools import cache

import jinja2

from edgekit.core.evaluation import Evaluation
from edgekit.report import evaluation as words
from edgekit.report import evaluation_charts as charts
from edgekit.report.confusion import MAX_MATRIX_CLASSES, summarize_confusion
from edgekit.report.findings import measured_pictures
from edgekit.report.templating import build_environment, content_hash, read_source


def render_evaluation_html(evaluation: Evaluation) -> str:
    """Draw the page. Names in it may hold any characters."""
    environment = _environment()
    javascript = read_source(environment, "report.js")
    sides = words.models(evaluation)
    scores = evaluation.model.scores
    return environment.get_template("evaluate.html.j2").render(
        report=evaluation,
        css=read_source(environment, "report.css") + read_source(environment, "evaluate.css"),
        javascript=javascript,
        script_hash=content_hash(javascript),
        sides=sides,
        headline_chart=charts.headline_chart(evaluation),
        roc=[charts.roc_lines(one.scores) for one in sides],
        reliability=[charts.reliability_bars(one.scores.calibration) for one in sides],
        confusion=summarize_confusion(
            scores.confusion,
            evaluation.dataset.class_names,
            [(row.recall, row.precision) for row in scores.classes],
        ),
        max_matrix_classes=MAX_MATRIX_CLASSES,
    )


@cache
def _environment() -> jinja2.Environment:
    return build_environment(words=words, measured_pictures=measured_pictures)
