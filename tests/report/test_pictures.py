from __future__ import annotations

import base64

import pytest

from edgekit.core.report import Report
from edgekit.report.pictures import picture_size


def test_size_is_read_from_the_png_header(report: Report) -> None:
    size = picture_size(report.disagreements[0].png_base64)
    assert size is not None
    assert (size.width, size.height, size.pixelated) == (8, 8, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no base64 at all!",
        "é",
        base64.b64encode(b"GIF89a" + bytes(40)).decode(),
        base64.b64encode(b"\x89PNG\r\n\x1a\n").decode(),
        base64.b64encode(b"<svg onload=alert(1)>" + bytes(20)).decode(),
    ],
)
def test_anything_but_a_png_has_no_size(text: str) -> None:
    assert picture_size(text) is None


def test_png_has_no_size_when_markup_follows_it(report: Report) -> None:
    assert picture_size(report.disagreements[0].png_base64 + '"><script>') is None
