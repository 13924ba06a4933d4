"""What both pages are drawn with: one environment, filters for numbers, and sources that go into the page itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import jinja2
from markupsafe import Markup, escape

from edgekit.report import formatting


def build_environment(**functions: Any) -> jinja2.Environment:
    """An environment that escapes everything, stops at unknown names, and knows the numbers' filters.

    Args:
        **functions: What templates may call besides the general ones, by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgekit.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        breakable=_breakable,
        bytes=_unbroken(formatting.format_bytes),
        count=_unbroken(formatting.format_count),
        date=formatting.format_date,
        ms=formatting.format_ms,
        number=formatting.format_number,
        percent=_unbroken(formatting.format_percent),
        plain=formatting.printable,
        points=_unbroken(formatting.format_points),
        seconds=_unbroken(formatting.format_seconds),
        shape=formatting.format_shape,
        share=_without_unit,
        small=formatting.format_small,
    )
    general: dict[str, Any] = {"percent_digits": formatting.percent_digits, "plural": formatting.plural}
    environment.globals.update(general, **functions)
    return environment


def read_source(environment: jinja2.Environment, name: str) -> str:
    """Text of a style sheet or script that lies beside the templates."""
    if environment.loader is None:
        raise TypeError("the page's environment has no loader")
    return environment.loader.get_source(environment, name)[0]


def content_hash(script: str) -> str:
    """Hash of the page's own script for its Content-Security-Policy: no other script may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _unbroken(write: Callable[..., str]) -> Callable[..., str]:
    """The same words with spaces at which no line breaks: "732 kB" stays together."""
    return lambda *values: write(*values).replace(" ", "\N{NO-BREAK SPACE}")


def _breakable(name: str) -> Markup:
    """An escaped name that may break after its separators; copied from the page it is unchanged."""
    text = escape(formatting.printable(name))
    for separator in ("/", "."):
        text = text.replace(separator, separator + Markup("<wbr>"))
    return text


def _without_unit(share: float | None, digits: int = 2) -> str:
    return formatting.format_percent(share, digits).removesuffix(" %")
