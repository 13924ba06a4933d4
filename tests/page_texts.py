"""What a page or a summary says, as text, and names that are made to break it."""

from __future__ import annotations

import html
import io
import re

from rich.console import Console, RenderableType

EVIL = '<script>alert(1)</script>"&\x1b[2J'
LONG = "a_name_without_any_place_to_break_" * 8


def text_of(page: str) -> str:
    """The words of an HTML page's body, with single spaces."""
    body = re.split(r"<body[^>]*>", page)[1]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).replace("\xa0", " ").split())


def printed(renderable: RenderableType, width: int = 80) -> str:
    """A summary as a terminal without colours shows it."""
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False, color_system=None).print(renderable)
    return stream.getvalue()
