from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.core.graph import Graph
from edgekit.core.recipe import ModelSection
from edgekit.export.choices import hub_request
from edgekit.export.hub import load_hub
from edgekit.quantize.execute import run_float
from edgekit.quantize.network import FixedGrid, GraphNetwork, fake_quantize_activations
from edgekit.quantize.reference import quantize_input, run_integer
from graphs import GraphBuilder, quantize_for_test

FAMILIES = ["lenet5", "mobilenet_v1", "mobilenet_v2", "shufflenet_v1_x1_0_g3", "shufflenet_v2_x0_5", "squeezenet1_1"]


@pytest.mark.parametrize("name", FAMILIES)
def test_network_answers_as_the_numpy_executor(name: str) -> None:
    hub = load_hub(hub_request(ModelSection(name=name, untrained=True, input_size=28 if name == "lenet5" else 32)))
    shape = hub.graph.shapes[hub.graph.input][1:]
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    expected = run_float(hub.graph, x)[hub.graph.output]
    with torch.no_grad():
        found = GraphNetwork(hub.graph)(torch.from_numpy(x)).numpy()
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


def _every_operator() -> GraphBuilder:
    build = GraphBuilder((1, 3, 12, 12), seed=3)
    x = build.conv("input", 8, 3, stride=2, pads=(0, 0, 1, 1))
    x = build.same("Clip", x, min=0.0, max=6.0)
    y = build.same("HardSwish", build.conv(x, 8, 3, pads=1, group=8))
    x = build.node("Add", [x, y], [build.shapes[x]])[0]
    first, second = build.node("Split", [x], [(1, 4, 6, 6), (1, 4, 6, 6)], {"axis": 1, "split": (4, 4)})
    second = build.node("Mul", [second, build.same("Sigmoid", second)], [(1, 4, 6, 6)])[0]
    x = build.node("Concat", [first, second], [(1, 8, 6, 6)], {"axis": 1})[0]
    x = build.same("ChannelShuffle", x, groups=2)
    pool = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    a = build.node("MaxPool", [x], [(1, 8, 3, 3)], pool)[0]
    b = build.node("AveragePool", [x], [(1, 8, 3, 3)], {**pool, "count_include_pad": 0})[0]
    c = build.node("AveragePool", [x], [(1, 8, 3, 3)], {**pool, "count_include_pad": 1})[0]
    x = build.node("Add", [build.node("Add", [a, b], [(1, 8, 3, 3)])[0], c], [(1, 8, 3, 3)])[0]
    scale = build.constant("scale", np.linspace(0.5, 1.5, 8).reshape(1, 8, 1, 1))
    x = build.node("Mul", [x, scale], [(1, 8, 3, 3)])[0]
    x = build.node("GlobalAveragePool", [x], [(1, 8, 1, 1)])[0]
    x = build.node("Flatten", [x], [(1, 8)])[0]
    build.gemm(x, 5)
    return build


def test_every_operator_answers_as_the_numpy_executor() -> None:
    graph = _every_operator().build()
    x = np.random.default_rng(1).normal(size=(4, 3, 12, 12)).astype(np.float32)
    with torch.no_grad():
        found = GraphNetwork(graph)(torch.from_numpy(x)).numpy()
    assert np.allclose(found, run_float(graph, x)[graph.output], atol=1e-5)


def _steps_from_integers(graph: Graph, shape: tuple[int, ...]) -> np.ndarray:
    """How many steps of the output's grid lie between the fake-quantized network and the exact integers."""
    x = np.random.default_rng(2).normal(size=(32, *shape)).astype(np.float32)
    model = quantize_for_test(graph, x)
    network = GraphNetwork(model.graph)
    fake_quantize_activations(network, model.activations)
    network.double()
    for name, node in network.layers.items():
        network.weight(name).data.copy_(torch.from_numpy(model.constants[node.inputs[1]].dequantize()))
        network.bias(name).data.copy_(torch.from_numpy(model.constants[node.inputs[2]].dequantize()))
    for name in set(model.constants) & {"scale"}:
        network.set_operand(name, torch.from_numpy(model.constants[name].dequantize()))
    with torch.no_grad():
        found = network(torch.from_numpy(x).double()).numpy()
    grid = model.activations[graph.output]
    integers = run_integer(model, quantize_input(model, x))[graph.output]
    return np.abs(found / grid.scale[0] + grid.zero_point[0] - integers)


def test_fake_quantized_network_answers_as_the_integers() -> None:
    build = GraphBuilder((1, 3, 10, 10), seed=5)
    x = build.same("Relu", build.conv("input", 8, 3, stride=2, pads=(0, 0, 1, 1)))
    y = build.same("Clip", build.conv(x, 8, 3, pads=1, group=8), min=0.0, max=6.0)
    x = build.node("Concat", [x, y], [(1, 16, 5, 5)], {"axis": 1})[0]
    build.gemm(build.node("Flatten", [x], [(1, 400)])[0], 6)
    steps = _steps_from_integers(build.build(), (3, 10, 10))
    assert (steps < 1e-3).mean() > 0.98
    assert steps.max() < 1.5


def test_operators_that_round_their_own_way_stay_within_a_step_or_two_of_the_integers() -> None:
    steps = _steps_from_integers(_every_operator().build(), (3, 12, 12))
    assert (steps < 0.5).mean() > 0.75
    assert steps.max() < 2.5


def test_run_in_parts_gives_what_one_run_gives() -> None:
    network = GraphNetwork(_every_operator().build())
    x = torch.randn(2, 3, 12, 12)
    num_nodes = len(network.graph.nodes)
    whole = network(x)
    for border in range(num_nodes + 1):
        known = network.run(network.begin(x), 0, border)
        assert tuple(sorted(known)) == tuple(sorted(network.live_before(border)))
        assert torch.equal(network.run(known, border, num_nodes)[network.graph.output], whole)


def test_watcher_sees_the_input_of_every_layer() -> None:
    network = GraphNetwork(_every_operator().build())
    seen: list[str] = []
    network(torch.randn(2, 3, 12, 12), watch=lambda node, _: seen.append(node.name))
    assert seen == list(network.layers)


def test_fixed_grid_passes_gradients_where_nothing_saturates() -> None:
    from edgekit.quantize.ranges import grid_of_range

    x = torch.tensor([-1.0, 0.3, 9.0], requires_grad=True)
    FixedGrid(grid_of_range(0.0, 6.0))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
