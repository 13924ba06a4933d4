"""docs/recipes.md says what the recipe's types say."""

from __future__ import annotations

import msgspec

import make_recipe_docs
from edgekit.core.recipe import Recipe


def test_recipes_page_is_up_to_date() -> None:
    assert make_recipe_docs.DOCUMENT.read_text(encoding="utf-8") == make_recipe_docs.make_document(), (
        "run python tools/make_recipe_docs.py"
    )


def test_recipes_page_has_every_key_with_a_meaning() -> None:
    rows = [line for line in make_recipe_docs.make_document().splitlines() if line.startswith("| `")]
    recipe = msgspec.json.schema(Recipe)["$defs"]
    num_keys = sum(len(section["properties"]) for name, section in recipe.items() if name != "Recipe")

    assert len(rows) == num_keys
    assert all(len(row.split(" | ")[-1].strip(" |")) > 10 for row in rows)
