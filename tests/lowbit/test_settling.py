"""Transformers get a dynamic scheme by themselves, and whoever asked is told."""

from __future__ import annotations

import msgspec
import pytest

from edgekit.core.errors import UsageError
from edgekit.core.graph import Graph
from edgekit.core.recipe import DataSection, ModelSection, QatSection, QuantizeSection, Recipe
from edgekit.lowbit.settling import settle_scheme
from graphs import GraphBuilder
from transformers import small_graph


def recipe_of(**options: object) -> Recipe:
    section = msgspec.convert(options, QuantizeSection)
    return Recipe(model=ModelSection(name="m"), data=DataSection(name="d"), quantize=section)


@pytest.fixture(scope="module")
def transformer() -> Graph:
    return small_graph()


@pytest.fixture(scope="module")
def convolutional() -> Graph:
    net = GraphBuilder((1, 3, 8, 8))
    net.gemm(net.flatten(net.relu(net.conv("input", 4))), 3)
    return net.build()


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_transformer_gets_the_dynamic_scheme_of_the_same_bits(transformer: Graph, bits: int) -> None:
    told: list[str] = []
    asked = recipe_of(scheme=f"static_wi{bits}_ai8", float_io=True)

    settled = settle_scheme(asked, transformer, told.append)

    assert settled.quantize.scheme == f"dynamic_wi{bits}_ai8"
    assert settled.quantize.float_io
    assert len(told) == 1
    assert "small_vit is a transformer" in told[0]
    assert settled.quantize.scheme in told[0]


def test_scheme_that_was_asked_for_is_kept_in_silence(transformer: Graph, convolutional: Graph) -> None:
    told: list[str] = []
    dynamic, static = recipe_of(scheme="dynamic_wi8_ai8"), recipe_of(scheme="static_wimixed_ai8")

    assert settle_scheme(dynamic, transformer, told.append) is dynamic
    assert settle_scheme(static, convolutional, told.append) is static
    assert told == []


def test_network_with_a_static_form_is_not_quantized_dynamically(convolutional: Graph) -> None:
    with pytest.raises(UsageError, match="dynamic_wi8_ai8 is for transformers") as error:
        settle_scheme(recipe_of(scheme="dynamic_wi8_ai8"), convolutional, print)

    assert "static_wi8_ai8" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheme": "static_wimixed_ai8"}, "bits per layer"),
        ({"engine": "nncf"}, "quantize.engine"),
        ({"rounding": "adaround"}, "quantize.rounding"),
        ({"equalize": True}, "quantize.equalize"),
        ({"scheme": "static_wi4_ai8", "compute": "int4"}, "quantize.compute"),
    ],
)
def test_what_needs_static_integers_is_refused(transformer: Graph, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        settle_scheme(recipe_of(**options), transformer, print)

    assert error.value.hint


def test_training_on_small_grids_is_refused(transformer: Graph) -> None:
    recipe = msgspec.structs.replace(recipe_of(), qat=QatSection(epochs=1))

    with pytest.raises(UsageError, match="qat works on static integers"):
        settle_scheme(recipe, transformer, print)
