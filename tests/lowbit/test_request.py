"""What needs the work of few bits, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.core.recipe import DataSection, ModelSection, QatSection, QuantizeSection, Recipe
from edgekit.lowbit.request import as_fixed_bits, is_plain


def recipe_of(epochs: int = 0, **options: Any) -> Recipe:
    return Recipe(
        model=ModelSection(name="small"),
        data=DataSection(name="toy"),
        quantize=QuantizeSection(**options),
        qat=QatSection(epochs=epochs),
    )


@pytest.mark.parametrize("options", [{}, {"rounding": "nearest"}, {"equalize": False}, {"reduce_range": True}])
def test_eight_bits_are_plain(options: dict[str, Any]) -> None:
    assert is_plain(recipe_of(**options)) is True


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": "static_wi6_ai8"},
        {"scheme": "static_wi4_ai8", "rounding": "nearest"},
        {"scheme": "static_wimixed_ai8"},
        {"rounding": "gptq"},
        {"rounding": "adaround"},
        {"equalize": True},
        {"engine": "nncf"},
        {"epochs": 1},
    ],
    ids=str,
)
def test_anything_more_is_not_plain(options: dict[str, Any]) -> None:
    assert is_plain(recipe_of(**options)) is False


def test_fixed_bits_are_the_same_without_what_is_searched_for() -> None:
    mixed = QuantizeSection(scheme="static_wimixed_ai8", budget_kb=30.0, pareto=7, num_calibration=9)

    fixed = as_fixed_bits(mixed)

    assert (fixed.scheme, fixed.budget_kb, fixed.pareto, fixed.num_calibration) == ("static_wi8_ai8", None, 0, 9)
    six = QuantizeSection(scheme="static_wi6_ai8")
    assert as_fixed_bits(six) == six
