from __future__ import annotations

from typing import Any

import pytest

from edgekit.core.errors import UnsupportedOpError
from edgekit.core.graph import Graph
from edgekit.quantize.plan import ActivationGroup, QuantizationPlan, plan_quantization

POOL = {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0)}


def group_of(plan: QuantizationPlan, name: str) -> ActivationGroup:
    return next(group for group in plan.groups if name in group.members)


def test_conv_before_a_single_relu_has_no_grid(graph_builder: Any) -> None:
    builder = graph_builder()
    builder.conv("conv", "x", (4, 3, 3, 3))
    builder.add("act", "Relu", "conv")
    plan = plan_quantization(builder.finish())
    assert plan.fused == {"conv": "act"}
    assert [group.members for group in plan.groups] == [("x",), ("act",)]
    assert plan.layers[0].output == "act"
    assert plan.observed == ("x", "act")


def test_conv_with_two_readers_keeps_its_grid(graph_builder: Any) -> None:
    builder = graph_builder()
    builder.conv("conv", "x", (4, 3, 3, 3))
    builder.add("act", "Relu", "conv")
    builder.add("sum", "Add", "conv", "act")
    plan = plan_quantization(builder.finish())
    assert plan.fused == {}
    assert group_of(plan, "conv").visible == ("conv", "act")


def test_graph_output_is_never_fused_away(graph_builder: Any) -> None:
    builder = graph_builder()
    builder.conv("conv", "x", (4, 3, 3, 3))
    builder.add("act", "Relu", "conv")
    assert plan_quantization(builder.finish(output="conv")).fused == {}


def test_moving_operators_share_one_grid(graph_builder: Any) -> None:
    builder = graph_builder()
    builder.conv("a", "x", (4, 3, 3, 3))
    builder.conv("b", "x", (4, 3, 1, 1))
    builder.add("cat", "Concat", "a", "b", axis=1)
    builder.add("shuffle", "ChannelShuffle", "cat", groups=2)
    builder.add("split", "Split", "shuffle", outputs=("left", "right"), axis=1, split=(4, 4))
    builder.add("pool", "MaxPool", "left", **POOL)
    builder.add("average", "AveragePool", "right", count_include_pad=0, **POOL)
    builder.add("mean", "GlobalAveragePool", "average")
    builder.add("sum", "Add", "pool", "average")
    plan = plan_quantization(builder.finish())
    shared = {"a", "b", "cat", "shuffle", "left", "right", "pool", "average"}
    assert set(group_of(plan, "a").members) == shared
    assert group_of(plan, "mean").members == ("mean",)
    assert group_of(plan, "sum").members == ("sum",)
    assert group_of(plan, "x").members == ("x",)


def test_values_seen_only_through_a_relu_do_not_widen_the_grid(graph_builder: Any) -> None:
    builder = graph_builder()
    builder.conv("a", "x", (4, 3, 3, 3))
    builder.conv("b", "x", (4, 3, 1, 1))
    builder.add("pool", "MaxPool", "b", kernel_shape=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
    builder.add("cat", "Concat", "a", "pool", axis=1)
    builder.add("act", "Relu", "cat")
    plan = plan_quantization(builder.finish())
    group = group_of(plan, "a")
    assert group.members == ("a", "b", "pool", "cat", "act")
    assert group.visible == ("act",)


@pytest.mark.parametrize("op", ["AveragePool", "Pad"])
def test_a_relu_is_not_drawn_through_operators_that_compute(graph_builder: Any, op: str) -> None:
    builder = graph_builder()
    builder.conv("a", "x", (4, 3, 3, 3))
    if op == "Pad":
        builder.add("moved", "Pad", "a", pads=(1, 1, 1, 1), value=0.0)
    else:
        builder.add("moved", "AveragePool", "a", count_include_pad=0, **POOL)
    builder.add("act", "Relu", "moved")
    group = group_of(plan_quantization(builder.finish()), "a")
    assert group.members == ("a", "moved", "act")
    assert group.visible == ("a", "act")


def test_value_with_another_reader_stays_visible(graph_builder: Any) -> None:
    builder = graph_builder()
    builder.conv("a", "x", (4, 3, 3, 3))
    builder.add("cat", "Concat", "a", "a", axis=1)
    builder.add("act", "Relu", "cat")
    builder.add("mean", "GlobalAveragePool", "a")
    group = group_of(plan_quantization(builder.finish(output="act")), "a")
    assert group.visible == ("a", "act")


def test_sigmoid_and_softmax_have_fixed_grids(graph_builder: Any) -> None:
    builder = graph_builder()
    builder.conv("a", "x", (4, 3, 3, 3))
    builder.add("gate", "Sigmoid", "a")
    builder.add("gated", "Mul", "a", "gate")
    builder.add("mean", "GlobalAveragePool", "gated")
    builder.add("flat", "Flatten", "mean")
    builder.add("answer", "Softmax", "flat", axis=1)
    plan = plan_quantization(builder.finish())
    assert group_of(plan, "gate").is_fixed
    assert group_of(plan, "answer").is_fixed
    assert "gate" not in plan.observed
    assert not group_of(plan, "gated").is_fixed


def test_sigmoid_concatenated_with_other_values_is_refused(graph_builder: Any) -> None:
    builder = graph_builder()
    builder.conv("a", "x", (4, 3, 3, 3))
    builder.add("gate", "Sigmoid", "a")
    builder.add("cat", "Concat", "a", "gate", axis=1)
    with pytest.raises(UnsupportedOpError, match="activation a shares its grid with a Sigmoid"):
        plan_quantization(builder.finish())


def test_unknown_operator_names_the_node(graph_builder: Any) -> None:
    builder = graph_builder()
    builder.conv("a", "x", (4, 3, 3, 3))
    graph = builder.finish()
    builder.add("weird", "Einsum", "a")
    broken: Graph = graph.replace(nodes=builder.nodes, output="weird")
    with pytest.raises(UnsupportedOpError, match="node weird: Einsum"):
        plan_quantization(broken)


def test_constant_operands_are_listed_once(graph_builder: Any) -> None:
    builder = graph_builder()
    builder.constant("c", [[[[2.0]], [[3.0]], [[4.0]]]])
    builder.add("mul", "Mul", "x", "c")
    builder.add("sum", "Add", "mul", "c")
    assert plan_quantization(builder.finish()).constants == ("c",)
