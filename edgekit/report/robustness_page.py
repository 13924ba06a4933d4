"""A robustness measurement as one HTML file, in the look of the run's report: no request, everything escaped."""

from __future__ import annotations

from functools import cache

import jinja2

from edgekit.core.robustness import Robustness
from edgekit.report import robustness as words
from edgekit.report import robustness_charts as charts
from edgekit.report.findings import measured_pictures
from edgekit.report.line_charts import SHAPES, line_styles
from edgekit.report.pictures import picture_size
from edgekit.report.templating import build_environment, content_hash, read_source


def render_robustness_html(robustness: Robustness) -> str:
    """Draw the page. Names in it may hold any characters."""
    environment = _environment()
    javascript = read_source(environment, "report.js")
    styles = ("report.css", "evaluate.css", "robustness.css")
    return environment.get_template("robustness.html.j2").render(
        report=robustness,
        css="".join(read_source(environment, name) for name in styles),
        javascript=javascript,
        script_hash=content_hash(javascript),
        names=words.names(robustness),
        main=min(1, len(robustness.models) - 1),  # whom the headline is about
        styles=line_styles(len(robustness.models)),
        shapes=SHAPES,
        attack_charts=charts.attack_charts(robustness),
        movement_charts=charts.movement_charts(robustness),
        families=charts.corruption_families(robustness),
    )


@cache
def _environment() -> jinja2.Environment:
    return build_environment(words=words, measured_pictures=measured_pictures, picture_size=picture_size)
