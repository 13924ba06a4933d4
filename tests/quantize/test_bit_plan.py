"""Which layers are spared when all are asked to have few bits."""

from __future__ import annotations

import pytest

from edgekit.core.errors import RecipeError
from edgekit.core.graph import Graph
from edgekit.quantize.bit_plan import MAX_LAST_SHARE, plan_bits
from graphs import GraphBuilder


def mobile_graph(num_classes: int = 4) -> Graph:
    build = GraphBuilder((1, 3, 8, 8))
    x = build.relu(build.conv("input", 16, 3, pads=1))
    x = build.relu(build.conv(x, 16, 3, pads=1, group=16))
    x = build.relu(build.conv(x, 32, 1))
    x = build.relu(build.conv(x, 32, 3, pads=1, group=4))
    build.gemm(build.flatten(build.global_pool(x)), num_classes)
    return build.build()


STEM, DEPTHWISE, POINTWISE, GROUPED, HEAD = "conv_0", "conv_2", "conv_4", "conv_6", "gemm_10"


def test_depthwise_first_and_small_last_layers_keep_eight_bits() -> None:
    plan = plan_bits(mobile_graph(), 4)

    assert plan.bits == {STEM: 8, DEPTHWISE: 8, POINTWISE: 4, GROUPED: 4, HEAD: 8}
    assert list(plan.bits) == [STEM, DEPTHWISE, POINTWISE, GROUPED, HEAD]
    assert plan.reasons == {STEM: "first", DEPTHWISE: "depthwise", HEAD: "last"}


def test_large_last_layer_gets_what_was_asked_for() -> None:
    graph = mobile_graph(num_classes=100)
    sizes = {node.name: graph.constants[node.inputs[1]].size for node in graph.nodes if node.op in ("Conv", "Gemm")}
    assert sizes[HEAD] > MAX_LAST_SHARE * sum(sizes.values())

    plan = plan_bits(graph, 5)

    assert plan.bits[HEAD] == 5
    assert HEAD not in plan.reasons


def test_nothing_is_spared_at_eight_bits() -> None:
    plan = plan_bits(mobile_graph(), 8)

    assert set(plan.bits.values()) == {8}
    assert plan.reasons == {}


def test_named_layers_are_spared_instead_of_the_usual_ones() -> None:
    plan = plan_bits(mobile_graph(), 6, [POINTWISE])

    assert plan.bits == {STEM: 6, DEPTHWISE: 6, POINTWISE: 8, GROUPED: 6, HEAD: 6}
    assert plan.reasons == {POINTWISE: "asked for"}
    assert set(plan_bits(mobile_graph(), 6, []).bits.values()) == {6}


def test_unknown_layer_to_spare_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match=r"quantize.wide_layers: 'stem' is no layer of net") as caught:
        plan_bits(mobile_graph(), 6, ["stem"])
    assert caught.value.hint
    assert STEM in caught.value.hint


def test_network_without_layers_has_an_empty_plan() -> None:
    build = GraphBuilder((1, 3, 8, 8))
    build.flatten(build.global_pool(build.relu("input")))

    assert plan_bits(build.build(), 4).bits == {}
