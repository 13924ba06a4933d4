"""Equalization and absorption: the answers stay, the ranges become what the paper says, what must not move does not."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.core.errors import QuantizationError
from edgekit.core.graph import Graph
from edgekit.export.torch_graph import trace
from edgekit.export.unshuffle import unshuffle
from edgekit.models.architecture import BuildOptions
from edgekit.models.zoo import build_model, parse_model_name
from edgekit.quantize.channel_flow import find_links
from edgekit.quantize.channel_ranges import ChannelRange, observe_channels
from edgekit.quantize.equalization import (
    LARGEST_SCALE,
    EqualizationConfig,
    EqualizationPlan,
    LinkScale,
    apply_equalization,
    equalize,
    plan_equalization,
    watched_activations,
)
from edgekit.quantize.execute import run_float
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
    graph = _family(variant)
    x = _pictures(graph, 4)

    plan = plan_equalization(graph, _observe(graph, x), EqualizationConfig(granularity=granularity))

    assert any(not np.allclose(link.scales, 1.0, rtol=0.01) for link in plan.links)
    _assert_same_answers(graph, apply_equalization(graph, plan), x)


@pytest.mark.parametrize(
    ("variant", "linked", "unlinked"),
    [
        # The three of a fire module read each other through Concat; pooling is no obstacle, nor is the last average.
        ("squeezenet1_1", 25, 1),
        ("lenet5", 3, 1),
        ("lenet_300_100", 2, 1),
        ("mobilenet_v1_w0.25", 27, 1),
    ],
)
def test_chains_without_shortcuts_are_linked_throughout(variant: str, linked: int, unlinked: int) -> None:
    graph = _family(variant)

    layers = [node.name for node in graph.nodes if node.op in {"Conv", "Gemm"}]

    assert len(find_links(graph)) == linked
    assert len(layers) == linked + unlinked


def test_ranges_are_equal_after_convergence() -> None:
    graph, names = _chain()

    plan = plan_equalization(graph, None, EqualizationConfig(granularity="per_tensor"))
    done = apply_equalization(graph, plan)

    first, second = (done.constants[names[index]] for index in (0, 1))
    np.testing.assert_allclose(np.abs(first).max(axis=(1, 2, 3)), np.abs(second).max(axis=(0, 2, 3)), rtol=1e-3)
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
        np.testing.assert_allclose(reached, expected, rtol=2e-3)


def test_channels_reach_equally_far_before_a_depthwise_layer_when_rows_have_scales_of_their_own() -> None:
    builder = GraphBuilder((1, 4, 8, 8), seed=4)
    hidden = builder.relu(builder.conv("input", 6, 1))
    builder.conv(hidden, 6, 3, pads=1, group=6)
    graph = builder.build()
    x = _pictures(graph, 8)

    done = equalize(graph, _observe(graph, x))

    reach = run_float(done, x)[hidden].max(axis=(0, 2, 3))
    np.testing.assert_allclose(reach[reach > 0], reach.max(), rtol=1e-4)


def test_channel_that_clips_keeps_its_scale_and_a_free_one_stays_below_the_clip() -> None:
    builder = GraphBuilder((1, 3, 6, 6), seed=5)
    made = builder.conv("input", 8, 1)
    hidden = builder.relu6(made)
    builder.conv(hidden, 4, 1)
    builder.constants["layer0.weight"][:3] *= 20
    graph = builder.build()
    x = _pictures(graph, 16)
    clips = run_float(graph, x)[made].max(axis=(0, 2, 3)) >= 6

    for granularity in GRANULARITIES:
        config = EqualizationConfig(granularity=granularity, headroom=1.5)
        plan = plan_equalization(graph, _observe(graph, x), config)
        done = apply_equalization(graph, plan)

        assert 0 < clips.sum() < 8
        np.testing.assert_array_equal(plan.links[0].scales[clips], 1.0)
        assert (plan.links[0].scales[~clips] != 1.0).any()
        assert (run_float(done, x)[made].max(axis=(0, 2, 3))[~clips] * 1.5 <= 6 * (1 + 1e-5)).all()
        _assert_same_answers(graph, done, x)


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
    x = _pictures(graph, 4)

    plan = plan_equalization(graph, _observe(graph, x), EqualizationConfig(granularity=granularity))

    np.testing.assert_array_equal(plan.links[0].scales[1:3], 1.0)
    assert plan.links[0].scales[0] != 1.0
    _assert_same_answers(graph, apply_equalization(graph, plan), x)


def test_scale_stays_within_bounds_when_a_channel_has_next_to_no_weights() -> None:
    graph, names = _chain(num_layers=2)
    graph.constants[names[0]][1] *= 1e-20

    plan = plan_equalization(graph, None, EqualizationConfig(granularity="per_tensor"))

    assert plan.links[0].scales.min() == pytest.approx(1 / LARGEST_SCALE)


@pytest.mark.parametrize("op", ["Sigmoid", "HardSwish"])
def test_no_link_through_what_is_not_homogeneous(op: str) -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    builder.conv(builder.same(op, builder.conv("input", 8, 1)), 4, 1)

    assert find_links(builder.build()) == ()


def test_no_link_into_a_sum_or_the_output() -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    first = builder.conv("input", 4, 1)
    second = builder.conv(builder.relu(first), 4, 1)
    builder.conv(builder.binary("Add", first, second), 4, 1)

    assert find_links(builder.build()) == ()


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.5, 6.0)])
def test_no_link_through_a_clip_that_does_not_start_at_zero(low: float, high: float) -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    builder.conv(builder.same("Clip", builder.conv("input", 4, 1), min=low, max=high), 4, 1)

    assert find_links(builder.build()) == ()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_link_through_padding_only_with_zeros(value: float) -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    made = builder.conv("input", 4, 1)
    (padded,) = builder.node("Pad", [made], [(1, 4, 8, 8)], {"pads": (1, 1, 1, 1), "value": value})
    builder.conv(padded, 4, 3)

    assert [link.is_shiftable for link in find_links(builder.build())] == ([False] if value == 0 else [])


def test_owners_follow_shuffled_split_joined_and_flattened_channels() -> None:
    builder = GraphBuilder((1, 3, 2, 2))
    made = builder.conv("input", 4, 1)
    other = builder.conv("input", 2, 1)
    left, right = builder.split(builder.shuffle(made, 2), (1, 3))
    builder.conv(left, 2, 1)
    builder.gemm(builder.flatten(builder.concat([other, right])), 3)

    # Shuffled in two groups, the four channels lie 0, 2, 1, 3; every map has four positions.
    first, second = find_links(builder.build())

    assert [reader.owners.tolist() for reader in first.readers] == [
        [0],
        np.repeat([-1, -1, 2, 1, 3], 4).tolist(),
    ]
    assert [reader.owners.tolist() for reader in second.readers] == [np.repeat([0, 1, -1, -1, -1], 4).tolist()]


def test_high_bias_is_absorbed_and_the_answers_stay() -> None:
    graph, hidden = _high_bias(pads=0)
    x = _pictures(graph, 16)

    plan = plan_equalization(graph, _observe(graph, x))
    done = apply_equalization(graph, plan)

    ranges = _observe(graph, x)[hidden]
    expected = np.minimum(ranges.lowest, ranges.mean - 3 * np.sqrt(ranges.variance))
    np.testing.assert_allclose(plan.links[0].absorbed * plan.links[0].scales, np.maximum(expected, 0), rtol=1e-9)
    assert (expected > 1).sum() == 2
    assert run_float(done, x)[hidden].min() > -20
    _assert_same_answers(graph, done, x)


def test_nothing_is_absorbed_where_the_reader_pads_with_zeros() -> None:
    graph, _ = _high_bias(pads=1)

    plan = plan_equalization(graph, _observe(graph, _pictures(graph, 16)))

    np.testing.assert_array_equal(plan.links[0].absorbed, 0.0)


@pytest.mark.parametrize(("count_include_pad", "is_shiftable"), [(0, True), (1, False)])
def test_absorption_knows_whether_an_average_counts_its_padding(count_include_pad: int, is_shiftable: bool) -> None:
    builder = GraphBuilder((1, 3, 6, 6))
    hidden = builder.relu(builder.conv("input", 4, 1))
    hidden = builder.pool("AveragePool", hidden, 3, pads=1, count_include_pad=count_include_pad)
    builder.conv(hidden, 4, 1)

    assert [link.is_shiftable for link in find_links(builder.build())] == [is_shiftable]


def test_absorption_gives_a_bias_to_a_reader_that_has_none() -> None:
    builder = GraphBuilder((1, 3, 6, 6), seed=2)
    hidden = builder.relu(builder.conv("input", 4, 1))
    builder.constants["layer0.bias"] += 20
    builder.conv(hidden, 4, 3, bias=False)
    graph = builder.build()
    x = _pictures(graph, 16)

    done = equalize(graph, _observe(graph, x))

    assert len(done.nodes[-1].inputs) == 3
    _assert_same_answers(graph, done, x)


def test_absorbed_can_be_switched_off() -> None:
    graph, _ = _high_bias(pads=0)

    plan = plan_equalization(graph, _observe(graph, _pictures(graph, 4)), EqualizationConfig(absorb=False))

    np.testing.assert_array_equal(plan.links[0].absorbed, 0.0)


def test_layers_that_share_weights_are_scaled_apart() -> None:
    builder = GraphBuilder((1, 4, 6, 6), seed=6)
    hidden = builder.relu(builder.conv("input", 4, 1))
    weight = builder.nodes[0].inputs[1]
    (hidden,) = builder.node("Conv", [hidden, weight], [(1, 4, 6, 6)], dict(builder.nodes[0].attrs))
    graph = builder.build()
    x = _pictures(graph, 4)

    _assert_same_answers(graph, equalize(graph, _observe(graph, x)), x)


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


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_channel_ranges_do_not_depend_on_the_batches(batch_size: int) -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, (16, 5, 4, 4)).astype(np.float32)

    batches = ({"a": values[start : start + batch_size]} for start in range(0, 16, batch_size))
    seen = observe_channels(["a"], batches)["a"]

    axes = (0, 2, 3)
    np.testing.assert_array_equal(seen.lowest, values.min(axis=axes))
    np.testing.assert_array_equal(seen.highest, values.max(axis=axes))
    np.testing.assert_allclose(seen.mean, values.mean(axis=axes, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(seen.variance, values.var(axis=axes, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(seen.energy, (values.astype(np.float64) ** 2).mean(axis=axes), rtol=1e-9)
    np.testing.assert_array_equal(seen.reach, np.abs(values).max(axis=axes))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "got none"),
        ([{"b": np.zeros((1, 2))}], "lacks activation a"),
        ([{"a": np.array([[1.0, np.nan]])}], "activation a: expected finite values"),
    ],
)
def test_bad_calibration_is_refused(batches: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        observe_channels(["a"], batches)


@settings(max_examples=60)
@given(st.data())
def test_any_scales_leave_the_answers_of_a_random_graph(data: st.DataObject) -> None:
    graph = data.draw(_graphs())
    x = _pictures(graph, 2)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    # Without a Clip any positive scale is right, not only the ones that would be chosen.
    links = tuple(
        LinkScale(
            layer=link.layer,
            readers=link.readers,
            scales=np.exp(rng.normal(0, 1, link.num_channels)),
            absorbed=np.zeros(link.num_channels),
        )
        for link in find_links(graph)
        if link.limit == np.inf
    )

    _assert_same_answers(graph, apply_equalization(graph, EqualizationPlan(links=links, num_rounds=0)), x)


@settings(max_examples=60)
@given(st.data())
def test_planned_scales_leave_the_answers_of_a_random_graph(data: st.DataObject) -> None:
    graph = data.draw(_graphs())
    x = _pictures(graph, 2)
    config = EqualizationConfig(granularity=data.draw(st.sampled_from(GRANULARITIES)))

    _assert_same_answers(graph, equalize(graph, _observe(graph, x), config), x)


@st.composite
def _graphs(draw: st.DrawFn) -> Graph:
    """A little network: layers, activations, pools, shuffles, shortcuts and joins in any order; high biases too."""
    builder = GraphBuilder((1, draw(st.sampled_from([2, 4])), 6, 6), seed=draw(st.integers(0, 1000)))
    at = builder.conv("input", 4, 1)
    for step in draw(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=8)):
        at = _take(builder, step, at, draw(st.booleans()))
    if draw(st.booleans()):
        at = builder.global_pool(at)
    builder.gemm(builder.flatten(at), 3)
    for name in builder.constants:
        if name.endswith("bias"):
            builder.constants[name] += np.float32(draw(st.sampled_from([0.0, 0.0, 8.0])))
    return builder.build()


_STEPS = (
    "conv",
    "depthwise",
    "grouped",
    "relu",
    "relu6",
    "max",
    "average",
    "shuffle",
    "add",
    "concat",
    "split",
    "swish",
)


def _take(builder: GraphBuilder, step: str, at: str, flag: bool) -> str:
    """One step further, at 4 channels again; `flag` chooses padding or bias."""
    if step in {"conv", "depthwise", "grouped"}:
        group = {"conv": 1, "grouped": 2, "depthwise": 4}[step]
        return builder.conv(at, 4, 3 if flag else 1, pads=int(flag), group=group, bias=not flag)
    if step in {"max", "average"}:
        op = "MaxPool" if step == "max" else "AveragePool"
        return builder.pool(op, at, 3, pads=1, count_include_pad=int(flag))
    if step == "add":
        return builder.binary("Add", at, builder.conv(builder.relu(at), 4, 1))
    if step == "concat":
        return builder.conv(builder.concat([builder.relu(at), builder.conv(at, 2, 1)]), 4, 1)
    if step == "split":
        left, right = builder.split(at, (1, 3))
        return builder.concat([right, builder.relu(left) if flag else builder.conv(left, 1, 1)])
    if step == "shuffle":
        return builder.shuffle(at, 2)
    return {"relu": builder.relu, "relu6": builder.relu6, "swish": lambda x: builder.same("HardSwish", x)}[step](at)


def _chain(num_layers: int = 3) -> tuple[Graph, list[str]]:
    """Convolutions with Relus between, and the names of their weights; the rows differ in range."""
    builder = GraphBuilder((1, 3, 6, 6), seed=1)
    at = "input"
    for index in range(num_layers):
        at = builder.conv(at, 6, 3, pads=1)
        weight = builder.constants[builder.nodes[-1].inputs[1]]
        weight *= np.exp(builder.rng.normal(0, 1, (6, 1, 1, 1))).astype(np.float32)
        if index < num_layers - 1:
            at = builder.relu(at)
    graph = builder.build()
    return graph, [node.inputs[1] for node in graph.nodes if node.op == "Conv"]


def _high_bias(pads: int) -> tuple[Graph, str]:
    """Two channels that are always far above zero, before a 3x3 layer; and the activation before the Relu."""
    builder = GraphBuilder((1, 3, 6, 6), seed=2)
    made = builder.conv("input", 4, 1)
    builder.constants["layer0.bias"][:2] += 12
    builder.conv(builder.relu(made), 5, 3, pads=pads)
    return builder.build(), made


def _family(variant: str) -> Graph:
    torch.manual_seed(0)
    options = parse_model_name(variant)
    channels = 1 if variant.startswith("lenet") else 3
    module = build_model(
        BuildOptions(variant=options.variant, width=options.width, num_classes=7, in_channels=channels, input_size=28)
    ).eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.2, 3.0)
    return unshuffle(trace(module, (channels, 28, 28), name=variant))


def _pictures(graph: Graph, n: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(size=(n, *graph.shapes[graph.input][1:])).astype(np.float32)


def _observe(graph: Graph, x: npt.NDArray[np.float32]) -> dict[str, ChannelRange]:
    return observe_channels(watched_activations(graph), [run_float(graph, x)])


def _flat_range(channels: int) -> ChannelRange:
    ones = np.ones(channels)
    return ChannelRange(lowest=-ones, highest=ones, mean=ones, variance=ones)


def _assert_same_answers(graph: Graph, done: Graph, x: npt.NDArray[np.float32]) -> None:
    expected = run_float(graph, x)[graph.output]
    got = run_float(done, x)[done.output]
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-4 * max(float(np.abs(expected).max()), 1e-3))
