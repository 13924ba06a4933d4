"""What is fused, what is not, and what is known to be nowhere negative."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from edgekit.core.quant import QuantParams
from edgekit.export.tflite_plan import nonnegative_activations, plan_fusions
from graphs import GraphBuilder


def grid(scale: float, zero_point: int) -> QuantParams:
    return QuantParams(scale=np.full(1, scale, np.float32), zero_point=np.full(1, zero_point, np.int32))


def test_activation_is_fused_into_its_producer_under_its_own_name() -> None:
    net = GraphBuilder((1, 3, 8, 8))
    conv = net.conv("input", 4)
    relu6 = net.relu6(conv)

    plan = plan_fusions(net.build(), None)

    assert (plan.fusions[conv].output, plan.fusions[conv].activation) == (relu6, ActivationFunctionType.RELU6)
    assert plan.absorbed == {relu6}


def test_activation_stays_when_its_producer_has_another_reader() -> None:
    net = GraphBuilder((1, 3, 8, 8))
    conv = net.conv("input", 3)
    net.binary("Add", net.relu(conv), conv)

    assert plan_fusions(net.build(), None).fusions == {}


def test_activation_stays_when_its_producer_makes_the_output() -> None:
    net = GraphBuilder((1, 3, 8, 8))
    conv = net.conv("input", 3)
    net.relu(conv)

    assert plan_fusions(net.build(conv), None).fusions == {}


def test_activation_stays_when_its_producer_has_a_grid_of_its_own() -> None:
    net = GraphBuilder((1, 3, 8, 8))
    conv = net.conv("input", 3)
    relu = net.relu(conv)
    grids = {"input": grid(0.1, 0), relu: grid(0.1, -128)}

    assert plan_fusions(net.build(), grids).absorbed == {relu}
    assert plan_fusions(net.build(), {**grids, conv: grid(0.2, 0)}).absorbed == frozenset()


def test_clip_without_a_tflite_name_is_fused_when_the_grid_reaches_no_further() -> None:
    net = GraphBuilder((1, 3, 8, 8))
    conv = net.conv("input", 3)
    clip = net.same("Clip", conv, min=0.0, max=4.0)

    narrow = plan_fusions(net.build(), {clip: grid(4 / 255, -128)})
    wide = plan_fusions(net.build(), {clip: grid(6 / 255, -128)})

    assert narrow.fusions[conv].activation == ActivationFunctionType.NONE
    assert wide.fusions == {}
    assert plan_fusions(net.build(), None).fusions == {}


def test_limit_beyond_int32_steps_is_left_to_the_grid() -> None:
    net = GraphBuilder((1, 3, 8, 8))
    conv = net.conv("input", 3)
    relu6 = net.relu6(conv)

    tiny = plan_fusions(net.build(), {relu6: grid(1e-10, -128)})
    usual = plan_fusions(net.build(), {relu6: grid(0.01, -128)})

    assert tiny.fusions[conv].activation == ActivationFunctionType.NONE
    assert usual.fusions[conv].activation == ActivationFunctionType.RELU6


def test_concat_is_stacked_when_the_shuffle_after_it_interleaves_its_parts() -> None:
    net = GraphBuilder((1, 4, 8, 8))
    concat = net.concat(["input", net.conv("input", 4, 1)])
    shuffle = net.shuffle(concat, 2)

    plan = plan_fusions(net.build(), None)

    assert plan.stacks == {shuffle: ("input", "conv_0")}
    assert plan.absorbed == {concat}


def test_concat_stays_when_the_shuffle_has_other_groups() -> None:
    net = GraphBuilder((1, 4, 8, 8))
    net.shuffle(net.concat(["input", net.conv("input", 4, 1)]), 4)

    assert plan_fusions(net.build(), None).stacks == {}


def test_nonnegative_follows_relu_through_pools_and_sums_but_not_convolutions() -> None:
    net = GraphBuilder((1, 4, 8, 8))
    relu = net.relu("input")
    pool = net.pool("MaxPool", relu, 3)
    total = net.binary("Add", pool, pool)
    scaled = net.binary("Mul", total, net.constant("factor", [0.5]))
    flipped = net.binary("Mul", total, net.constant("minus", [-0.5]))
    conv = net.conv(pool, 4)

    known = nonnegative_activations(net.build(), None)

    assert {relu, pool, total, scaled} <= known
    assert not known & {"input", flipped, conv}


def test_nonnegative_follows_from_a_grid_that_starts_at_zero() -> None:
    net = GraphBuilder((1, 4, 8, 8))
    conv = net.conv("input", 4)

    assert nonnegative_activations(net.build(), {"input": grid(0.1, 3), conv: grid(0.1, -128)}) == {conv}
