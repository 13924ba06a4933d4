"""Rounding a whole network, each layer on the quantized inputs that it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgekit.core.errors import QuantizationError
from edgekit.core.graph import Graph
from edgekit.core.progress import Silent
from edgekit.core.quant import QuantizedGraph, QuantTensor
from edgekit.quantize import moments
from edgekit.quantize.layer_problem import RoundingMethod
from edgekit.quantize.layerwise import LayerwiseConfig, plan_waves, quantized_network, round_network
from edgekit.quantize.moments import FEWEST_POSITIONS
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.outcome import LayerOutcome
from edgekit.quantize.ptq import DecidedLayer, QuantizationStart, finish_quantization, guarded_grid, nearest
from edgekit.quantize.reference import quantize_input, run_integer
from graphs import GraphBuilder
from rounding_starts import Reals32, batches_of, mobile_graph, smooth_pictures, start_of

Change: TypeAlias = Callable[[npt.NDArray[np.float32]], None]
EXACT = LayerwiseConfig(rate_weight=0.0)
NAMES = ["conv_0", "conv_2", "conv_4", "conv_6", "gemm_10"]


class Counter(Silent):
    """Counts steps."""

    def __init__(self) -> None:
        self.total, self.done = 0, 0

    def begin(self, label: str, total: int) -> None:
        super().begin(label, total)
        self.total += total

    def advance(self, amount: int = 1, status: str = "") -> None:
        super().advance(amount, status)
        self.done += amount


def round_mobile(
    config: LayerwiseConfig = EXACT, num_bits: int = 4
) -> tuple[QuantizationStart, Reals32, QuantizedGraph, tuple[LayerOutcome, ...]]:
    x = smooth_pictures(64)
    start = start_of(mobile_graph(), x, num_bits)
    model, outcomes = round_network(start, batches_of(x), config, Silent())
    return start, x, model, outcomes


def as_network(start: QuantizationStart, model: QuantizedGraph) -> GraphNetwork:
    """The quantized network on real numbers."""
    layers = {
        node.name: DecidedLayer(
            weight=model.constants[node.inputs[1]],
            bias=model.constants[node.inputs[2]].dequantize().astype(np.float64),
        )
        for node in model.graph.nodes
        if node.op in ("Conv", "Gemm")
    }
    return quantized_network(start, layers)


def nearest_network(start: QuantizationStart) -> QuantizedGraph:
    decided: dict[str, DecidedLayer] = {}
    for layer in start.plan.layers:
        weight = start.graph.constants[layer.weight].astype(np.float32)
        grid = guarded_grid(start, layer, start.weight_grids[layer.node.name])
        bias = np.zeros(len(weight)) if layer.bias is None else start.graph.constants[layer.bias].astype(np.float64)
        values = nearest(layer, weight, grid)
        decided[layer.node.name] = DecidedLayer(weight=QuantTensor(values=values, params=grid), bias=bias)
    return finish_quantization(start, decided)


def test_layers_are_rounded_in_order_to_their_bits() -> None:
    x = smooth_pictures(64)
    bits = dict(zip(NAMES, (8, 7, 3, 4, 2), strict=True))
    counter = Counter()

    model, outcomes = round_network(start_of(mobile_graph(), x, 4, bits), batches_of(x), EXACT, counter)

    assert [outcome.name for outcome in outcomes] == NAMES
    assert {outcome.name: outcome.num_bits for outcome in outcomes} == bits
    assert (counter.total, counter.done) == (5, 5)
    for node in model.graph.nodes:
        if node.name in bits:
            tensor = model.constants[node.inputs[1]]
            assert tensor.params.num_bits == bits[node.name]
            assert 0 < np.abs(tensor.values).max() <= 2 ** (bits[node.name] - 1) - 1


@pytest.mark.parametrize("num_bits", [4, 6])
def test_no_layer_is_worse_than_rounded_to_nearest(num_bits: int) -> None:
    _, _, _, outcomes = round_mobile(num_bits=num_bits)

    for outcome in outcomes:
        assert outcome.sqnr_db >= outcome.nearest_sqnr_db - 1e-9, outcome
    assert np.mean([outcome.sqnr_db - outcome.nearest_sqnr_db for outcome in outcomes]) > 1.0


def test_network_answers_better_than_one_rounded_to_nearest() -> None:
    start, _, model, _ = round_mobile()
    x = smooth_pictures(200, seed=9)
    with torch.no_grad():
        reference = GraphNetwork(start.graph)(torch.from_numpy(x)).numpy()

    def error(quantized: QuantizedGraph) -> float:
        integers = run_integer(quantized, quantize_input(quantized, x))[quantized.graph.output]
        answers = quantized.activations[quantized.graph.output].dequantize(integers)
        return float(((answers - reference) ** 2).mean())

    assert error(model) < 0.5 * error(nearest_network(start))


def test_biases_make_every_mean_output_exact() -> None:
    start, x, model, _ = round_mobile()
    plain, quantized = GraphNetwork(start.graph), as_network(start, model)
    batch = torch.from_numpy(x)
    for index, node in enumerate(start.graph.nodes):
        if node.op not in ("Conv", "Gemm"):
            continue
        shape = start.graph.shapes[node.output]
        assert np.prod(shape[2:]) <= FEWEST_POSITIONS, "positions are not drawn, so the mean is over all of them"
        # What the layer itself computes, before its own activation is put on a grid.
        quantized.quantize_activation(node.output, None)
        with torch.no_grad():
            wanted = plain.run(plain.begin(batch), 0, index + 1)[node.output]
            found = quantized.run(quantized.begin(batch), 0, index + 1)[node.output]
        axes = (0, 2, 3) if wanted.ndim == 4 else (0,)
        step = model.constants[model.graph.nodes[index].inputs[2]].params.scale.max()
        assert np.abs((found - wanted).mean(axes).numpy()).max() <= step + 5e-4, node.name
        quantized = as_network(start, model)


def test_same_pictures_give_the_same_integers() -> None:
    first, again = round_mobile(LayerwiseConfig(rate_weight=0.7))[2], round_mobile(LayerwiseConfig(rate_weight=0.7))[2]

    assert first.constants.keys() == again.constants.keys()
    for name, tensor in first.constants.items():
        assert np.array_equal(tensor.values, again.constants[name].values), name
        assert np.array_equal(tensor.params.scale, again.constants[name].params.scale), name


def test_price_of_bits_makes_it_smaller() -> None:
    dear, free = (round_mobile(LayerwiseConfig(rate_weight=rate), 6)[3] for rate in (2.0, 0.0))

    assert sum(each.entropy_bytes for each in dear) < 0.95 * sum(each.entropy_bytes for each in free)


def test_scales_have_the_significant_bits_asked_for() -> None:
    _, _, model, _ = round_mobile(LayerwiseConfig(mantissa_bits=3))

    for node in model.graph.nodes:
        if node.name in NAMES:
            mantissas, _ = np.frexp(model.constants[node.inputs[1]].params.scale)
            assert np.array_equal(mantissas * 8, np.rint(mantissas * 8)), node.name


@pytest.mark.parametrize("max_waves", [1, 2, 100])
def test_waves_round_every_layer_once(max_waves: int) -> None:
    _, _, _, outcomes = round_mobile(LayerwiseConfig(methods=("gptq",), max_waves=max_waves))

    assert [outcome.name for outcome in outcomes] == NAMES


def test_waves_are_consecutive_and_even() -> None:
    for num_layers in range(1, 12):
        layers = [f"layer{index}" for index in range(num_layers)]
        for max_waves in range(1, 14):
            waves = list(plan_waves(layers, max_waves))
            assert [name for wave in waves for name in wave] == layers
            assert len(waves) == min(max_waves, num_layers)
            assert max(map(len, waves)) - min(map(len, waves)) <= 1


def with_constant(graph: Graph, name: str, change: Change) -> Graph:
    values = graph.constants[name].astype(np.float32)
    change(values)
    return graph.replace(constants={**graph.constants, name: values})


def zero_output(values: npt.NDArray[np.float32]) -> None:
    values[2] = 0


def zero_everything(values: npt.NDArray[np.float32]) -> None:
    values[:] = 0


@pytest.mark.parametrize("layer", [0, 2, 4, 6])
@pytest.mark.parametrize("change", [zero_output, zero_everything])
def test_dead_channels_stay_dead_and_nothing_else_suffers(layer: int, change: Change) -> None:
    graph = with_constant(mobile_graph(), f"layer{layer}.weight", change)
    x = smooth_pictures(32)

    model, outcomes = round_network(start_of(graph, x), batches_of(x), EXACT, Silent())

    node = next(node for node in model.graph.nodes if node.name == f"conv_{layer}")
    tensor = model.constants[node.inputs[1]]
    assert not tensor.values[2].any()
    assert (tensor.params.scale > 0).all()
    assert np.isfinite(tensor.params.scale).all()
    assert all(np.isfinite((outcome.sqnr_db, outcome.nearest_sqnr_db, outcome.error)).all() for outcome in outcomes)


def test_input_channel_that_never_moves_keeps_the_layer_right() -> None:
    x = smooth_pictures(32)
    x[:, 1] = 0.25
    start = start_of(mobile_graph(), x, 8)

    model, _ = round_network(start, batches_of(x), EXACT, Silent())

    weight = model.constants[model.graph.nodes[0].inputs[1]]
    step = weight.params.scale.reshape(-1, 1, 1, 1)
    wanted = start.graph.constants["layer0.weight"].astype(np.float32)
    assert np.abs(weight.dequantize() - wanted)[:, [0, 2]].max() < 20 * step.max()
    integers = run_integer(model, quantize_input(model, x))[model.graph.output]
    grid = model.activations[model.graph.output]
    with torch.no_grad():
        answers = GraphNetwork(start.graph)(torch.from_numpy(x)).numpy()
    assert np.abs(grid.dequantize(integers) - answers).max() < 0.1 * np.ptp(answers)


@pytest.mark.parametrize("num_pictures", [1, 2])
def test_a_picture_or_two_are_enough_to_go_on(num_pictures: int) -> None:
    x = smooth_pictures(num_pictures)
    start = start_of(mobile_graph(), x, 6)

    model, outcomes = round_network(start, batches_of(x), EXACT, Silent())

    assert len(outcomes) == 5
    for name, tensor in model.constants.items():
        assert np.isfinite(tensor.dequantize()).all(), name


def test_black_pictures_leave_the_weights_near_the_float_ones() -> None:
    x = np.zeros((16, 3, 10, 10), np.float32)
    start = start_of(mobile_graph(), x, 6)

    model, _ = round_network(start, batches_of(x), EXACT, Silent())

    for node in model.graph.nodes:
        if node.name in NAMES:
            tensor = model.constants[node.inputs[1]]
            weight = start.graph.constants[node.inputs[1]].astype(np.float32)
            rounding = np.abs(tensor.dequantize() - weight).max()
            assert rounding <= 0.5 * np.abs(weight).max(), node.name


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weight_that_is_not_finite_is_named(value: float) -> None:
    def spoil(values: npt.NDArray[np.float32]) -> None:
        values.flat[3] = value

    x = smooth_pictures(8)
    start = start_of(mobile_graph(), x)
    graph = with_constant(start.graph, "layer4.weight", spoil)

    with pytest.raises(QuantizationError, match=r"conv_4|layer4|conv_6"):
        round_network(msgspec.structs.replace(start, graph=graph), batches_of(x), EXACT, Silent())


def test_network_without_layers_is_left_as_it_is() -> None:
    build = GraphBuilder((1, 3, 10, 10))
    build.flatten(build.global_pool(build.relu("input")))
    x = smooth_pictures(8)

    model, outcomes = round_network(start_of(build.build(), x), batches_of(x), EXACT, Silent())

    assert outcomes == ()
    assert len(model.graph.nodes) == 3


@pytest.mark.parametrize("rate_weight", [0.0, 0.7])
@pytest.mark.parametrize("methods", [(), ("gptq",), ("gptq", "adaround")])
def test_zeros_of_a_pruned_network_stay_zeros(methods: tuple[RoundingMethod, ...], rate_weight: float) -> None:
    def prune(values: npt.NDArray[np.float32]) -> None:
        values[np.abs(values) < np.quantile(np.abs(values), 0.6)] = 0

    graph = mobile_graph()
    for layer in (2, 4, 6):
        graph = with_constant(graph, f"layer{layer}.weight", prune)
    x = smooth_pictures(48)
    config = LayerwiseConfig(methods=methods, rate_weight=rate_weight, keeps_zeros=True)

    model, outcomes = round_network(start_of(graph, x), batches_of(x), config, Silent())

    for node in model.graph.nodes:
        if node.name in NAMES:
            levels = model.constants[node.inputs[1]].values
            assert not levels[graph.constants[node.inputs[1]] == 0].any(), node.name
            assert levels.any()
    if rate_weight == 0.0:
        assert all(outcome.sqnr_db >= outcome.nearest_sqnr_db - 1e-9 for outcome in outcomes)


def test_layer_of_too_many_inputs_is_rounded_by_its_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "MAX_INPUTS", 20)
    x = smooth_pictures(16)
    start = start_of(mobile_graph(), x, 4)
    model, outcomes = round_network(start, batches_of(x), EXACT, Silent())
    large = [layer for layer in start.plan.layers if start.graph.constants[layer.weight][0].size > 20]
    assert 0 < len(large) < len(outcomes)
    for layer in large:
        weight = np.asarray(start.graph.constants[layer.weight], np.float32)
        grid = model.constants[layer.weight].params
        assert np.array_equal(model.constants[layer.weight].values, grid.quantize(weight, narrow=True))
    methods = {outcome.name: outcome.method for outcome in outcomes}
    assert {methods[layer.node.name] for layer in large} == {"nearest"}
