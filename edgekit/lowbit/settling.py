"""Which scheme a model gets: transformers have no static integer form, and are quantized dynamically instead."""

from __future__ import annotations

import msgspec

from edgekit.core.errors import UsageError
from edgekit.core.graph import Graph
from edgekit.core.recipe import Recipe
from edgekit.core.stages import Tell
from edgekit.lowbit.quantizing import check_recipe
from edgekit.quantize.schemes import parse_scheme


def settle_scheme(recipe: Recipe, graph: Graph, tell: Tell) -> Recipe:
    """The recipe with the scheme that the model can have, at the same bits.

    Args:
        recipe: As asked for.
        graph: The model.
        tell: Told when another scheme is taken.

    Raises:
        UsageError: What is asked for needs static integers, which a transformer has not: bits per layer, training on
            small grids, another engine, balanced channels. Or a dynamic scheme for a network that has them.
    """
    scheme = parse_scheme(recipe.quantize.scheme)
    if scheme.mode == "dynamic" and not graph.is_transformer:
        raise UsageError(
            f"scheme {scheme.id} is for transformers, and {graph.name} has a static integer form, which is faster",
            hint="use static_wi8_ai8",
        )
    if scheme.mode != "static" or not graph.is_transformer:
        return recipe
    if scheme.is_mixed:
        raise UsageError(
            f"{graph.name} is a transformer: bits per layer need static integers, which it has not",
            hint="give all layers the same: --bits 8, or --bits 6",
        )
    dynamic = msgspec.structs.replace(scheme, mode="dynamic")
    settled = msgspec.structs.replace(recipe, quantize=msgspec.structs.replace(recipe.quantize, scheme=dynamic.id))
    check_recipe(settled)
    tell(
        f"{graph.name} is a transformer: quantized dynamically ({dynamic.id}): weights have {scheme.weight_bits} bits, "
        "every layer's input becomes int8 on the range that it has at run time, and attention, norms and GELU stay in "
        "float"
    )
    return settled
