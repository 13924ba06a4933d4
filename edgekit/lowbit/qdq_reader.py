"""Grids and integers of an ONNX file in QDQ form, whoever quantized it, in the hub graph's names.

Read are 8-bit activations and weights and int32 biases. An unsigned type with an offset of 128 is the same grid, so
everything comes back signed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgekit.core.errors import GraphError
from edgekit.core.graph import WEIGHTED_OPS
from edgekit.core.quant import QuantParams, QuantTensor

_OFFSET = 128
_DEFAULT_AXIS = 1
"""ONNX's, of QuantizeLinear and DequantizeLinear."""


class QdqFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a QDQ file holds.

    Args:
        weights: Node name of a Conv or Gemm -> its weight (int8), in the file's layout and on the file's grid.
        biases: Node name -> real bias, float64 [channels].
        activations: Activation name -> its grids, one for each that the file has. Per_channel ones have an axis.
        unknown: Values with a grid that are no activation of the hub graph.
    """

    weights: Mapping[str, QuantTensor]
    biases: Mapping[str, npt.NDArray[np.float64]]
    activations: Mapping[str, tuple[QuantParams, ...]]
    unknown: tuple[str, ...] = ()


def read_qdq(model: onnx.ModelProto, names: Collection[str]) -> QdqFile:
    """Read a model whose nodes and values are called as in the hub graph.

    Args:
        model: A float file of ours that was quantized, or a quantized one of ours.
        names: The hub graph's activations.

    Raises:
        GraphError: Integers of other types, or a grid that is no constant.
    """
    return _Reader(model, frozenset(names)).read()


class _Reader:
    def __init__(self, model: onnx.ModelProto, names: frozenset[str]) -> None:
        self._graph = model.graph
        self._names = names
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producers = {output: node for node in model.graph.node for output in node.output}

    def read(self) -> QdqFile:
        weights: dict[str, QuantTensor] = {}
        biases: dict[str, npt.NDArray[np.float64]] = {}
        for node in self._graph.node:
            if node.op_type not in WEIGHTED_OPS:
                continue
            weight = self._dequantized_constant(node.input[1])
            if weight is not None:
                weights[node.name] = weight
            bias = self._bias(node.input[2]) if len(node.input) > 2 and node.input[2] else None
            if bias is not None:
                biases[node.name] = bias
        activations: dict[str, tuple[QuantParams, ...]] = {}
        unknown: list[str] = []
        for node in self._graph.node:
            if node.op_type != "DequantizeLinear" or node.input[0] in self._constants:
                continue
            source, name = self._name_of(node)
            if name is None:
                unknown.append(source)
                continue
            grid = self._grid(node)
            known = activations.get(name, ())
            if not any(_same(grid, other) for other in known):
                activations[name] = (*known, grid)
        return QdqFile(weights=weights, biases=biases, activations=activations, unknown=tuple(unknown))

    def _dequantized_constant(self, value: str) -> QuantTensor | None:
        """Integers of a constant; None where it is float."""
        node = self._producers.get(value)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in self._constants:
            return None
        values = self._array(node.input[0])
        grid = self._grid(node)
        if grid.axis is not None and grid.axis < 0:
            grid = msgspec.structs.replace(grid, axis=grid.axis + values.ndim)
        if values.dtype == np.uint8:
            values = (values.astype(np.int16) - _OFFSET).astype(np.int8)
        return QuantTensor(values=values, params=grid)

    def _bias(self, value: str) -> npt.NDArray[np.float64] | None:
        if value in self._constants:
            return self._array(value).astype(np.float64).reshape(-1)
        tensor = self._dequantized_constant(value)
        if tensor is None:
            return None
        # in float64: an int32 times a float32 scale, so that dividing by the scale gives the integer back
        return (tensor.values.astype(np.float64) * tensor.params.scale.astype(np.float64)).reshape(-1)

    def _name_of(self, node: onnx.NodeProto) -> tuple[str, str | None]:
        """What a DequantizeLinear was given in the end, and the hub graph's name of it.

        Other tools quantize an activation and give its copy a new name; our writer gives the copy the name.
        """
        quantize = self._producers.get(node.input[0])
        while quantize is not None and quantize.op_type != "QuantizeLinear":
            quantize = self._producers.get(quantize.input[0])  # a Clip of integers
        source = quantize.input[0] if quantize is not None else node.input[0]
        candidates = (node.output[0], source)
        return source, next((name for name in candidates if name in self._names), None)

    def _grid(self, node: onnx.NodeProto) -> QuantParams:
        scale = self._array(node.input[1])
        has_zero = len(node.input) > 2 and bool(node.input[2])
        stored = self._array(node.input[2]) if has_zero else np.zeros(scale.shape, self._type_of(node))
        if stored.dtype not in (np.int8, np.uint8, np.int32):
            raise GraphError(f"node {node.name or node.output[0]}: expected integers of 8 bits, got {stored.dtype}")
        zero_point = stored.astype(np.int32) - (_OFFSET if stored.dtype == np.uint8 else 0)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), _DEFAULT_AXIS)
        return QuantParams(
            scale=np.atleast_1d(scale).astype(np.float32),
            zero_point=np.broadcast_to(np.atleast_1d(zero_point), np.atleast_1d(scale).shape).copy(),
            axis=None if scale.ndim == 0 else int(axis),
            num_bits=32 if stored.dtype == np.int32 else 8,
        )

    def _type_of(self, node: onnx.NodeProto) -> np.dtype[Any]:
        """Type of the integers where no zero-point tells: a constant's own, else uint8 (ONNX's default)."""
        return self._array(node.input[0]).dtype if node.input[0] in self._constants else np.dtype(np.uint8)

    def _array(self, name: str) -> npt.NDArray[Any]:
        tensor = self._constants.get(name)
        if tensor is None:
            raise GraphError(f"the grid {name} is no constant of the file")
        return numpy_helper.to_array(tensor)


def _same(first: QuantParams, second: QuantParams) -> bool:
    return (
        first.axis == second.axis
        and np.array_equal(first.scale, second.scale)
        and np.array_equal(first.zero_point, second.zero_point)
    )
