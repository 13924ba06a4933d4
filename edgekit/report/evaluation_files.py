"""An evaluation as files: `evaluate.json` for programs, `evaluate.html` for people."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.evaluation import EVALUATION_VERSION, Evaluation
from edgekit.report.evaluation_page import render_evaluation_html
from edgekit.report.files import Filing, ReportFiles

_EVALUATION = Filing(
    stem="evaluate",
    schema=Evaluation,
    newest=EVALUATION_VERSION,
    hint="`edgekit evaluate MODEL --data D --out DIR` writes one",
)


def write_evaluation(evaluation: Evaluation, folder: Path) -> ReportFiles:
    """Write `evaluate.json` and `evaluate.html` into a folder. Raises as `Filing.write`."""
    return _EVALUATION.write(evaluation, folder, render_evaluation_html)


def read_evaluation(path: Path) -> Evaluation:
    """Read an `evaluate.json` back (or the one in a folder). Raises as `Filing.read`."""
    return _EVALUATION.read(path)
