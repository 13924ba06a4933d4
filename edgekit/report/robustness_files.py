"""A robustness measurement as files: `robustness.json` for programs, `robustness.html` for people."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.robustness import ROBUSTNESS_VERSION, Robustness
from edgekit.report.files import Filing, ReportFiles
from edgekit.report.robustness_page import render_robustness_html

_ROBUSTNESS = Filing(
    stem="robustness",
    schema=Robustness,
    newest=ROBUSTNESS_VERSION,
    hint="`edgekit evaluate MODEL --data D --robustness --out DIR` writes one",
)


def write_robustness(robustness: Robustness, folder: Path) -> ReportFiles:
    """Write `robustness.json` and `robustness.html` into a folder. Raises as `Filing.write`."""
    return _ROBUSTNESS.write(robustness, folder, render_robustness_html)


def read_robustness(path: Path) -> Robustness:
    """Read a `robustness.json` back (or the one in a folder). Raises as `Filing.read`."""
    return _ROBUSTNESS.read(path)
