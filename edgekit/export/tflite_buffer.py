"""Assemble a TFLite flatbuffer: tensors, constants, operators, bytes.

Knows the container and nothing of networks. It adds two things to the generated object API:

- constants are aligned to 16 bytes, which the schema asks for (`force_align: 16`) and the Python binding ignores; the
  kernels of 32-bit ARM fault without it;
- equal zero-point vectors are stored once. A per_channel tensor carries one int64 zero per channel, weights and biases
  alike, which is 8 % of an int8 MobileNet V2; sharing an offset is legal in a flatbuffer and invisible to readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.graph import Array
from edgekit.core.quant import QuantParams
from edgekit.export.tflite_nibbles import pack_nibbles

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16
_TABLES_OF_A_TENSOR = 256
"""About what a tensor and its operator take besides its name and its content."""
_BYTES_OF_A_CHANNEL = 12
"""A float32 scale and an int64 zero-point."""

Options: TypeAlias = Any
"""An options object of the generated schema: `Conv2DOptionsT`, `Pool2DOptionsT`, ..., or None for none."""

TENSOR_TYPES: dict[np.dtype[Any], int] = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}


class _AlignedBuffer(schema.BufferT):
    """A constant whose bytes start on a 16-byte boundary of the file."""

    def __init__(self, content: Array | None = None) -> None:
        super().__init__()
        self._content = content

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the generated API calls it by this name
        offset = None
        if self._content is not None:
            content = np.ascontiguousarray(self._content).reshape(-1).view(np.uint8)
            builder.StartVector(1, content.size, BUFFER_ALIGNMENT)
            head = builder.Head() - content.size
            builder.head = head
            builder.Bytes[head : head + content.size] = content.data
            offset = builder.EndVector()
        schema.BufferStart(builder)
        if offset is not None:
            schema.BufferAddData(builder, offset)
        return schema.BufferEnd(builder)


class _SharedQuantization(schema.QuantizationParametersT):
    """A grid whose zero-point vector may be shared with other tensors of the same file."""

    def __init__(self, params: QuantParams, written: dict[bytes, int]) -> None:
        super().__init__(quantizedDimension=params.axis or 0)
        self._scales = params.scale.astype(np.float32)
        self._zero_points = np.broadcast_to(params.zero_point, params.scale.shape).astype(np.int64)
        self._written = written

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the generated API calls it by this name
        scales = builder.CreateNumpyVector(self._scales)
        key = self._zero_points.tobytes()
        if key not in self._written:
            self._written[key] = builder.CreateNumpyVector(self._zero_points)
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scales)
        schema.QuantizationParametersAddZeroPoint(builder, self._written[key])
        schema.QuantizationParametersAddQuantizedDimension(builder, self.quantizedDimension)
        return schema.QuantizationParametersEnd(builder)


class TfliteBuilder:
    """Collects one subgraph in execution order, then turns it into bytes. The same calls give the same bytes."""

    def __init__(self) -> None:
        self._buffers: list[schema.BufferT] = [_AlignedBuffer()]  # buffer 0 is empty by convention: "no constant"
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self._zero_points: dict[bytes, int] = {}
        self._num_bytes = 0

    def add_activation(
        self, name: str, shape: Sequence[int], dtype: npt.DTypeLike, params: QuantParams | None = None
    ) -> int:
        """Declare a tensor that an operator (or the caller) fills. Returns its index."""
        return self._add_tensor(name, shape, (TENSOR_TYPES[np.dtype(dtype)], 0), params)

    def add_constant(self, name: str, values: Array, params: QuantParams | None = None) -> int:
        """Store an array in its own memory order. Returns its tensor index.

        Args:
            name: Tensor name.
            values: float32, int8 or int32.
            params: Grid of a quantized constant; None for float and for plain integers (shapes, axes).
        """
        return self._add_tensor(name, values.shape, (TENSOR_TYPES[values.dtype], self._store(values)), params)

    def add_nibbles(self, name: str, values: npt.NDArray[np.integer], params: QuantParams) -> int:
        """Store integers of -8..7 as an INT4 tensor, two to a byte. Returns its tensor index."""
        buffer = self._store(pack_nibbles(values))
        return self._add_tensor(name, values.shape, (schema.TensorType.INT4, buffer), params)

    def add_index_constant(self, name: str, values: int | Sequence[int] | npt.NDArray[np.int32]) -> int:
        """Store integers that steer an operator (a shape, axes, paddings), once for equal content."""
        array = np.asarray(values, np.int32)
        key = ("index", array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.add_constant(name, array)
        return self._constants[key]

    def add_operator(
        self, op: tuple[int, int], inputs: Sequence[int], outputs: Sequence[int], options: Options
    ) -> None:
        """Append an operator.

        Args:
            op: Builtin operator code and version.
            inputs: Tensor indices.
            outputs: Tensor indices.
            options: Its options object of the generated schema (`Conv2DOptionsT`, ...), or None.
        """
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(op, len(self._codes))
        operator.inputs = list(inputs)
        operator.outputs = list(outputs)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self._operators.append(operator)

    def build(self, name: str, inputs: Sequence[int], outputs: Sequence[int], metadata: dict[str, bytes]) -> memoryview:
        """Serialize. Returns a view of the builder's own bytes: a copy would be as large as the model.

        Args:
            name: Of the subgraph.
            inputs: Tensor indices of the model's inputs.
            outputs: Tensor indices of the model's outputs.
            metadata: Named blobs of the model's metadata table.
        """
        subgraph = schema.SubGraphT()
        subgraph.name = name
        subgraph.tensors = self._tensors
        subgraph.operators = self._operators
        subgraph.inputs = list(inputs)
        subgraph.outputs = list(outputs)
        model = schema.ModelT(version=SCHEMA_VERSION, description="edgekit")
        model.operatorCodes = [_operator_code(code, version) for code, version in self._codes]
        model.subgraphs = [subgraph]
        model.metadata = [self._metadata(key, content) for key, content in metadata.items()]
        model.buffers = self._buffers
        builder = flatbuffers.Builder(self._num_bytes + (1 << 16))  # one that is too small doubles, and copies itself
        self._zero_points.clear()  # offsets belong to one builder
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return memoryview(builder.Bytes)[builder.Head() :]

    def _store(self, values: Array) -> int:
        self._buffers.append(_AlignedBuffer(values))
        self._num_bytes += values.nbytes + BUFFER_ALIGNMENT
        return len(self._buffers) - 1

    def _metadata(self, name: str, content: bytes) -> schema.MetadataT:
        self._buffers.append(_AlignedBuffer(np.frombuffer(content, np.uint8)))
        return schema.MetadataT(name=name, buffer=len(self._buffers) - 1)

    def _add_tensor(self, name: str, shape: Sequence[int], stored: tuple[int, int], params: QuantParams | None) -> int:
        """`stored` is the `TensorType` and the index of the buffer."""
        element, buffer = stored
        tensor = schema.TensorT(type=element, buffer=buffer, name=name, hasRank=True)
        tensor.shape = [int(size) for size in shape]
        self._num_bytes += _TABLES_OF_A_TENSOR + len(name)
        if params is not None:
            self._num_bytes += _BYTES_OF_A_CHANNEL * params.scale.size
            tensor.quantization = _SharedQuantization(params, self._zero_points)
        self._tensors.append(tensor)
        return len(self._tensors) - 1


def _operator_code(code: int, version: int) -> schema.OperatorCodeT:
    # Readers older than TF 2.4 know only the one-byte field, whose 127 says "look at the other one".
    return schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)
