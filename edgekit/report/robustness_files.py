"""A robustness measurement as files: `robustness.json` for programs, `robustness.html` for people."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.robustness import ROBUSTNESS_VERSION, Robustness
from edgekit.core.storage import write_text
from edgekit.report.files import ReportFiles, encode_report, read_versioned, without_surrogates
from edgekit.report.robustness_page import render_robustness_html

ROBUSTNESS_JSON = "robustness.json"
ROBUSTNESS_HTML = "robustness.html"


def write_robustness(robustness: Robustness, folder: Path) -> ReportFiles:
    """Write `robustness.json` and the single-file, offline `robustness.html` into a folder, each atomically.

    Raises:
        OutputError: The disk is full or the folder is not writable.
    """
    clean = without_surrogates(robustness)
    files = ReportFiles(json_path=folder / ROBUSTNESS_JSON, html_path=folder / ROBUSTNESS_HTML)
    write_text(files.json_path, encode_report(clean))
    write_text(files.html_path, render_robustness_html(clean))
    return files


def read_robustness(path: Path) -> Robustness:
    """Read a `robustness.json` back (or the one in a folder).

    Raises:
        UsageError: There is none at this place.
        IntegrityError: The file is no robustness measurement, is damaged, or was written by a newer edgekit.
    """
    hint = "`edgekit evaluate MODEL --data D --robustness --out DIR` writes one"
    return read_versioned(path / ROBUSTNESS_JSON if path.is_dir() else path, Robustness, ROBUSTNESS_VERSION, hint)
