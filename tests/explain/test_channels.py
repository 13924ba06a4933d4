"""The channels that respond most, and which layers are looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.core.errors import UnknownNameError
from edgekit.core.graph import Graph
from edgekit.explain.channels import choose_layers, measure_layer, visible_box
from edgekit.explain.maps import last_maps
from edgekit.explain.rectified import RectifiedNetwork
from edgekit.quantize.execute import run_float
from graphs import GraphBuilder


def deep(num_layers: int) -> Graph:
    net = GraphBuilder((1, 1, 24, 24), seed=7)
    x = "input"
    for _ in range(num_layers):
        x = net.relu(net.conv(x, 5, 3, pads=1))
    net.gemm(net.flatten(net.global_pool(x)), 3)
    return net.build()


def test_layers_are_spread_from_the_first_to_the_last_with_maps() -> None:
    chosen = [node.name for node in choose_layers(deep(10))]
    convolutions = [node.name for node in deep(10).nodes if node.op == "Conv"]

    assert chosen == [convolutions[index] for index in (0, 3, 6, 9)]
    assert [node.name for node in choose_layers(deep(2))] == convolutions[:2]


def test_layers_without_maps_are_chosen_where_there_is_nothing_else() -> None:
    net = GraphBuilder((1, 1, 8, 8))
    first = net.gemm(net.flatten("input"), 6)
    second = net.gemm(net.relu(first), 5)
    net.gemm(net.relu(second), 3)

    assert [node.name for node in choose_layers(net.build())] == [first, second]  # not the logits


def test_named_layers_come_in_the_order_of_the_network() -> None:
    graph = deep(4)
    names = [node.name for node in graph.nodes if node.op == "Conv"]
    assert [node.name for node in choose_layers(graph, [names[2], names[0]])] == [names[0], names[2]]
    with pytest.raises(UnknownNameError) as caught:
        choose_layers(graph, [names[2] + "x"])
    assert caught.value.suggestion == names[2]


def test_strongest_channels_come_first_with_their_place() -> None:
    graph = deep(3)
    node = choose_layers(graph)[1]
    x = np.random.default_rng(2).normal(size=(1, 1, 24, 24)).astype(np.float32)
    values = run_float(graph, x)[node.output][0]
    strongest = values.max(axis=(1, 2))

    responses, images = measure_layer(RectifiedNetwork(graph), node, torch.from_numpy(x), 3)

    assert [one.channel for one in responses.channels] == np.argsort(-strongest)[:3].tolist()
    assert responses.num_responding == int((strongest > 0).sum())
    assert responses.shape == (5, 24, 24)
    assert len(images) == 3
    for one, image in zip(responses.channels, images, strict=True):
        assert one.response == pytest.approx(values[one.channel, one.row, one.column], rel=1e-4)
        assert one.response == pytest.approx(strongest[one.channel], rel=1e-4)
        top, left, bottom, right = one.box
        assert np.abs(image[top:bottom, left:right]).sum() > 0.9 * np.abs(image).sum()
        # Two layers of 3x3 windows see at most 5x5 pixels.
        assert set(np.flatnonzero(image.any(axis=(1, 2)))) <= set(range(one.row - 2, one.row + 3))


def test_channels_that_are_nowhere_above_zero_do_not_respond() -> None:
    net = GraphBuilder((1, 1, 4, 4))
    net.constant("weight", [[[[1.0]]], [[[-1.0]]], [[[0.0]]]])
    attrs = {"strides": (1, 1), "pads": (0, 0, 0, 0), "group": 1, "dilations": (1, 1)}
    (maps,) = net.node("Conv", ["input", "weight"], [(1, 3, 4, 4)], attrs)
    net.gemm(net.flatten(net.global_pool(net.relu(maps))), 2)
    graph = net.build()

    responses, images = measure_layer(RectifiedNetwork(graph), graph.nodes[0], torch.ones(1, 1, 4, 4), 6)

    assert [one.channel for one in responses.channels] == [0]
    assert (responses.num_responding, len(images)) == (1, 1)


def test_units_of_a_layer_without_maps_stand_at_the_origin() -> None:
    net = GraphBuilder((1, 1, 4, 4))
    hidden = net.gemm(net.flatten("input"), 6)
    net.gemm(net.relu(hidden), 2)
    graph = net.build()

    responses, images = measure_layer(RectifiedNetwork(graph), choose_layers(graph)[0], torch.ones(1, 1, 4, 4), 2)

    assert {(one.row, one.column) for one in responses.channels} == {(0, 0)}
    weight = np.asarray(graph.constants[graph.nodes[1].inputs[1]])
    np.testing.assert_allclose(images[0].ravel(), weight[responses.channels[0].channel], rtol=1e-6)


def test_box_stays_inside_the_picture_and_is_square() -> None:
    for rows, columns in ((slice(0, 1), slice(0, 1)), (slice(37, 40), slice(20, 25)), (slice(0, 40), slice(0, 30))):
        image = np.zeros((40, 30, 3), np.float32)
        image[rows, columns] = -1.0
        top, left, bottom, right = visible_box(image)
        assert 0 <= top <= rows.start
        assert rows.stop <= bottom <= 40
        assert 0 <= left <= columns.start
        assert columns.stop <= right <= 30
        assert bottom - top == right - left or right - left == 30
    assert visible_box(np.zeros((40, 30, 3), np.float32)) == (0, 0, 40, 30)


def test_tokens_are_positions_and_their_last_axis_the_channels() -> None:
    net = GraphBuilder((1, 1, 4, 4))
    patches = net.conv("input", 3, 2, stride=2)
    (rows,) = net.node("Reshape", [patches], [(1, 3, 4)], {"shape": (1, 3, 4)})
    (tokens,) = net.node("Transpose", [rows], [(1, 4, 3)], {"perm": (0, 2, 1)})
    weight = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    (mixed,) = net.node("Gemm", [tokens, net.constant("mix", weight)], [(1, 4, 2)])
    net.gemm(net.flatten(net.same("HardSwish", mixed)), 2)
    graph = net.build()
    network = RectifiedNetwork(graph)
    x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(4))

    assert last_maps(graph) is None
    assert [node.output for node in choose_layers(graph)] == [patches, mixed]
    responses, images = measure_layer(network, choose_layers(graph)[1], x, 2)

    values = network.activation(mixed, x)[0].numpy()
    assert responses.shape == (2, 4)
    assert responses.channels
    kernels = np.asarray(graph.constants[graph.nodes[0].inputs[1]])
    for one, image in zip(responses.channels, images, strict=True):
        assert one.response == values[one.row, one.channel] == values[:, one.channel].max()
        top, left = 2 * (one.row // 2), 2 * (one.row % 2)
        seen = weight[one.channel, one.channel] * kernels[one.channel, 0]
        np.testing.assert_allclose(image[top : top + 2, left : left + 2, 0], seen, rtol=1e-6)
