"""The exact integer executor: what a QuantizedGraph computes, independent of any runtime.

Arithmetic is TFLite's (Jacob et al. 2018, section 2.2): int32 accumulators, requantized by the real multiplier
`s_in * s_w / s_out`, saturated to the output's grid and to the fused activation. Choices where runtimes differ:

- The multiplier is taken in float64 and ties round away from zero. onnxruntime and XNNPACK (TFLite's default on CPUs)
  multiply in float32 and round ties to even, which seldom matters: after the first three blocks of EfficientNet-Lite0
  at most 3 of 100,000 values differ from onnxruntime, each by one step. TFLite's kernels without XNNPACK round twice,
  a 31-bit product and then its shift, so values just below the middle go up: by one step, in 0.6 % of the first
  layer's values there. Later layers see such steps as input, so whole networks agree to a few steps, not to the bit.
- Add and Mul are computed on real values in float64; TFLite's Add first aligns its inputs to 2**20.
- HardSwish, HardSigmoid, LRN, Sigmoid and Softmax are the float function of the input, rounded. TFLite computes Softmax
  in 16-bit fixed point, and its files make the first three of several operators, each of which rounds to 8 bits.

Sums run in float64 through BLAS, exact below 2**53; an int8 layer stays below 2**31.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError
from edgekit.core.graph import WEIGHTED_OPS, Node
from edgekit.core.quant import QuantizedGraph, QuantParams
from edgekit.quantize import execute
from edgekit.quantize.plan import ACTIVATION_OPS, ELEMENTWISE_OPS, QuantizationPlan, plan_quantization

Integers = npt.NDArray[np.int8]
Reals = npt.NDArray[np.float64]


def quantize_input(model: QuantizedGraph, x: npt.NDArray[np.floating]) -> Integers:
    """Float input [n, ...] on the grid of the graph's input."""
    return model.activations[model.graph.input].quantize(x).astype(np.int8)


def run_integer(model: QuantizedGraph, x: Integers) -> dict[str, Integers]:
    """Every quantized activation of the graph, by name (values inside a fused pair do not exist).

    Args:
        model: Fully quantized: every activation outside a fused pair has a grid.
        x: int8 input [n, ...], from `quantize_input`.

    Raises:
        GraphError: The input's shape does not fit, or an activation has no grid.
    """
    return _Executor(model).run(x)


def round_half_away(x: Reals) -> Reals:
    """Nearest integers, ties away from zero."""
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


class _Executor:
    """One run: the values so far and the handlers that add to them."""

    def __init__(self, model: QuantizedGraph) -> None:
        self.model = model
        self.graph = model.graph
        self.plan: QuantizationPlan = plan_quantization(model.graph)
        self.activations = {node.output: node for node in self.graph.nodes if node.op in ACTIVATION_OPS}
        self.values: dict[str, Integers] = {}
        for name in self.graph.activations():
            if name not in self.plan.fused and name not in model.activations:
                raise GraphError(f"activation {name} has no grid: the integer executor needs a fully quantized graph")

    def run(self, x: Integers) -> dict[str, Integers]:
        execute.check_input(self.graph, x)
        self.values = {self.graph.input: x}
        for node in self.graph.nodes:
            if node.inputs[0] in self.plan.fused:
                continue  # its producer made it
            if node.op == "Split":
                self.values.update(zip(node.outputs, execute.split(node, self.values[node.inputs[0]]), strict=True))
                continue
            output = self.plan.fused.get(node.output, node.output)
            self.values[output] = self._result(node, output)
        return self.values

    def _result(self, node: Node, output: str) -> Integers:
        if node.op in WEIGHTED_OPS:
            return self._store(self._weighted(node, output), output)
        if node.op in ELEMENTWISE_OPS:
            first, second = (self._real(name) for name in node.inputs)
            total = first + second if node.op == "Add" else first * second
            return self._store(total / self._scale(output), output)
        if node.op in ("Relu", "Clip"):
            return self._store(self._real(node.inputs[0]) / self._scale(output), output)
        if node.op in execute.MOVERS:
            self._require_same_grid(node)
            parts = [self.values[name].astype(np.float64) for name in node.inputs]
            return execute.MOVERS[node.op](node, parts).astype(np.int8)
        if node.op in _POOLS:
            return self._store(_POOLS[node.op](self, node, output), output)
        if node.op == "Pad":
            self._require_same_grid(node)
        real = execute.run_node(node, [self._real(node.inputs[0])])[0]
        return self._store(np.asarray(real, np.float64) / self._scale(output), output)

    def _weighted(self, node: Node, output: str) -> Reals:
        """Accumulators times the multiplier of each channel: the result in steps of the output grid."""
        weight = self.model.constants[node.inputs[1]]
        x, w = self._centred(node.inputs[0]), weight.values.astype(np.float64)
        multiplier = self._scale(node.inputs[0]) * weight.params.scale.astype(np.float64) / self._scale(output)
        accumulator = np.asarray(x @ w.T if node.op == "Gemm" else execute.convolve_node(node, x, w), np.float64)
        channels = (1, -1) if node.op == "Gemm" else (1, -1, 1, 1)
        if len(node.inputs) > 2:
            bias = self.model.constants[node.inputs[2]].values.astype(np.float64)
            accumulator = accumulator + bias.reshape(channels)
        return accumulator * multiplier.reshape(channels)

    def average_pool(self, node: Node, output: str) -> Reals:
        """Window means; TFLite divides the sum of the integers as they are, zero-point included."""
        self._require_same_grid(node)
        zero_point = float(self._grid(output).zero_point[0])
        centred = self._centred(node.inputs[0])
        divisor = execute.average_divisor(node, centred.shape)
        total = np.asarray(execute.sum_pool_node(node, centred), np.float64) + zero_point * divisor
        return round_half_away(total / divisor) - zero_point

    def global_average_pool(self, node: Node, output: str) -> Reals:
        """Mean of each map, requantized."""
        mean = self._centred(node.inputs[0]).mean(axis=(2, 3), keepdims=True)
        return mean * (self._scale(node.inputs[0]) / self._scale(output))

    def _store(self, steps: Reals, output: str) -> Integers:
        """Round, shift by the zero-point and saturate to the grid and the activation that makes `output`."""
        grid = self._grid(output)
        lowest, highest = activation_limits(grid, self.activations.get(output))
        return np.clip(round_half_away(steps) + float(grid.zero_point[0]), lowest, highest).astype(np.int8)

    def _require_same_grid(self, node: Node) -> None:
        grids = [self._grid(name) for name in (*self.graph.data_inputs(node), *node.outputs)]
        if len({(float(grid.scale[0]), int(grid.zero_point[0])) for grid in grids}) > 1:
            raise GraphError(f"node {node.name}: {node.op} needs one grid for inputs and outputs, got several")

    def _grid(self, name: str) -> QuantParams:
        return self.model.activations[name]

    def _scale(self, name: str) -> float:
        return float(self._grid(name).scale[0])

    def _centred(self, name: str) -> Reals:
        return self.values[name].astype(np.float64) - float(self._grid(name).zero_point[0])

    def _real(self, name: str) -> Reals:
        """Real values, in float64, of an activation or a constant operand."""
        if name in self.values:
            return self._centred(name) * self._scale(name)
        constant = self.model.constants[name]
        centred = constant.values.astype(np.float64) - constant.params.zero_point.astype(np.float64)
        return centred * constant.params.scale.astype(np.float64)


_POOLS: dict[str, Callable[[_Executor, Node, str], Reals]] = {
    "AveragePool": _Executor.average_pool,
    "GlobalAveragePool": _Executor.global_average_pool,
}


def activation_limits(grid: QuantParams, activation: Node | None) -> tuple[int, int]:
    """Smallest and largest integer that a Relu or Clip lets through on a grid; the grid's own ends for None."""
    if activation is None:
        return grid.qmin, grid.qmax
    scale, zero_point = float(grid.scale[0]), int(grid.zero_point[0])
    if activation.op == "Relu":
        return max(grid.qmin, zero_point), grid.qmax
    ends = np.array([activation.float("min"), activation.float("max")]) / scale
    lowest, highest = np.clip(round_half_away(ends) + zero_point, grid.qmin, grid.qmax)
    return int(lowest), int(highest)
