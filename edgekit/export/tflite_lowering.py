"""The state of one lowering from the hub graph to TFLite: what is written, where each activation lies, on which grid.

Layout rule: an activation of rank 4 is stored NHWC, every other one in its own order. `Flatten` of a map keeps the
NHWC tensor and is made good by whoever reads it: `Gemm` permutes its weight columns, the rest go through `plain`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.core.graph import Array, Graph, Node
from edgekit.core.quant import QuantizedGraph, QuantParams, QuantTensor
from edgekit.export.tflite_buffer import Options, TfliteBuilder
from edgekit.export.tflite_plan import MAP_RANK, Fusion, nonnegative_activations, plan_fusions
from edgekit.export.tflite_versions import Op, high_rank_version, operator_version

NCHW_TO_NHWC = (0, 2, 3, 1)
NHWC_TO_NCHW = (0, 3, 1, 2)


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Where an activation of the hub graph lies.

    Args:
        index: TFLite tensor index.
        dims: Shape of that tensor.
        params: Grid of that tensor; None for float.
        flat: Whether the hub tensor is the NCHW flattening [1, C * H * W] of this NHWC tensor.
    """

    index: int
    dims: tuple[int, ...]
    params: QuantParams | None
    flat: bool = False


class Emitter(Protocol):
    """A function that lowers one node."""

    def __call__(self, lowering: Lowering, node: Node) -> None:
        """Write the node's operators and bind its outputs."""


class Lowering:
    """One run from a graph to a `TfliteBuilder`.

    Args:
        model: Float graph, or quantized graph whose integers are taken as they are. One of a dynamic scheme is lowered
            as a float graph whose layers have integer weights (`dynamic_weights`).
        int4_layers: Node names of the layers whose weights are stored as INT4.
    """

    def __init__(self, model: Graph | QuantizedGraph, int4_layers: Collection[str] = ()) -> None:
        is_quantized = isinstance(model, QuantizedGraph)
        self.quantized = model if is_quantized and not model.is_dynamic else None
        self.dynamic_weights: Mapping[str, QuantTensor] = model.constants if is_quantized and model.is_dynamic else {}
        self.graph = model.graph if isinstance(model, QuantizedGraph) else model
        grids = None if self.quantized is None else self.quantized.activations
        self.int4_layers = frozenset(int4_layers)
        self.builder = TfliteBuilder()
        self.plan = plan_fusions(self.graph, grids)
        self.nonnegative = nonnegative_activations(self.graph, grids)
        self._values: dict[str, Value] = {}

    @property
    def dtype(self) -> npt.DTypeLike:
        """Element type of every activation."""
        return np.float32 if self.quantized is None else np.int8

    def fusion(self, node: Node) -> Fusion:
        """What a node swallows; by itself it makes its own output, without an activation."""
        return self.plan.fusions.get(node.name, Fusion(output=node.output))

    def grid(self, name: str) -> QuantParams | None:
        """Grid of an activation, None in a float graph.

        Raises:
            GraphError: The graph is quantized, and the activation has no int8 grid.
        """
        if self.quantized is None:
            return None
        params = self.quantized.activations.get(name)
        if params is None:
            raise GraphError(
                f"{self.graph.name}: activation {name} has no grid, and a full-integer TFLite file needs one",
                hint="quantize every activation that is not fused away",
            )
        if params.scale.size != 1 or not params.signed or params.num_bits != 8:
            raise GraphError(f"{self.graph.name}: activation {name}: expected a per_tensor int8 grid, got {params}")
        return params

    def constant(self, node: Node, name: str) -> QuantTensor:
        """Integers of a constant of a quantized graph.

        Raises:
            GraphError: It was left in float.
        """
        tensor = None if self.quantized is None else self.quantized.constants.get(name)
        if tensor is None:
            raise GraphError(f"{self.graph.name}: node {node.name}: constant {name} has no integers")
        return tensor

    def require_same_grid(self, node: Node, names: Sequence[str]) -> None:
        """Check what TFLite demands of operators that only move integers: one scale and zero-point throughout.

        Raises:
            GraphError: Two of the activations lie on different grids; names the node.
        """
        if self.quantized is None:
            return
        first = self._scalar_grid(names[0])
        for name in names[1:]:
            if self._scalar_grid(name) != first:
                raise GraphError(
                    f"{self.graph.name}: node {node.name} ({node.op}): int8 TFLite needs one grid for {names[0]} "
                    f"and {name}, got {first} and {self._scalar_grid(name)}"
                )

    def _scalar_grid(self, name: str) -> tuple[float, int]:
        params = self.grid(name)
        return (0.0, 0) if params is None else (float(params.scale[0]), int(params.zero_point[0]))

    def unsupported(self, node: Node, why: str) -> UnsupportedOpError:
        """The error for a node that TFLite cannot express."""
        return UnsupportedOpError(
            f"{self.graph.name}: node {node.name} ({node.op}) has no TFLite form: {why}",
            hint="replace the operation in the model, or export to ONNX only",
        )

    def emit(
        self, op: Op, inputs: Sequence[int], outputs: Sequence[Value], options: Options = None, *, version: int = 0
    ) -> None:
        """Append an operator; `version` 0 stands for the usual one of this element type."""
        usual = operator_version(op, is_int8=self.quantized is not None)
        self.builder.add_operator((op, version or usual), inputs, [value.index for value in outputs], options)

    def declare(self, name: str, dims: Sequence[int], params: QuantParams | None) -> Value:
        """A new tensor that an operator is about to fill, not yet bound to an activation."""
        index = self.builder.add_activation(name, dims, self.dtype, params)
        return Value(index=index, dims=tuple(dims), params=params)

    def bind(self, name: str, value: Value) -> None:
        """Say where an activation of the hub graph lies."""
        self._values[name] = value

    def result(self, name: str, dims: Sequence[int]) -> Value:
        """A new tensor for an activation of the hub graph, under its name and on its grid."""
        value = self.declare(name, dims, self.grid(name))
        self.bind(name, value)
        return value

    def map_result(self, name: str) -> Value:
        """As `result`, in the stored shape of the activation."""
        return self.result(name, stored_dims(self.graph.shapes[name]))

    def value(self, name: str) -> Value:
        """Where an activation lies, flattenings unresolved."""
        return self._values[name]

    def plain(self, name: str) -> Value:
        """Where an activation lies in its own shape, writing out a pending flattening first."""
        value = self._values[name]
        if not value.flat:
            return value
        resolved = self.reshape(self.transpose_map(value, name), self.graph.shapes[name], name)
        self.bind(name, resolved)
        return resolved

    def reshape(self, value: Value, dims: Sequence[int], name: str) -> Value:
        """RESHAPE, or nothing when the shape is right. The batch is left open, so that readers may resize it."""
        if value.dims == tuple(dims):
            return value
        target = self.declare(name, dims, value.params)
        shape = np.asarray(dims, np.int32)
        if shape[0] == value.dims[0] == 1:
            shape[0] = -1
        index = self.builder.add_index_constant(f"{name}/shape", shape)
        self.emit(Op.RESHAPE, [value.index, index], [target], schema.ReshapeOptionsT(newShape=shape))
        return target

    def transpose(self, value: Value, perm: Sequence[int], name: str) -> Value:
        """TRANSPOSE, or RESHAPE when only dimensions of size 1 change place."""
        dims = tuple(value.dims[axis] for axis in perm)
        moving = [axis for axis in perm if value.dims[axis] != 1]
        if moving == sorted(moving):
            return self.reshape(value, dims, name)
        target = self.declare(name, dims, value.params)
        index = self.builder.add_index_constant(f"{name}/perm", perm)
        version = high_rank_version(Op.TRANSPOSE, len(dims))
        self.emit(Op.TRANSPOSE, [value.index, index], [target], schema.TransposeOptionsT(), version=version)
        return target

    def transpose_map(self, value: Value, name: str) -> Value:
        """An NHWC tensor in NCHW order."""
        return self.transpose(value, NHWC_TO_NCHW, f"{name}/nchw")


def stored_dims(shape: Sequence[int]) -> tuple[int, ...]:
    """Hub shape -> shape in the file: NCHW -> NHWC, every other rank as it is.

    >>> stored_dims((1, 3, 224, 200)), stored_dims((1, 10))
    ((1, 224, 200, 3), (1, 10))
    """
    return tuple(shape[axis] for axis in NCHW_TO_NHWC) if len(shape) == MAP_RANK else tuple(shape)


def stored_axis(axis: int, rank: int) -> int:
    """Hub axis -> axis in the file.

    >>> stored_axis(1, 4), stored_axis(-1, 4), stored_axis(1, 2)
    (3, 2, 1)
    """
    axis %= rank
    return NCHW_TO_NHWC.index(axis) if rank == MAP_RANK else axis


def stored_constant(array: Array, rank: int) -> Array:
    """A constant operand, broadcast against an activation of that rank, in the file's layout."""
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return np.ascontiguousarray(full.transpose(NCHW_TO_NHWC)) if rank == MAP_RANK else full
