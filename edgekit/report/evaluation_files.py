"""An evaluation as files: `evaluate.json` for programs, `evaluate.html` for people."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.evaluation import EVALUATION_VERSION, Evaluation
from edgekit.core.storage import write_text
from edgekit.report.evaluation_page import render_evaluation_html
from edgekit.report.files import ReportFiles, encode_report, read_versioned, without_surrogates

EVALUATION_JSON = "evaluate.json"
EVALUATION_HTML = "evaluate.html"


def write_evaluation(evaluation: Evaluation, folder: Path) -> ReportFiles:
    """Write `evaluate.json` and the single-file, offline `evaluate.html` into a folder, each atomically.

    Raises:
        OutputError: The disk is full or the folder is not writable.
    """
    clean = without_surrogates(evaluation)
    files = ReportFiles(json_path=folder / EVALUATION_JSON, html_path=folder / EVALUATION_HTML)
    write_text(files.json_path, encode_report(clean))
    write_text(files.html_path, render_evaluation_html(clean))
    return files


def read_evaluation(path: Path) -> Evaluation:
    """Read an `evaluate.json` back (or the one in a folder).

    Raises:
        UsageError: There is none at this place.
        IntegrityError: The file is no evaluation, is damaged, or was written by a newer edgekit.
    """
    hint = "`edgekit evaluate MODEL --data D --out DIR` writes one"
    return read_versioned(path / EVALUATION_JSON if path.is_dir() else path, Evaluation, EVALUATION_VERSION, hint)
