"""An explanation as files: `explain.json` for programs, `explain.html` for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.core.explanation import EXPLANATION_VERSION, Explanation, PictureMaps
from edgekit.core.storage import write_text
from edgekit.report.explanation_page import render_explanation_html
from edgekit.report.files import ReportFiles, encode_report, read_versioned, without_surrogates

EXPLANATION_JSON = "explain.json"
EXPLANATION_HTML = "explain.html"


def write_explanation(explanation: Explanation, maps: Sequence[PictureMaps], folder: Path) -> ReportFiles:
    """Write `explain.json` and the single-file, offline `explain.html` into a folder, each atomically.

    Args:
        explanation: The numbers.
        maps: The images of each of its pictures; only the page has them.
        folder: Made if it is not there.

    Raises:
        OutputError: The disk is full or the folder is not writable.
    """
    clean = without_surrogates(explanation)
    files = ReportFiles(json_path=folder / EXPLANATION_JSON, html_path=folder / EXPLANATION_HTML)
    write_text(files.json_path, encode_report(clean))
    write_text(files.html_path, render_explanation_html(clean, maps))
    return files


def read_explanation(path: Path) -> Explanation:
    """Read an `explain.json` back (or the one in a folder).

    Raises:
        UsageError: There is none at this place.
        IntegrityError: The file is no explanation, is damaged, or was written by a newer edgekit.
    """
    hint = "`edgekit explain PICTURE --model MODEL` writes one"
    return read_versioned(path / EXPLANATION_JSON if path.is_dir() else path, Explanation, EXPLANATION_VERSION, hint)
