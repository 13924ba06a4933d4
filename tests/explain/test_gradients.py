"""Guided backpropagation, deconvolution and Grad-CAM against networks small enough to do by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.core.graph import Graph
from edgekit.explain.gradients import (
    deconvolution,
    deconvolve_channel,
    grad_cam,
    guided_backpropagation,
)
from edgekit.explain.maps import Maps, last_maps
from edgekit.explain.rectified import RectifiedNetwork
from edgekit.export.hub import HubRequest, load_hub
from edgekit.quantize.execute import run_float
from graphs import GraphBuilder

SIZE = 8


def gemm(net: GraphBuilder, x: str, weight: list[list[float]] | np.ndarray) -> str:
    """A linear layer with given weights [out, in]."""
    name = net.constant(f"weight{len(net.nodes)}", weight)
    return net.node("Gemm", [x, name], [(1, len(weight))])[0]


def rectified(op: str, head: list[float]) -> Graph:
    """Four pixels, each through the same activation, weighed by `head` for class 0."""
    net = GraphBuilder((1, 1, 1, 4))
    units = gemm(net, net.flatten("input"), np.eye(4))
    active = net.relu(units) if op == "Relu" else net.relu6(units)
    gemm(net, active, [head, [0.0] * 4])
    return net.build()


def row(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def test_gradients_of_a_linear_model_are_its_weights() -> None:
    net = GraphBuilder((1, 2, 3, 3))
    weight = np.random.default_rng(0).normal(size=(4, 18))
    gemm(net, net.flatten("input"), weight)
    network = RectifiedNetwork(net.build())
    x = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = weight[2].reshape(2, 3, 3).transpose(1, 2, 0)

    np.testing.assert_allclose(guided_backpropagation(network, x, 2), expected, rtol=1e-6)
    np.testing.assert_allclose(deconvolution(network, x, 2), expected, rtol=1e-6)


def test_rectifiers_pass_what_each_method_says() -> None:
    network = RectifiedNetwork(rectified("Relu", [2.0, 3.0, -4.0, -5.0]))
    x = row([1.0, -1.0, 1.0, -1.0])

    assert guided_backpropagation(network, x, 0).ravel().tolist() == [2.0, 0.0, 0.0, 0.0]
    assert deconvolution(network, x, 0).ravel().tolist() == [2.0, 3.0, 0.0, 0.0]


def test_capped_rectifier_passes_nothing_where_it_is_full() -> None:
    network = RectifiedNetwork(rectified("Clip", [2.0, 3.0, 4.0, -5.0]))
    x = row([1.0, -1.0, 7.0, 3.0])

    assert guided_backpropagation(network, x, 0).ravel().tolist() == [2.0, 0.0, 0.0, 0.0]
    assert deconvolution(network, x, 0).ravel().tolist() == [2.0, 3.0, 0.0, 0.0]


@pytest.mark.parametrize(("weight", "guided", "deconvolved"), [(2.0, 2.0, 4.0), (-2.0, -2.0, -2.0)])
def test_shortcut_around_a_rectifier_keeps_its_gradient(weight: float, guided: float, deconvolved: float) -> None:
    net = GraphBuilder((1, 1, 1, 1))
    unit = gemm(net, net.flatten("input"), [[1.0]])
    gemm(net, net.binary("Add", net.relu(unit), unit), [[weight], [0.0]])
    network = RectifiedNetwork(net.build())

    assert guided_backpropagation(network, row([-1.0]), 0).item() == guided
    assert deconvolution(network, row([-1.0]), 0).item() == deconvolved


def test_softmax_at_the_end_is_left_out() -> None:
    net = GraphBuilder((1, 1, 1, 2))
    logits = gemm(net, net.flatten("input"), [[1.0, 2.0], [3.0, 4.0]])
    net.same("Softmax", logits, axis=1)

    assert guided_backpropagation(RectifiedNetwork(net.build()), row([5.0, 6.0]), 1).ravel().tolist() == [3.0, 4.0]


def test_hooks_are_gone_afterwards() -> None:
    network = RectifiedNetwork(rectified("Relu", [2.0, 3.0, -4.0, -5.0]))
    deconvolution(network, row([1.0, -1.0, 1.0, -1.0]), 0)
    x = row([1.0, -1.0, 1.0, -1.0]).requires_grad_()
    network(x)[0, 0].backward()

    assert x.grad is not None
    assert x.grad.ravel().tolist() == [2.0, 0.0, -4.0, 0.0]


def quadrant_network(rows: slice, columns: slice) -> Graph:
    """A class whose logit is the mean of the maps within a part of them; another that is always 0."""
    net = GraphBuilder((1, 1, SIZE, SIZE))
    maps = net.relu(net.conv("input", 3, 3, pads=1))
    mask = np.zeros((1, 1, SIZE, SIZE), np.float32)
    mask[:, :, rows, columns] = 1.0
    seen = net.binary("Mul", maps, net.constant("mask", mask))
    pooled = net.flatten(net.global_pool(seen))
    gemm(net, pooled, [[1.0] * 3, [0.0] * 3])
    return net.build()


@pytest.mark.parametrize(("rows", "columns"), [(slice(0, 4), slice(4, 8)), (slice(4, 8), slice(0, 4))])
def test_grad_cam_lights_the_quadrant_that_the_class_depends_on(rows: slice, columns: slice) -> None:
    network = RectifiedNetwork(quadrant_network(rows, columns))
    x = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    maps = last_maps(network.graph)
    assert maps is not None

    values = grad_cam(network, x, 0, maps)

    assert values.shape == (SIZE, SIZE)
    assert values[rows, columns].sum() > 0
    outside = values.copy()
    outside[rows, columns] = 0
    assert outside.max() == 0
    assert grad_cam(network, x, 1, maps).max() == 0


def test_grad_cam_is_the_weighted_sum_of_the_maps() -> None:
    """By hand: the head's weights by the number of positions are the mean gradients (eq. 1)."""
    net = GraphBuilder((1, 1, 4, 4), seed=5)
    maps = net.relu(net.conv("input", 2, 1))
    gemm(net, net.flatten(net.global_pool(maps)), [[-3.0, 2.0], [0.0, 1.0]])
    graph = net.build()
    x = np.random.default_rng(1).normal(size=(1, 1, 4, 4)).astype(np.float32)
    known = run_float(graph, x)[maps][0]
    expected = np.maximum((2.0 * known[1] - 3.0 * known[0]) / 16, 0)

    values = grad_cam(RectifiedNetwork(graph), torch.from_numpy(x), 0, Maps(activation=maps))

    assert expected.max() > 0
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-7)


def test_deconvolution_of_a_channel_is_its_filter_where_it_looked() -> None:
    net = GraphBuilder((1, 1, SIZE, SIZE))
    maps = net.conv("input", 2, 3, pads=1)
    gemm(net, net.flatten(net.global_pool(net.relu(maps))), [[1.0, 1.0], [0.0, 0.0]])
    graph = net.build()
    kernel = np.asarray(graph.constants[graph.nodes[0].inputs[1]])[1, 0]

    image = deconvolve_channel(RectifiedNetwork(graph), torch.randn(1, 1, SIZE, SIZE), maps, (1, 4, 2))

    np.testing.assert_allclose(image[3:6, 1:4, 0], kernel, rtol=1e-6)
    image[3:6, 1:4] = 0
    assert not image.any()


def test_last_maps_are_those_before_the_pooling() -> None:
    net = GraphBuilder((1, 1, SIZE, SIZE))
    maps = net.relu(net.conv("input", 2, 3))
    gemm(net, net.flatten(net.conv(net.global_pool(maps), 4, 1)), np.ones((2, 4)))
    assert last_maps(net.build()) == Maps(activation=maps)

    flat = GraphBuilder((1, 1, SIZE, SIZE))
    gemm(flat, flat.flatten("input"), np.ones((2, SIZE * SIZE)))
    assert last_maps(flat.build()) is None


@pytest.mark.parametrize("name", ["mobilenet", "shufflenet", "squeezenet"])
def test_network_with_rectifiers_as_modules_answers_as_the_torch_model(name: str) -> None:
    hub = load_hub(HubRequest(model=name))
    assert hub.torch_logits is not None
    pictures = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    mean, std = hub.card.preprocess.mean[0], hub.card.preprocess.std[0]
    x = torch.from_numpy(((pictures / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2))
    network = RectifiedNetwork(hub.graph)

    np.testing.assert_allclose(network(x).numpy(), hub.torch_logits(pictures), atol=2e-4)
    assert network.num_rectifiers > 8
    assert network.smooth_ops == ()


def test_other_activations_are_named() -> None:
    net = GraphBuilder((1, 1, SIZE, SIZE))
    x = net.same("HardSwish", net.conv("input", 2, 3))
    x = net.same("Clip", net.conv(x, 2, 3), min=-1.0, max=1.0)
    gemm(net, net.flatten(net.global_pool(net.relu(x))), np.ones((2, 2)))
    network = RectifiedNetwork(net.build())

    assert network.smooth_ops == ("Clip", "HardSwish")
    assert network.num_rectifiers == 1
