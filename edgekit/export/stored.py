"""What a written file really holds: integers, scales, and the layers that stayed float.

Verification reads the files back instead of trusting the writers. Everything comes back in the hub graph's names and
layouts (OIHW, int8 activations), so an ONNX and a TFLite file of one decision compare equal.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from ai_edge_litert import schema_py_generated as schema
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edgekit.core.errors import GraphError, IntegrityError
from edgekit.export.onnx_dynamic import DYNAMIC_OPS, DynamicWeight, read_dynamic
from edgekit.export.tflite_nibbles import NIBBLE_BITS, unpack_nibbles

_ONNX_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul", *DYNAMIC_OPS})
_TFLITE_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_TFLITE_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_TFLITE_RIM = frozenset({"QUANTIZE", "DEQUANTIZE"})
_FIRST_DATA_BUFFER = 1


class StoredTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A constant as the file holds it.

    Args:
        values: int8 or int32, hub layout.
        scale: float32 [1] or [channels].
        zero_point: int32, as many.
        storage_bits: Bits of an element in the file: 4 where two lie in a byte (INT4), else those of the type.
    """

    values: npt.NDArray[np.integer]
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    storage_bits: int = 8

    @property
    def size_bytes(self) -> int:
        """Bytes of the integers in the file."""
        return (self.values.size * self.storage_bits + 7) // 8


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """The integers of one file.

    Args:
        constants: Constant name -> integers.
        activations: Activation name -> (scale, zero-point on the int8 grid).
        float_layers: Weighted layers with float weights or float input, and operators that compute in float, in order.
        num_weighted: Weighted layers in all.
        float_weights: Weighted layers whose weights are no integers, in order.
    """

    constants: Mapping[str, StoredTensor]
    activations: Mapping[str, tuple[float, int]]
    float_layers: tuple[str, ...]
    num_weighted: int
    float_weights: tuple[str, ...] = ()


def read_stored(path: Path) -> StoredFile:
    """Read a .onnx (QDQ) or .tflite file.

    Raises:
        IntegrityError: The bytes are no such file.
        GraphError: Neither extension.
    """
    if path.suffix == ".onnx":
        return _read_onnx(path)
    if path.suffix == ".tflite":
        return _read_tflite(path)
    raise GraphError(f"{path} is neither .onnx nor .tflite")


def _read_onnx(path: Path) -> StoredFile:
    try:
        graph = onnx.load(path).graph
    except (DecodeError, OSError, ValueError) as error:
        raise IntegrityError(f"{path} is no ONNX file: {error}", hint="make the run again") from error
    initializers = {tensor.name: tensor for tensor in graph.initializer}

    def array(name: str) -> npt.NDArray[Any]:
        return numpy_helper.to_array(initializers[name])

    constants: dict[str, StoredTensor] = {}
    activations: dict[str, tuple[float, int]] = {}
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        scale = np.atleast_1d(array(node.input[1])).astype(np.float32)
        zero_point = np.zeros(scale.shape, np.int32)
        if len(node.input) > 2 and node.input[2]:
            stored = np.atleast_1d(array(node.input[2]))
            # uint8 activations hold q + 128 with zero-point + 128: the same grid
            zero_point = stored.astype(np.int32) - (128 if stored.dtype == np.uint8 else 0)
        if node.input[0] in initializers:
            values = array(node.input[0])
            constants[node.output[0]] = StoredTensor(
                values=values, scale=scale, zero_point=zero_point, storage_bits=8 * values.itemsize
            )
        else:
            activations[node.output[0]] = (float(scale[0]), int(zero_point[0]))
    dynamic = read_dynamic(graph, array)
    quantized = constants.keys() | activations.keys()
    with_integers = quantized | {weight.stored for weight in dynamic}
    known = initializers.keys() | constants.keys()  # the product of two activations, as in attention, has no weight
    weighted = [node for node in graph.node if node.op_type in _ONNX_WEIGHTED and node.input[1] in known]
    constants.update({weight.name: _tensor_of(weight) for weight in dynamic})
    return StoredFile(
        constants=constants,
        activations={name.removesuffix("_dequantized"): grid for name, grid in activations.items()},
        float_layers=tuple(_layer_name(node) for node in weighted if not quantized >= set(node.input[:2])),
        num_weighted=len(weighted),
        float_weights=tuple(_layer_name(node) for node in weighted if node.input[1] not in with_integers),
    )


def _layer_name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def _tensor_of(weight: DynamicWeight) -> StoredTensor:
    zero_point = np.zeros(weight.scale.shape, np.int32)
    return StoredTensor(values=weight.values, scale=weight.scale, zero_point=zero_point)


def _read_tflite(path: Path) -> StoredFile:
    try:
        # Any: the generated classes declare every field as possibly absent, and names as str though they are bytes
        model: Any = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
        subgraph: Any = model.subgraphs[0]
    except (struct.error, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        # The generated reader trusts every offset: a damaged one surfaces anyhow.
        raise IntegrityError(f"{path} is no TFLite file: {error}", hint="make the run again") from error
    constants: dict[str, StoredTensor] = {}
    activations: dict[str, tuple[float, int]] = {}
    for tensor in subgraph.tensors:
        quantization = tensor.quantization
        if quantization is None or quantization.scale is None or len(quantization.scale) == 0:
            continue
        scale = np.asarray(quantization.scale, np.float32)
        zero_point = np.asarray(quantization.zeroPoint, np.int32)
        buffer = model.buffers[tensor.buffer]
        name = tensor.name.decode()
        if tensor.buffer >= _FIRST_DATA_BUFFER and buffer.data is not None and len(buffer.data):
            values, bits = _integers(tensor, bytes(buffer.data))
            constants[name] = StoredTensor(values=values, scale=scale, zero_point=zero_point, storage_bits=bits)
        else:
            activations[name] = (float(scale[0]), int(zero_point[0]))
    operators = [_Operator(model, subgraph, operator) for operator in subgraph.operators]
    for operator in operators:
        operator.restore_layout(constants)
    return StoredFile(
        constants=constants,
        activations=activations,
        float_layers=tuple(operator.name for operator in operators if operator.is_float),
        num_weighted=sum(operator.kind in _TFLITE_WEIGHTED for operator in operators),
        float_weights=tuple(operator.name for operator in operators if operator.has_float_weight),
    )


def _integers(tensor: Any, content: bytes) -> tuple[npt.NDArray[np.integer], int]:  # noqa: ANN401 - generated
    """The integers of a constant, one an element, and the bits that the file gives each."""
    if tensor.type == schema.TensorType.INT4:
        return unpack_nibbles(content, int(np.prod(tensor.shape))).reshape(tensor.shape), NIBBLE_BITS
    dtype = np.dtype(np.int32 if tensor.type == schema.TensorType.INT32 else np.int8)
    return np.frombuffer(content, dtype).reshape(tensor.shape), 8 * dtype.itemsize


class _Operator:
    """One operator of a TFLite file, with the tensors that it touches."""

    def __init__(self, model: Any, subgraph: Any, operator: Any) -> None:  # noqa: ANN401 - generated, untyped
        code = model.operatorCodes[operator.opcodeIndex]
        self.kind = _TFLITE_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        self.inputs = [subgraph.tensors[index] for index in operator.inputs if index >= 0]
        self.outputs = [subgraph.tensors[index] for index in operator.outputs]
        self.name = self.outputs[0].name.decode()

    @property
    def is_float(self) -> bool:
        """Whether it computes in float; QUANTIZE and DEQUANTIZE at the rim do not count."""
        touched = [*self.inputs, *self.outputs]
        has_float = any(tensor.type == schema.TensorType.FLOAT32 for tensor in touched)
        return has_float and self.kind not in _TFLITE_RIM

    @property
    def has_float_weight(self) -> bool:
        """Whether it is a weighted layer whose weights are no integers."""
        return self.kind in _TFLITE_WEIGHTED and self.inputs[1].type == schema.TensorType.FLOAT32

    def restore_layout(self, constants: dict[str, StoredTensor]) -> None:
        """Turn this operator's weight, if it has one, from TFLite's layout into OIHW or [out, in]."""
        if self.kind not in _TFLITE_WEIGHTED:
            return
        name = self.inputs[1].name.decode()
        stored = constants.get(name)
        if stored is None:
            return
        values = stored.values
        if self.kind == "CONV_2D":
            values = values.transpose(0, 3, 1, 2)
        elif self.kind == "DEPTHWISE_CONV_2D":
            values = values.transpose(3, 0, 1, 2)
        constants[name] = msgspec.structs.replace(stored, values=values)
