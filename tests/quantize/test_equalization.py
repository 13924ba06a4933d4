"""Equalization and absorption: the answers stay, the ranges become what the paper says, what must not move does not."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.core.errors import QuantizationError
from edgekit.core.graph import Array, Graph
from edgekit.quantize.channel_flow import find_links
from edgekit.quantize.channel_ranges import ChannelRange
from edgekit.quantize.equalization import (
    LARGEST_SCALE,
    EqualizationConfig,
    apply_equalization,
    equalize,
    plan_equalization,
    watched_activations,
)
from edgekit.quantize.execute import run_float
from equalized import assert_same_answers, observe, random_pictures, small_family
from graphs import GraphBuilder

Granularity = Literal["per_channel", "per_tensor"]
GRANULARITIES: tuple[Granularity, ...] = ("per_channel", "per_tensor")
# At least one of each family in the catalogue; the contract tests list the families.
FAMILIES = (
    "efficientnet_lite0",
    "lenet_300_100",
    "lenet5",
    "mobilenet_v1_w0.25",
    "mobilenet_v2_w0.5",
    "shufflenet_v1_x0_25_g3",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("variant", FAMILIES)
def test_answers_stay_when_a_family_is_equalized(variant: str, granularity: Granularity) -> None:
    graph = small_family(variant)
    x = random_pictures(graph, 4)

    plan = plan_equalization(graph, observe(graph, x), EqualizationConfig(granularity=granularity))

    is_free = granularity == "per_tensor" or any(link.limit == np.inf for link in find_links(graph))
    assert any(not np.allclose(link.scales, 1.0, rtol=0.01) for link in plan.links) == is_free
    assert_same_answers(graph, apply_equalization(graph, plan), x)


def test_ranges_are_equal_after_convergence() -> None:
    graph, names = _chain()

    plan = plan_equalization(graph, None, EqualizationConfig(granularity="per_tensor"))
    done = apply_equalization(graph, plan)

    first, second = (done.constants[names[index]] for index in (0, 1))
    np.testing.assert_allclose(np.abs(first).max(axis=(1, 2, 3)), np.abs(second).max(axis=(0, 2, 3)), rtol=5e-3)
    before = [np.abs(graph.constants[name]) for name in names[:2]]
    assert not np.allclose(before[0].max(axis=(1, 2, 3)), before[1].max(axis=(0, 2, 3)), rtol=0.1)


def test_two_layers_get_the_scales_of_equation_11() -> None:
    graph, names = _chain(num_layers=2)
    first, second = (np.abs(np.asarray(graph.constants[name], np.float64)) for name in names)

    plan = plan_equalization(graph, None, EqualizationConfig(granularity="per_tensor"))

    expected = np.sqrt(first.max(axis=(1, 2, 3)) / second.max(axis=(0, 2, 3)))
    np.testing.assert_allclose(plan.links[0].scales, expected, rtol=1e-6)


def test_three_ranges_are_the_cube_root_of_their_product_through_a_depthwise_layer() -> None:
    builder = GraphBuilder((1, 4, 8, 8), seed=3)
    hidden = builder.relu(builder.conv("input", 6, 1))
    hidden = builder.relu(builder.conv(hidden, 6, 3, pads=1, group=6))
    builder.conv(hidden, 5, 1)
    graph = builder.build()
    names = [node.inputs[1] for node in graph.nodes if node.op == "Conv"]

    done = equalize(graph, None, EqualizationConfig(granularity="per_tensor"))

    def ranges(of: Graph) -> list[npt.NDArray[np.floating]]:
        axes = ((1, 2, 3), (1, 2, 3), (0, 2, 3))
        return [np.abs(of.constants[name]).max(axis=axis) for name, axis in zip(names, axes, strict=True)]

    expected = np.cbrt(np.prod(ranges(graph), axis=0))
    for reached in ranges(done):
        np.testing.assert_allclose(reached, expected, rtol=5e-3)


def test_channels_reach_equally_far_before_a_depthwise_layer_when_rows_have_scales_of_their_own() -> None:
    builder = GraphBuilder((1, 4, 8, 8), seed=4)
    hidden = builder.relu(builder.conv("input", 6, 1))
    builder.conv(hidden, 6, 3, pads=1, group=6)
    graph = builder.build()
    x = random_pictures(graph, 8)

    done = equalize(graph, observe(graph, x))

    reach = run_float(done, x)[hidden].max(axis=(0, 2, 3))
    np.testing.assert_allclose(reach[reach > 0], reach.max(), rtol=1e-4)


def test_channel_that_clips_keeps_its_scale_and_a_free_one_stays_below_the_clip() -> None:
    builder = GraphBuilder((1, 3, 6, 6), seed=5)
    made = builder.conv("input", 8, 1)
    hidden = builder.relu6(made)
    builder.conv(hidden, 4, 1)
    builder.constants["layer0.weight"] = _times(builder.constants["layer0.weight"], [20, 20, 20, 1, 1, 1, 1, 1])
    graph = builder.build()
    x = random_pictures(graph, 16)
    clips = run_float(graph, x)[made].max(axis=(0, 2, 3)) >= 6

    plan = plan_equalization(graph, observe(graph, x), EqualizationConfig(granularity="per_tensor", headroom=1.5))
    done = apply_equalization(graph, plan)

    assert 0 < clips.sum() < 8
    np.testing.assert_array_equal(plan.links[0].scales[clips], 1.0)
    assert (plan.links[0].scales[~clips] != 1.0).any()
    assert (run_float(done, x)[made].max(axis=(0, 2, 3))[~clips] * 1.5 <= 6 * (1 + 1e-5)).all()
    assert_same_answers(graph, done, x)


def test_channels_before_a_clip_stay_when_rows_have_scales_of_their_own() -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    hidden = builder.relu6(builder.conv("input", 8, 1))
    builder.conv(hidden, 4, 1)
    graph = builder.build()

    plan = plan_equalization(graph, observe(graph, random_pictures(graph, 4)))

    np.testing.assert_array_equal(plan.links[0].scales, 1.0)


def test_clipped_channels_stay_when_nothing_is_known_of_them() -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    hidden = builder.relu6(builder.conv("input", 8, 1))
    builder.conv(hidden, 4, 1)

    plan = plan_equalization(builder.build(), None, EqualizationConfig(granularity="per_tensor"))

    np.testing.assert_array_equal(plan.links[0].scales, 1.0)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_dead_channels_keep_their_scale(granularity: Granularity) -> None:
    graph, names = _chain(num_layers=2)
    graph.constants[names[0]][1] = 0  # made by no weight
    graph.constants[names[0].replace("weight", "bias")][1] = 0
    graph.constants[names[1]][:, 2] = 0  # read by none
    x = random_pictures(graph, 4)

    plan = plan_equalization(graph, observe(graph, x), EqualizationConfig(granularity=granularity))

    np.testing.assert_array_equal(plan.links[0].scales[1:3], 1.0)
    assert plan.links[0].scales[0] != 1.0
    assert_same_answers(graph, apply_equalization(graph, plan), x)


def test_scale_stays_within_bounds_when_a_channel_has_next_to_no_weights() -> None:
    graph, names = _chain(num_layers=2)
    graph.constants[names[0]][1] *= 1e-20

    plan = plan_equalization(graph, None, EqualizationConfig(granularity="per_tensor"))

    assert plan.links[0].scales.min() == pytest.approx(1 / LARGEST_SCALE)


def test_high_bias_is_absorbed_and_the_answers_stay() -> None:
    graph, hidden = _high_bias(pads=0)
    x = random_pictures(graph, 16)

    plan = plan_equalization(graph, observe(graph, x))
    done = apply_equalization(graph, plan)

    ranges = observe(graph, x)[hidden]
    expected = np.minimum(ranges.lowest, ranges.mean - 3 * np.sqrt(ranges.variance))
    np.testing.assert_allclose(plan.links[0].absorbed * plan.links[0].scales, np.maximum(expected, 0), rtol=1e-9)
    assert (expected > 1).sum() == 2
    assert run_float(done, x)[hidden].min() > -20
    assert_same_answers(graph, done, x)


def test_nothing_is_absorbed_where_the_reader_pads_with_zeros() -> None:
    graph, _ = _high_bias(pads=1)

    plan = plan_equalization(graph, observe(graph, random_pictures(graph, 16)))

    np.testing.assert_array_equal(plan.links[0].absorbed, 0.0)


def test_absorption_gives_a_bias_to_a_reader_that_has_none() -> None:
    builder = GraphBuilder((1, 3, 6, 6), seed=2)
    hidden = builder.relu(builder.conv("input", 4, 1))
    builder.constant("layer0.bias", np.full(4, 20.0))
    builder.conv(hidden, 4, 3, bias=False)
    graph = builder.build()
    x = random_pictures(graph, 16)

    done = equalize(graph, observe(graph, x))

    assert len(done.nodes[-1].inputs) == 3
    assert_same_answers(graph, done, x)


def test_absorbed_can_be_switched_off() -> None:
    graph, _ = _high_bias(pads=0)

    plan = plan_equalization(graph, observe(graph, random_pictures(graph, 4)), EqualizationConfig(absorb=False))

    np.testing.assert_array_equal(plan.links[0].absorbed, 0.0)


def test_layers_that_share_weights_are_scaled_apart() -> None:
    builder = GraphBuilder((1, 4, 6, 6), seed=6)
    hidden = builder.relu(builder.conv("input", 4, 1))
    weight = builder.nodes[0].inputs[1]
    (hidden,) = builder.node("Conv", [hidden, weight], [(1, 4, 6, 6)], dict(builder.nodes[0].attrs))
    graph = builder.build()
    x = random_pictures(graph, 4)

    assert_same_answers(graph, equalize(graph, observe(graph, x)), x)


def test_graph_without_links_stays_as_it_is() -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    builder.conv("input", 4, 1)
    graph = builder.build()

    plan = plan_equalization(graph, {})

    assert plan.links == ()
    np.testing.assert_array_equal(
        apply_equalization(graph, plan).constants["layer0.weight"], graph.constants["layer0.weight"]
    )


def test_missing_ranges_are_refused() -> None:
    graph, _ = _chain()

    with pytest.raises(QuantizationError, match="needs channel ranges"):
        plan_equalization(graph)
    with pytest.raises(QuantizationError, match="no activation conv_0"):
        plan_equalization(graph, {})


def test_ranges_of_another_graph_are_refused() -> None:
    graph, _ = _chain()
    ranges = {name: _flat_range(3) for name in watched_activations(graph)}

    with pytest.raises(QuantizationError, match="expected 6 channels, got 3"):
        plan_equalization(graph, ranges)


def test_headroom_below_one_is_refused() -> None:
    graph, _ = _chain()

    with pytest.raises(QuantizationError, match=r"headroom: expected at least 1, got 0\.5"):
        plan_equalization(graph, None, EqualizationConfig(granularity="per_tensor", headroom=0.5))


def test_weight_that_is_not_finite_is_refused() -> None:
    graph, names = _chain()
    graph.constants[names[1]][0, 0] = np.nan

    with pytest.raises(QuantizationError, match=names[1]):
        plan_equalization(graph, None, EqualizationConfig(granularity="per_tensor"))


def _chain(num_layers: int = 3) -> tuple[Graph, list[str]]:
    """Convolutions with Relus between, and the names of their weights; the rows differ in range."""
    builder = GraphBuilder((1, 3, 6, 6), seed=1)
    at = "input"
    for index in range(num_layers):
        at = builder.conv(at, 6, 3, pads=1)
        weight = builder.nodes[-1].inputs[1]
        builder.constants[weight] = _times(builder.constants[weight], np.exp(builder.rng.normal(0, 1, 6)))
        if index < num_layers - 1:
            at = builder.relu(at)
    graph = builder.build()
    return graph, [node.inputs[1] for node in graph.nodes if node.op == "Conv"]


def _times(weight: Array, factors: npt.ArrayLike) -> Array:
    """A weight with other rows."""
    return (weight * np.reshape(factors, (-1, 1, 1, 1))).astype(np.float32)


def _high_bias(pads: int) -> tuple[Graph, str]:
    """Two channels that are always far above zero, before a 3x3 layer; and the activation before the Relu."""
    builder = GraphBuilder((1, 3, 6, 6), seed=2)
    made = builder.conv("input", 4, 1)
    builder.constant("layer0.bias", [12.0, 12.1, 0.1, -0.1])
    builder.conv(builder.relu(made), 5, 3, pads=pads)
    return builder.build(), made


def _flat_range(channels: int) -> ChannelRange:
    ones = np.ones(channels)
    return ChannelRange(lowest=-ones, highest=ones, mean=ones, variance=ones)
