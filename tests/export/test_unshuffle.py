"""Graphs without their shuffles compute the same, and really are without them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.graph import Graph
from edgekit.export.torch_graph import trace
from edgekit.export.unshuffle import MAX_PIECES, unshuffle
from edgekit.models.zoo import build_model, parse_model_name
from edgekit.quantize.execute import run_float
from graphs import GraphBuilder


def check_same_function(graph: Graph) -> Graph:
    rewritten = unshuffle(graph)
    x = np.random.default_rng(0).normal(size=graph.shapes[graph.input]).astype(np.float32)
    expected = run_float(graph, x)[graph.output]

    values = run_float(rewritten, x)
    np.testing.assert_allclose(values[rewritten.output], expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
    assert {name: value.shape for name, value in values.items()} == dict(rewritten.shapes)
    return rewritten


def ops(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes)


def shuffle_unit(net: GraphBuilder, x: str) -> str:
    """ShuffleNet V2, figure 3c."""
    half = net.shapes[x][1] // 2
    left, right = net.split(x, (half, half))
    right = net.relu(net.conv(right, half, 1))
    right = net.relu(net.conv(net.conv(right, half, 3, pads=1, group=half), half, 1))
    return net.shuffle(net.concat([left, right]), 2)


def downsampling_unit(net: GraphBuilder, x: str, channels: int) -> str:
    """ShuffleNet V2, figure 3d."""
    in_channels, half = net.shapes[x][1], channels // 2
    left = net.relu(net.conv(net.conv(x, in_channels, 3, stride=2, pads=1, group=in_channels), half, 1))
    right = net.relu(net.conv(x, half, 1))
    right = net.relu(net.conv(net.conv(right, half, 3, stride=2, pads=1, group=half), half, 1))
    return net.shuffle(net.concat([left, right]), 2)


@given(half=st.integers(1, 9), num_units=st.integers(0, 5), seed=st.integers(0, 5))
def test_stages_of_shufflenet_v2_need_no_shuffle(half: int, num_units: int, seed: int) -> None:
    net = GraphBuilder((1, 3, 8, 8), seed=seed)
    x = downsampling_unit(net, net.relu(net.conv("input", 4, 1)), 2 * half)
    for _ in range(num_units):
        x = shuffle_unit(net, x)
    x = downsampling_unit(net, x, 4 * half)
    net.gemm(net.flatten(net.global_pool(net.conv(x, 5, 1))), 3)

    assert ops(check_same_function(net.build()))["ChannelShuffle"] == 0


@st.composite
def tangles(draw: st.DrawFn) -> Graph:
    """Nets that split, join, shuffle and read channels at random."""
    net = GraphBuilder((1, 6, 5, 5), seed=draw(st.integers(0, 9)))
    x = net.conv("input", 12, 1)
    for _ in range(draw(st.integers(1, 8))):
        step = draw(st.sampled_from(["shuffle", "swap", "conv", "depthwise", "grouped", "pool", "add", "slice"]))
        if step == "shuffle":
            x = net.shuffle(x, draw(st.sampled_from([2, 3, 4, 6])))
        elif step == "swap":
            first, second, third = net.split(x, draw(st.permutations((2, 4, 6))))
            x = net.concat([third, net.relu(first), second])
        elif step == "slice":
            x = net.concat([net.slice(x, 3, 12), net.slice(x, 0, 3)])
        elif step == "conv":
            x = net.conv(x, 12, 1)
        elif step == "depthwise":
            x = net.conv(x, 12, 3, pads=1, group=12)
        elif step == "grouped":
            x = net.conv(x, 12, 1, group=3)
        elif step == "pool":
            x = net.relu(net.pool("AveragePool", x, 3, pads=1))
        else:
            x = net.binary("Add", x, net.conv(x, 12, 1))
    if draw(st.booleans()):
        net.gemm(net.flatten(net.global_pool(x)), 4)
    return net.build()


@given(tangles())
def test_any_net_computes_the_same(graph: Graph) -> None:
    check_same_function(graph)


def test_graph_without_shuffle_is_returned_as_it_is() -> None:
    net = GraphBuilder((1, 4, 5, 5))
    net.conv(net.concat([net.conv("input", 4, 1), "input"]), 3, 1)
    graph = net.build()

    assert unshuffle(graph) is graph


def test_shuffle_before_a_depthwise_convolution_moves_behind_it() -> None:
    net = GraphBuilder((1, 60, 8, 8))
    x = net.shuffle(net.conv("input", 60, 1, group=3), 3)
    net.conv(net.conv(x, 60, 3, stride=2, pads=1, group=60), 60, 1, group=3)

    rewritten = check_same_function(net.build())

    assert [node.op for node in rewritten.nodes] == ["Conv", "Conv", "ChannelShuffle", "Conv"]
    assert rewritten.shapes[rewritten.nodes[2].output] == (1, 60, 4, 4)


def test_scattered_order_that_is_no_shuffle_leaves_the_graph_alone() -> None:
    net = GraphBuilder((1, 48, 4, 4))
    x = net.shuffle(net.shuffle(net.conv("input", 48, 1), 3), 2)
    net.binary("Add", net.concat([net.slice(x, 10, 48), net.slice(x, 0, 10)]), "input")
    graph = net.build()

    assert unshuffle(graph) is graph
    assert MAX_PIECES < 48


def test_weights_are_only_permuted() -> None:
    net = GraphBuilder((1, 8, 4, 4))
    net.conv(net.conv(net.shuffle(net.conv("input", 8, 1), 2), 8, 3, group=8), 6, 1)
    graph = net.build()

    rewritten = check_same_function(graph)

    assert set(rewritten.constants) == set(graph.constants)
    for name, values in graph.constants.items():
        np.testing.assert_array_equal(np.sort(rewritten.constants[name], axis=None), np.sort(values, axis=None))


def test_weight_shared_by_two_layers_keeps_its_order_for_the_other() -> None:
    net = GraphBuilder((1, 8, 4, 4))
    plain = net.conv("input", 8, 1)
    shared = net.nodes[-1].inputs[1:]
    net.conv(net.concat(["input", plain]), 8, 1)
    shuffled = net.node("Conv", [net.shuffle(plain, 2), *shared], [(1, 8, 4, 4)], dict(net.nodes[0].attrs))[0]
    net.binary("Add", shuffled, plain)

    check_same_function(net.build())


@pytest.mark.parametrize(
    ("variant", "num_shuffles"),
    [("shufflenet_v2_x0_5", 0), ("shufflenet_v1_x0_25_g3", 16), ("mobilenet_v2_w0.25", 0)],
)
def test_catalogue_architectures_keep_no_more_shuffles_than_one_a_unit(variant: str, num_shuffles: int) -> None:
    torch.manual_seed(0)
    options = parse_model_name(variant)
    module = build_model(options).eval()

    rewritten = check_same_function(trace(module, (3, options.input_size, options.input_size), name=variant))

    assert ops(rewritten)["ChannelShuffle"] == num_shuffles
