"""An explanation as files: `explain.json` for programs, `explain.html` for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.core.explanation import EXPLANATION_VERSION, Explanation, PictureMaps
from edgekit.report.explanation_page import render_explanation_html
from edgekit.report.files import Filing, ReportFiles

_EXPLANATION = Filing(
    stem="explain",
    schema=Explanation,
    newest=EXPLANATION_VERSION,
    hint="`edgekit explain PICTURE --model MODEL` writes one",
)


def write_explanation(explanation: Explanation, maps: Sequence[PictureMaps], folder: Path) -> ReportFiles:
    """Write `explain.json` and `explain.html` into a folder. Raises as `Filing.write`.

    Args:
        explanation: The numbers.
        maps: The images of each of its pictures; only the page has them.
        folder: Made if it is not there.
    """
    return _EXPLANATION.write(explanation, folder, lambda clean: render_explanation_html(clean, maps))


def read_explanation(path: Path) -> Explanation:
    """Read an `explain.json` back (or the one in a folder). Raises as `Filing.read`."""
    return _EXPLANATION.read(path)
