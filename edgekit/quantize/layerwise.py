"""Round a whole network layer by layer, each on the inputs that the layers before it leave when they are quantized.

Layers are taken in waves. A wave runs the float and the quantized network over the calibration pictures once, gathers
the moments of its layers' inputs (`moments`), and rounds them (`rounding`); then the quantized network has their
integers. Small networks have one layer per wave; in deeper ones neighbours share a wave, so that the number of passes
stays bounded, and see their wave's earlier layers unrounded. Nothing grows with the number of pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from edgekit.core.entropy import order0_bits
from edgekit.core.progress import Progress
from edgekit.core.quant import QuantizedGraph, QuantParams, QuantTensor
from edgekit.quantize.decisions import DecisionStore
from edgekit.quantize.layer_problem import LayerProblem, RoundedWeights, shrunk_hessian
from edgekit.quantize.moments import LayerMoments, measure_moments
from edgekit.quantize.network import GraphNetwork, fake_quantize_activations
from edgekit.quantize.outcome import LayerOutcome
from edgekit.quantize.plan import Layer
from edgekit.quantize.ptq import DecidedLayer, QuantizationStart, finish_quantization, guarded_grid
from edgekit.quantize.rounding import round_best
from edgekit.quantize.rounding_config import RoundingConfig, RoundingMethod
from edgekit.quantize.walk import Pictures, Walk
from edgekit.quantize.weights import choose_weight_grid, round_to_nearest


class LayerwiseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a network is rounded.

    Args:
        methods: What is tried for each layer besides the nearest levels.
        rate_weight: Price of a bit, as a share of the mean error that rounding a weight to the nearest level costs in
            its layer; 0 asks for the least error. At high rates a bit halves the step and saves 1.4 of it.
        max_waves: Passes over the pictures.
        damping: Of a Hessian, as a share of its mean diagonal.
        mantissa_bits: Significant bits of a weight scale; None for all.
        keeps_zeros: Whether weights of exactly zero stay zero, as those of a pruned network must.
    """

    methods: tuple[RoundingMethod, ...] = ("gptq", "adaround")
    rate_weight: float = 0.0
    max_waves: int = 60
    damping: float = 0.01
    mantissa_bits: int | None = None
    keeps_zeros: bool = False


def round_network(
    start: QuantizationStart,
    pictures: Pictures,
    config: LayerwiseConfig,
    progress: Progress,
    store: DecisionStore | None = None,
) -> tuple[QuantizedGraph, tuple[LayerOutcome, ...]]:
    """Decide all weights and biases.

    Args:
        start: Grids; those of the weights say how many bits each layer has.
        pictures: Calibration pictures.
        config: How.
        progress: Advanced once per layer.
        store: Keeps decided layers, and may hold some from a run before; None for neither.

    Raises:
        QuantizationError: No pictures, or a weight or activation that is not finite; names the layer.
    """
    layers = {layer.node.name: layer for layer in start.plan.layers}
    kept = {} if store is None else {name: found for name in layers if (found := store.load(name)) is not None}
    decided = {name: decision for name, (decision, _) in kept.items()}
    outcomes = {name: outcome for name, (_, outcome) in kept.items()}
    progress.begin("round layers", len(layers))
    progress.advance(len(kept))
    network, quantized = GraphNetwork(start.graph), quantized_network(start, decided)
    with closing(Walk(network, pictures)) as plain_walk, closing(Walk(quantized, pictures)) as quantized_walk:
        for wave in plan_waves([name for name in layers if name not in decided], config.max_waves):
            moments = measure_moments(plain_walk, quantized_walk, wave)
            for name in wave:
                decided[name], outcomes[name] = round_layer(start, layers[name], moments.pop(name, None), config)
                put_layer(quantized, name, decided[name])
                if store is not None:
                    store.save(name, decided[name], outcomes[name])
                progress.advance()
    progress.end()
    return finish_quantization(start, decided), tuple(outcomes[name] for name in layers)


def quantized_network(start: QuantizationStart, decided: Mapping[str, DecidedLayer] | None = None) -> GraphNetwork:
    """The network with activations and operands on their grids, and the weights of layers that are decided."""
    network = GraphNetwork(start.graph)
    fake_quantize_activations(network, start.activations)
    for name, operand in start.operands.items():
        network.set_operand(name, torch.from_numpy(operand.dequantize()))
    for name, decision in (decided or {}).items():
        put_layer(network, name, decision)
    return network


def plan_waves(layers: Sequence[str], max_waves: int) -> Iterator[tuple[str, ...]]:
    """Consecutive layers in at most so many groups of about equal size.

    >>> list(plan_waves(list("abcde"), 3))
    [('a', 'b'), ('c', 'd'), ('e',)]
    """
    num_waves = max(1, min(max_waves, len(layers)))
    for part in np.array_split(np.arange(len(layers)), num_waves):
        if len(part):
            yield tuple(layers[int(index)] for index in part)


def layer_problem(name: str, weight: npt.NDArray[np.floating], moments: LayerMoments, damping: float) -> LayerProblem:
    """The rounding problem of a layer: weights that answer best on the quantized inputs, and what errors cost.

    Args:
        name: Layer name.
        weight: Float weights, OIHW or [out, in].
        moments: Of its inputs.
        damping: Share of the mean diagonal that holds the wanted weights near the float ones.
    """
    groups, size, _ = moments.covariance.shape
    own = np.asarray(weight, np.float64).reshape(groups, -1, size)
    covariance = shrunk_hessian(moments.covariance, moments.num_samples)
    cross = shrunk_hessian(moments.cross, moments.num_samples)
    energy = np.trace(covariance, axis1=1, axis2=2) / size
    # A group that never moves (a dead channel) has nothing to fit: any ridge leaves its weights as they are.
    ridge = np.where(energy > 0, damping * np.maximum(energy, 1e-9 * energy.max()), 1.0)
    lifted = ridge[:, None, None] * np.eye(size)
    # Ridge regression about the float weights: V = W (C + r) (H + r)^-1.
    right = (cross + lifted).transpose(0, 2, 1) @ own.transpose(0, 2, 1)
    wanted = np.linalg.solve(covariance + lifted, right).transpose(0, 2, 1)
    return LayerProblem(name=name, weights=wanted, hessian=covariance, importance=np.ones(wanted.shape[:2]))


def round_layer(
    start: QuantizationStart, layer: Layer, moments: LayerMoments | None, config: LayerwiseConfig
) -> tuple[DecidedLayer, LayerOutcome]:
    """Decide one layer.

    Args:
        start: Grids; that of the layer says how many bits it has.
        layer: Which.
        moments: Of its inputs; None rounds to the nearest levels of the grid of least squared error.
        config: How.

    Raises:
        QuantizationError: A weight is not finite; names the layer.
    """
    if moments is None:
        return _round_alone(start, layer)
    name = layer.node.name
    weight = np.asarray(start.graph.constants[layer.weight], np.float64)
    own_grid = start.weight_grids[name]
    problem = layer_problem(name, weight, moments, config.damping)
    shape = problem.weights.shape
    if config.keeps_zeros:
        problem = msgspec.structs.replace(problem, keep=weight.reshape(shape) != 0)
    plain = _plain(start, layer, problem)
    rounding = RoundingConfig(
        methods=config.methods,
        damping=config.damping,
        mantissa_bits=config.mantissa_bits,
        rate_weight=config.rate_weight * plain.error / weight.size,
    )
    rounded = _rounded(start, layer, problem, rounding)
    grid = _grid(own_grid, rounded.scales)
    values = rounded.levels.reshape(weight.shape).astype(np.int8)
    real = grid.dequantize(values).astype(np.float64).reshape(shape)
    bias = _bias_of(start, layer) + _mean_output(weight.reshape(shape), moments.float_mean)
    decision = DecidedLayer(
        weight=QuantTensor(values=values, params=grid), bias=bias - _mean_output(real, moments.mean)
    )
    power = float(((problem.weights @ problem.hessian) * problem.weights).sum())
    outcome = LayerOutcome(
        name=name,
        num_bits=own_grid.num_bits,
        method=rounded.method,
        sqnr_db=_decibels(power, rounded.error),
        nearest_sqnr_db=_decibels(power, plain.error),
        entropy_bytes=rounded.num_bits / 8,
        error=rounded.error,
    )
    return decision, outcome


def _round_alone(start: QuantizationStart, layer: Layer) -> tuple[DecidedLayer, LayerOutcome]:
    """Decide a layer by its weights alone: every input counts the same, and the bias stays as it is."""
    name = layer.node.name
    weight = np.asarray(start.graph.constants[layer.weight], np.float64)
    num_bits = start.weight_grids[name].num_bits
    grid = guarded_grid(start, layer, choose_weight_grid(weight, num_bits, "mse", name=layer.weight))
    values = round_to_nearest(weight, grid)
    error = float(((grid.dequantize(values) - weight) ** 2).sum())
    sqnr_db = _decibels(float((weight**2).sum()), error)
    outcome = LayerOutcome(
        name=name,
        num_bits=num_bits,
        method="nearest",
        sqnr_db=sqnr_db,
        nearest_sqnr_db=sqnr_db,
        entropy_bytes=order0_bits(values) / 8,
        error=error,
    )
    return DecidedLayer(weight=QuantTensor(values=values, params=grid), bias=_bias_of(start, layer)), outcome


def _plain(start: QuantizationStart, layer: Layer, problem: LayerProblem) -> RoundedWeights:
    """Rounding to nearest on the grid that reaches the largest weights: what everybody does, for comparison."""
    grid = guarded_grid(start, layer, start.weight_grids[layer.node.name])
    scales = grid.scale.astype(np.float64).reshape(problem.weights.shape[:2])
    return round_best(problem, grid.num_bits, RoundingConfig(methods=()), scales=scales)


def _rounded(start: QuantizationStart, layer: Layer, problem: LayerProblem, config: RoundingConfig) -> RoundedWeights:
    """Round on the best scales; where kernels do not take these (tiny ones), on the nearest that they take."""
    own_grid = start.weight_grids[layer.node.name]
    rounded = round_best(problem, own_grid.num_bits, config)
    grid = _grid(own_grid, rounded.scales)
    taken = guarded_grid(start, layer, grid)
    if np.array_equal(taken.scale, grid.scale):
        return rounded
    return round_best(
        problem, own_grid.num_bits, config, scales=taken.scale.astype(np.float64).reshape(rounded.scales.shape)
    )


def _grid(like: QuantParams, scales: npt.NDArray[np.float64]) -> QuantParams:
    return msgspec.structs.replace(like, scale=scales.reshape(-1).astype(np.float32))


def _bias_of(start: QuantizationStart, layer: Layer) -> npt.NDArray[np.float64]:
    if layer.bias is None:
        return np.zeros(start.graph.constants[layer.weight].shape[0])
    return np.asarray(start.graph.constants[layer.bias], np.float64).reshape(-1)


def _mean_output(weight: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What a layer answers on the mean column, without bias, [out]."""
    return np.einsum("goi,gi->go", weight, mean).reshape(-1)


def put_layer(network: GraphNetwork, name: str, decision: DecidedLayer) -> None:
    """Give a network the weights and the bias that were decided for a layer."""
    with torch.no_grad():
        network.weight(name).copy_(torch.from_numpy(decision.weight.dequantize()))
        if decision.bias is not None:
            network.bias(name).copy_(torch.from_numpy(decision.bias.astype(np.float32)))


def _decibels(power: float, error: float) -> float:
    smallest = float(np.finfo(np.float64).tiny)
    return float(10 * np.log10(max(power, smallest) / max(error, smallest)))
