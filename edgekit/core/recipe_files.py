"""Recipes as TOML: read, overridden key by key, written. Unknown keys are errors that carry the nearest known one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import msgspec

from edgekit.core.errors import RecipeError, UnknownNameError
from edgekit.core.recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a TOML recipe and apply `section.key=value` overrides.

    Raises:
        RecipeError: No such file, broken TOML, an unknown key (with the nearest one) or a value of the wrong type.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"no recipe at {path}", hint="recipes lie in recipes/") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    return _convert(document, list(overrides), source=str(path))


def override_recipe(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """A recipe with `section.key=value` overrides applied. Raises `RecipeError` as `load_recipe` does."""
    return _convert(msgspec.to_builtins(recipe), list(overrides), source="--set")


def dump_recipe(recipe: Recipe) -> str:
    """TOML text of a recipe; `load_recipe` of it gives the same recipe. Fields that are None are left out.

    >>> from edgekit.core.recipe import DataSection, ModelSection
    >>> print(dump_recipe(Recipe(model=ModelSection(name="mobilenet_v2"), data=DataSection(name="mnist")))[:37])
    [model]
    name = "mobilenet_v2"
    dropout
    """
    lines: list[str] = []
    for section, values in msgspec.to_builtins(recipe).items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml_value(value)}" for key, value in values.items() if value is not None]
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml_value(each) for each in cast('Iterable[object]', value))}]"
    return repr(value)


def _convert(document: dict[str, Any], overrides: list[str], source: str) -> Recipe:
    for override in overrides:
        section, key, value = _parse_override(override)
        document.setdefault(section, {})[key] = value
    _check_keys(document, source)
    try:
        return msgspec.convert(document, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{source}: {error}", hint="see docs/recipes.md for every key and its type") from error


def _check_keys(document: dict[str, Any], source: str) -> None:
    """Unknown sections and keys are errors that carry the nearest known name."""
    sections = {field.name: field.type for field in msgspec.structs.fields(Recipe)}
    for section, values in document.items():
        if section not in sections:
            raise _unknown_key(source, "section", section, sections)
        known = {field.name for field in msgspec.structs.fields(sections[section])}
        keys: Iterable[str] = cast("dict[str, Any]", values) if isinstance(values, dict) else ()
        for key in keys:
            if key not in known:
                raise _unknown_key(source, f"key in [{section}]", key, known)


def _unknown_key(source: str, kind: str, name: str, known: Iterable[str]) -> RecipeError:
    nearest = UnknownNameError(kind, name, known)
    return RecipeError(f"{source}: {nearest.message}", hint=nearest.hint)


def _parse_override(override: str) -> tuple[str, str, Any]:
    match = re.fullmatch(r"([a-z_]+)\.([a-z_0-9]+)=(.*)", override, flags=re.DOTALL)
    if match is None:
        raise RecipeError(f"--set {override!r} is not section.key=value", hint="for example --set train.epochs=5")
    section, key, text = match.groups()
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string: --set data.name=mnist
    return section, key, value
