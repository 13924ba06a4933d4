"""A QuantizedGraph -> ONNX nodes with QuantizeLinear / DequantizeLinear pairs, from exactly its integers.

Names, for an activation or constant `t`: `t_quantized` holds integers, `t_scale` and `t_zero_point` its grid, and `t`
is the real value (on the grid), so `t` means the same in the float file and in the quantized one.

A Relu or Clip whose input has no grid of its own is fused: rounding and clipping commute, so clipping the real value
before QuantizeLinear equals clipping the integers after it. QuantizeLinear saturates at the ends of its type, so as a
rule nothing is left to do and the operator vanishes; else an integer Clip does it, and the Conv before it still runs in
integers.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np

from edgekit.core.graph import WEIGHTED_OPS, Node
from edgekit.core.quant import QuantizedGraph, QuantParams, QuantTensor
from edgekit.export.onnx_lowering import OnnxSink, lower

ActivationType: TypeAlias = Literal["int8", "uint8"]

_OFFSET = 128
"""q + 128 of an int8 is the uint8 that stands for the same real value when its zero-point moves along."""


class QdqWriter:
    """Lowers a quantized graph into a sink.

    Args:
        sink: Where to.
        model: What.
        activation_type: Storage of activations: the same integers, shifted by 128 for "uint8".
    """

    def __init__(self, sink: OnnxSink, model: QuantizedGraph, activation_type: ActivationType) -> None:
        self.sink = sink
        self.model = model
        self.graph = model.graph
        self.type = np.dtype(activation_type)
        self._real: dict[str, str] = {}
        self._fused = self._fused_activations()
        self._weights = {name for node in self.graph.nodes if node.op in WEIGHTED_OPS for name in node.inputs[1:]}

    def write(self) -> tuple[str, ...]:
        """Emit everything.

        Returns:
            The activations that exist in the file under their own name (fused ones do not).
        """
        graph = self.graph
        source = self.model.activations.get(graph.input)
        if source is not None:
            self._real[graph.input] = self.sink.name(f"{graph.input}_dequantized")
            self._quantize(graph.input, graph.input, source, self._real[graph.input], (-math.inf, math.inf))
        skipped = {activation.name for activation in self._fused.values()}
        for node in graph.nodes:
            if node.name not in skipped:
                self._write_node(node)
        return tuple(name for node in graph.nodes for name in node.outputs if name not in self._fused)

    def _write_node(self, node: Node) -> None:
        inputs = [self._input(name) for name in node.inputs]
        outputs: list[str] = []
        pending: list[tuple[str, str, QuantParams, tuple[float, float]]] = []
        for output in node.outputs:
            activation = self._fused.get(output)
            target = output if activation is None else activation.output
            params = self.model.activations.get(target)
            if params is None:
                outputs.append(target)
                continue
            raw = self.sink.name(f"{target}_raw")
            outputs.append(raw)
            pending.append((raw, target, params, real_bounds(activation)))
        lower(self.sink, node, inputs, outputs)
        for raw, target, params, bounds in pending:
            self._quantize(raw, target, params, target, bounds)

    def _input(self, name: str) -> str:
        if name not in self.graph.constants:
            return self._real.get(name, name)
        if name in self._real:
            return self._real[name]
        tensor = self.model.constants.get(name)
        if tensor is None:
            self.sink.initializer(name, self.graph.constants[name])
        else:
            self._dequantize_constant(name, tensor)
        self._real[name] = name
        return name

    def _dequantize_constant(self, name: str, tensor: QuantTensor) -> None:
        """Weights stay int8 and biases int32; an operand of Add or Mul takes the type that activations have."""
        values, zero_point = tensor.values, tensor.params.zero_point
        if name not in self._weights:
            shift = self._shift(tensor.params)
            values, zero_point = (values.astype(np.int32) + shift).astype(self.type), zero_point + shift
        inputs = [
            self.sink.initializer(self.sink.name(f"{name}_quantized"), values),
            self.sink.pooled(f"{name}_scale", _per_tensor_scalar(tensor.params.scale, tensor.params)),
        ]
        if values.dtype != np.int32:
            # ONNX Runtime 1.32 fails on a per_channel Gemm weight whose zero-point is left out, and with
            # session.x64quantprecision on two weights that share one. So each gets its own.
            typed = _per_tensor_scalar(zero_point.astype(values.dtype), tensor.params)
            inputs.append(self.sink.initializer(self.sink.name(f"{name}_zero_point"), typed))
        attrs = {} if tensor.params.axis is None else {"axis": tensor.params.axis}
        self.sink.emit("DequantizeLinear", inputs, [name], attrs=attrs)

    def _quantize(self, raw: str, name: str, params: QuantParams, real: str, bounds: tuple[float, float]) -> None:
        """QuantizeLinear, an integer Clip if the type's own limits are too wide, DequantizeLinear."""
        shift = self._shift(params)
        zero_point = np.asarray(params.zero_point.reshape(()) + shift).astype(self.type)
        grid = [
            self.sink.pooled(f"{name}_scale", _per_tensor_scalar(params.scale, params)),
            self.sink.pooled(f"{name}_zero_point", zero_point),
        ]
        quantized = self.sink.name(f"{name}_quantized")
        low, high = (limit + shift for limit in integer_bounds(params, bounds))
        limits = np.iinfo(self.type)
        if (low, high) == (limits.min, limits.max):
            self.sink.emit("QuantizeLinear", [raw, *grid], [quantized])
        else:
            wide = self.sink.name(f"{name}_unclipped")
            self.sink.emit("QuantizeLinear", [raw, *grid], [wide])
            ends = [self.sink.pooled("limit", np.asarray(end, self.type)) for end in (low, high)]
            self.sink.emit("Clip", [wide, *ends], [quantized])
        self.sink.emit("DequantizeLinear", [quantized, *grid], [real])

    def _shift(self, params: QuantParams) -> int:
        if params.signed == (self.type == np.int8):
            return 0
        return _OFFSET if params.signed else -_OFFSET

    def _fused_activations(self) -> dict[str, Node]:
        """Gridless value -> the Relu or Clip that is its only reader and whose output has a grid."""
        consumers, producers = self.graph.consumers(), self.graph.producers()
        fused: dict[str, Node] = {}
        for name, readers in consumers.items():
            activation = readers[0]
            alone = len(readers) == 1 and name != self.graph.output and name in producers
            gridless = name not in self.model.activations and activation.output in self.model.activations
            if alone and gridless and activation.op in ("Relu", "Clip"):
                fused[name] = activation
        return fused


def real_bounds(activation: Node | None) -> tuple[float, float]:
    """The interval to which a Relu or Clip clips; everything for None."""
    if activation is None:
        return -math.inf, math.inf
    if activation.op == "Relu":
        return 0.0, math.inf
    return activation.float("min"), activation.float("max")


def integer_bounds(params: QuantParams, bounds: tuple[float, float]) -> tuple[int, int]:
    """The integers that a clipped real value can become on a grid.

    >>> grid = QuantParams(scale=np.array([0.1], np.float32), zero_point=np.array([-100], np.int32))
    >>> integer_bounds(grid, (0.0, 6.0))
    (-100, -40)
    """
    ends: list[int] = []
    for bound, open_end in zip(bounds, (params.qmin, params.qmax), strict=True):
        finite = math.isfinite(bound) and abs(bound) < float(np.finfo(np.float32).max)
        ends.append(int(params.quantize(np.asarray([bound], np.float32))[0]) if finite else open_end)
    return ends[0], ends[1]


def _per_tensor_scalar(array: np.ndarray, params: QuantParams) -> np.ndarray:
    """ONNX wants rank 0 for per_tensor, rank 1 for per_channel."""
    return array.reshape(()) if params.axis is None else array.reshape(-1)
