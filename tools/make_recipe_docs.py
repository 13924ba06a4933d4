"""Write docs/recipes.md from the recipe's types and docstrings; `--check` only says whether it is up to date."""

from __future__ import annotations

import inspect
import re
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from edgekit.core.recipe import Recipe

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "recipes.md"
_HEAD = """\
# Recipes

A recipe is a TOML file that decides everything a run makes. Those that edgekit ships lie in `recipes/`, each named
`<variant>-<dataset>-<scheme>.toml`; a run folder holds the resolved one as `recipe.toml`, and running that again gives
the same files. Keys that are left out have their default; an unknown key or section, a wrong type or a value out of
range is an error that names the key. `--set section.key=value` overrides one key, several times if need be:

```
edgekit train mobilenet_v2 --data kitchen --set train.epochs=40 --set augment.mixup=0.2
```

(This page is written by `tools/make_recipe_docs.py` from `edgekit/core/recipe.py`.)
"""
_NAMES: dict[Any, str] = {int: "integer", float: "number", str: "string", bool: "true or false"}
_SIGNS = {"gt": "> {:g}", "ge": ">= {:g}", "lt": "< {:g}", "le": "<= {:g}"}


def make_document() -> str:
    """The whole page."""
    parts = [_HEAD]
    for field in msgspec.structs.fields(Recipe):
        section = get_type_hints(Recipe)[field.name]
        parts.append(_describe_section(field.name, section))
    return "\n".join(parts)


def _describe_section(name: str, section: type[msgspec.Struct]) -> str:
    """Heading, first line of the docstring, and a table of keys."""
    docstring = inspect.getdoc(section) or ""
    meanings = _read_arguments(docstring)
    hints = get_type_hints(section, include_extras=True)
    lines = [f"## [{name}]", "", docstring.split("\n", maxsplit=1)[0], ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for field in msgspec.structs.fields(section):
        kind = describe_type(hints[field.name]).replace("|", "\\|")
        lines.append(f"| `{field.name}` | {kind} | {_describe_default(field)} | {meanings[field.name]} |")
    return "\n".join([*lines, ""])


def _read_arguments(docstring: str) -> dict[str, str]:
    """Meaning of each key, from the Args part of a Google docstring, fit for a Markdown table."""
    arguments = docstring.partition("Args:\n")[2]
    found: dict[str, str] = {}
    for name, text in re.findall(r"^    (\w+): (.*(?:\n        .*)*)", arguments, flags=re.MULTILINE):
        found[name] = " ".join(text.split()).replace("|", "\\|")
    return found


def describe_type(hint: Any) -> str:  # noqa: ANN401 - any type hint
    """A type in words.

    >>> describe_type(Annotated[int, msgspec.Meta(ge=1)]), describe_type(float | None)
    ('integer, >= 1', 'number')
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [
            sign.format(getattr(meta, key))
            for meta in arguments[1:]
            for key, sign in _SIGNS.items()
            if getattr(meta, key) is not None
        ]
        return ", ".join([describe_type(arguments[0]), *bounds])
    if origin in {Union, types.UnionType}:
        return " or ".join(describe_type(part) for part in arguments if part is not type(None))
    if origin is Literal:
        return " or ".join(f"`{msgspec.json.encode(choice).decode()}`" for choice in arguments)
    if origin is tuple:
        return f"list of {describe_type(arguments[0])}s"
    return _NAMES[hint]


def _describe_default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "(required)"
    if field.default is None:
        return "none"
    return f"`{msgspec.json.encode(field.default).decode()}`"


def main() -> int:
    """Write the page, or with `--check` compare it; 1 when it is out of date."""
    document = make_document()
    if "--check" in sys.argv[1:]:
        return int(not DOCUMENT.is_file() or DOCUMENT.read_text(encoding="utf-8") != document)
    DOCUMENT.write_text(document, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
