"""Which layers share, among how many values."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from edgekit.core.errors import GraphError, RecipeError
from edgekit.core.graph import Graph
from edgekit.quantize.codebook import Sharing
from edgekit.quantize.share_plan import SharePlan, apply_sharing, count_clusters, plan_sharing


@pytest.fixture
def graph(graph_builder: Any) -> Graph:
    """First convolution, depthwise, pointwise, and a classifier of 4 weights."""
    builder = graph_builder((1, 3, 8, 8))
    builder.conv("stem", "x", (8, 3, 3, 3))
    builder.conv("dw", "stem", (8, 1, 3, 3), group=8)
    builder.conv("pw", "dw", (2, 8, 1, 1))
    builder.add("pool", "GlobalAveragePool", "pw")
    builder.add("flat", "Flatten", "pool")
    builder.gemm("fc", "flat", (2, 2))
    return builder.finish()


def test_convolutions_and_linear_layers_have_bits_of_their_own(graph: Graph) -> None:
    plan = plan_sharing(graph, 8, 5)
    assert [(each.layer, each.op, each.num_weights, each.num_bits) for each in plan.layers] == [
        ("stem", "Conv", 216, 8),
        ("dw", "Conv", 72, 8),
        ("pw", "Conv", 16, 8),
        ("fc", "Gemm", 4, 5),
    ]
    assert {name: sharing.num_clusters for name, sharing in plan.shared.items()} == {
        "stem": 256,
        "dw": 256,
        "pw": 256,
        "fc": 32,
    }


def test_dense_layers_are_left_as_they_are(graph: Graph) -> None:
    plan = plan_sharing(graph, 2, 1, dense_layers=("stem", "dw"))
    shared = apply_sharing(graph, plan)
    assert [each.num_bits for each in plan.layers] == [None, None, 2, 1]
    assert sorted(plan.shared) == ["fc", "pw"]
    for name in ("stem.weight", "dw.weight", "pw.bias", "fc.bias"):
        assert np.array_equal(shared.constants[name], graph.constants[name])
    assert count_clusters(shared, plan) == {"pw": (4,), "fc": (2,)}


def test_layer_with_fewer_weights_than_clusters_stays_exact(graph: Graph) -> None:
    plan = plan_sharing(graph, 8, 8)
    shared = apply_sharing(graph, plan)
    counts = count_clusters(shared, plan)
    assert counts["fc"] == (4,)
    assert counts["pw"] == (16,)
    assert all(np.array_equal(shared.constants[name], array) for name, array in graph.constants.items())


def test_channel_groups_and_method_come_from_the_pattern(graph: Graph) -> None:
    like = Sharing(num_clusters=1, method="lloyd", start="density", num_groups=4)
    plan = plan_sharing(graph, 3, 3, like=like)
    assert plan.shared["stem"] == msgspec.structs.replace(like, num_clusters=8)
    counts = count_clusters(apply_sharing(graph, plan), plan)
    assert len(counts["stem"]) == 4
    assert max(counts["stem"]) <= 8
    assert counts["fc"] == (2, 2)  # two channels are two groups at most


def test_importance_changes_the_values_of_its_layer_only(graph: Graph) -> None:
    plan = plan_sharing(graph, 2, 2)
    importance = {"stem": np.square(graph.constants["stem.weight"])}
    plain, weighted = apply_sharing(graph, plan), apply_sharing(graph, plan, importance)
    different = [name for name, array in plain.constants.items() if not np.array_equal(array, weighted.constants[name])]
    assert different == ["stem.weight"]


@pytest.mark.parametrize(("conv_bits", "fc_bits", "words"), [(0, 5, "0 bits for conv"), (8, 17, "17 bits for fc")])
def test_bits_out_of_range_are_refused(graph: Graph, conv_bits: int, fc_bits: int, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        plan_sharing(graph, conv_bits, fc_bits)


def test_unknown_dense_layer_is_refused(graph: Graph) -> None:
    with pytest.raises(RecipeError, match="nowhere"):
        plan_sharing(graph, 8, 5, dense_layers=("nowhere",))


def test_plan_of_another_model_is_refused(graph: Graph) -> None:
    plan = plan_sharing(graph, 8, 5)
    odd = msgspec.structs.replace(plan, layers=(msgspec.structs.replace(plan.layers[0], layer="nowhere"),))
    for use in (apply_sharing, count_clusters):
        with pytest.raises(GraphError, match="nowhere"):
            use(graph, odd)


def test_plan_survives_json(graph: Graph) -> None:
    plan = plan_sharing(graph, 8, 5, dense_layers=("stem",))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=SharePlan) == plan
