"""What is trained is what is exported."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import QuantizationError
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QuantizeSection
from edgekit.export.tflite import write_tflite
from edgekit.quantize.lsq import LearnedGrid, LearnedWeightGrid
from edgekit.quantize.network import FixedGrid, GraphNetwork
from edgekit.quantize.qat import make_trainable, read_out
from edgekit.quantize.reference import quantize_input, run_integer
from edgekit.runtime.interpreter import load_interpreter
from graphs import GraphBuilder, quantize_for_test

FOUR_BITS = QuantizeSection(scheme="static_wi4_ai8", ranges="minmax", bias_correction=False)


def _net() -> Graph:
    build = GraphBuilder((1, 3, 12, 12), seed=7)
    x = build.relu6(build.conv("input", 8, 3, stride=2, pads=(0, 0, 1, 1)))
    y = build.relu(build.conv(x, 8, 3, pads=1, group=8))
    y = build.conv(y, 8, 1)
    x = build.concat([build.binary("Add", x, y), y])
    x = build.shuffle(x, 2)
    x = build.pool("MaxPool", build.relu(build.conv(x, 12, 1, bias=False)), 2, stride=2)
    return_to = build.flatten(build.global_pool(x))
    build.gemm(return_to, 5)
    return build.build()


def _pictures(num: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(num, 3, 12, 12)).astype(np.float32)


def _trained(start: QuantizedGraph, *, num_steps: int = 30) -> GraphNetwork:
    """A few honest steps towards other answers than the start's, so that everything that learns has moved."""
    torch.manual_seed(0)
    network = make_trainable(start)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.0)
    x = torch.from_numpy(_pictures(32))
    for _ in range(num_steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), torch.arange(32) % 5).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def start() -> QuantizedGraph:
    return quantize_for_test(_net(), _pictures(64), FOUR_BITS)


@pytest.fixture(scope="module")
def network(start: QuantizedGraph) -> GraphNetwork:
    return _trained(start)


def test_training_moves_weights_steps_and_offsets(start: QuantizedGraph, network: GraphNetwork) -> None:
    learned = [module for module in network.modules() if isinstance(module, LearnedGrid)]
    assert all(float((module.ratio.detach() - 1).abs().max()) > 0 for module in learned)
    assert any(module.offset is not None and float(module.offset.detach().abs()) > 0 for module in learned)
    after = read_out(network, start)
    for name, node in network.layers.items():
        assert not np.array_equal(after.constants[node.inputs[1]].values, start.constants[node.inputs[1]].values), name


def test_trained_network_answers_as_its_integers(start: QuantizedGraph, network: GraphNetwork) -> None:
    model = read_out(network, start)
    x = _pictures(128, seed=9)
    double = make_trainable(start).eval()
    double.load_state_dict(network.state_dict())
    with torch.no_grad():
        found = double.double()(torch.from_numpy(x).double()).numpy()
    _assert_almost_equal(model, found, run_integer(model, quantize_input(model, x))[model.graph.output])


def _assert_almost_equal(
    model: QuantizedGraph, found: npt.NDArray[np.floating], integers: npt.NDArray[np.integer]
) -> None:
    grid = model.activations[model.graph.output]
    steps = np.abs(found / grid.scale[0] + grid.zero_point[0] - integers)
    assert (steps < 1e-2).mean() > 0.97
    assert steps.max() < 1.5


def test_trained_network_answers_as_the_exported_file(
    start: QuantizedGraph, network: GraphNetwork, tmp_path: Path
) -> None:
    model = read_out(network, start)
    spec = PreprocessSpec(input_size=(12, 12), num_channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    card = ModelCard(model="net", scheme=model.scheme, labels=(), preprocess=spec)
    artifact = write_tflite(model, tmp_path / "net.tflite", card, float_io=True)
    interpreter = load_interpreter(artifact.path)
    x = _pictures(64, seed=11)
    with torch.no_grad():
        found = network(torch.from_numpy(x)).numpy()
    answers = np.concatenate(
        [np.asarray(interpreter.run(each[None].transpose(0, 2, 3, 1).copy())).reshape(1, -1) for each in x]
    )
    scale = float(model.activations[model.graph.output].scale[0])
    steps = np.abs(found - answers) / scale
    assert (steps < 1e-2).mean() > 0.95
    assert steps.max() < 2.5


def test_weights_stay_within_their_levels(start: QuantizedGraph, network: GraphNetwork) -> None:
    model = read_out(network, start)
    for node in network.layers.values():
        tensor = model.constants[node.inputs[1]]
        assert tensor.params.num_bits == 4
        assert tensor.values.dtype == np.int8
        assert np.abs(tensor.values).max() <= 7


def test_untrained_network_reads_out_as_it_was_put_in(start: QuantizedGraph) -> None:
    for latents in ("float", "grid"):
        model = read_out(make_trainable(start, latents), start)
        for name, tensor in start.constants.items():
            assert np.array_equal(model.constants[name].values, tensor.values), name
            assert np.array_equal(model.constants[name].params.scale, tensor.params.scale), name
        for name, grid in start.activations.items():
            assert model.activations[name].scale[0] == grid.scale[0]
            assert model.activations[name].zero_point[0] == grid.zero_point[0]


def test_float_weights_start_within_the_cell_of_integers_that_another_rounding_chose(start: QuantizedGraph) -> None:
    name, node = next(iter(make_trainable(start).layers.items()))
    tensor = start.constants[node.inputs[1]]
    values = np.clip(
        tensor.values + np.where(np.arange(tensor.values.size) % 3, 0, 1).reshape(tensor.values.shape), -7, 7
    )
    other = msgspec.structs.replace(tensor, values=values.astype(np.int8))
    moved = msgspec.structs.replace(start, constants={**start.constants, node.inputs[1]: other})
    assert np.array_equal(read_out(make_trainable(moved), moved).constants[node.inputs[1]].values, other.values)
    near = make_trainable(moved).weight(name).detach().numpy()
    wanted = np.asarray(start.graph.constants[node.inputs[1]], np.float32)
    assert np.abs(near - wanted).mean() < np.abs(other.dequantize() - wanted).mean()


def test_activations_that_share_a_grid_share_a_module(start: QuantizedGraph) -> None:
    network = make_trainable(start)
    concat = next(node for node in start.graph.nodes if node.op == "Concat")
    first, second = (network.activation_quantizer(name) for name in concat.inputs)
    assert isinstance(first, LearnedGrid)
    assert first is second
    assert network.activation_quantizer(concat.output) is None


def test_input_keeps_its_grid(start: QuantizedGraph) -> None:
    assert isinstance(make_trainable(start).activation_quantizer(start.graph.input), FixedGrid)


def test_sigmoid_keeps_the_grid_that_files_demand() -> None:
    build = GraphBuilder((1, 3, 8, 8), seed=1)
    x = build.conv("input", 4, 3)
    x = build.binary("Mul", x, build.same("Sigmoid", x))
    build.gemm(build.flatten(x), 3)
    start = quantize_for_test(build.build(), _pictures(8)[:, :, :8, :8], FOUR_BITS)
    sigmoid = next(node.output for node in start.graph.nodes if node.op == "Sigmoid")
    network = make_trainable(start)
    assert isinstance(network.activation_quantizer(sigmoid), FixedGrid)
    assert float(read_out(network, start).activations[sigmoid].scale[0]) == 1 / 256


def test_layers_without_bias_get_the_trained_one(start: QuantizedGraph, network: GraphNetwork) -> None:
    bare = next(node.name for node in start.graph.nodes if node.op == "Conv" and len(node.inputs) == 2)
    model = read_out(network, start)
    node = next(node for node in model.graph.nodes if node.name == bare)
    assert len(node.inputs) == 3
    assert model.constants[node.inputs[2]].values.dtype == np.int32


def test_tiny_steps_are_raised_to_what_kernels_take(start: QuantizedGraph) -> None:
    network = make_trainable(start)
    name, node = next(iter(network.layers.items()))
    grid = network.weight_quantizer(name)
    assert isinstance(grid, LearnedWeightGrid)
    grid.start[0] = 1e-12
    model = read_out(network, start)
    assert float(model.constants[node.inputs[1]].params.scale[0]) > 1e-12
    assert abs(int(model.constants[node.inputs[2]].values[0])) <= 1 << 30


def test_diverged_weights_are_refused_by_name(start: QuantizedGraph) -> None:
    network = make_trainable(start)
    name = next(iter(network.layers))
    network.weight(name).data[0] = float("nan")
    with pytest.raises(QuantizationError, match=name):
        read_out(network, start)
