"""Read a .tflite file as data: its tensors and operators, with the integers that it stores. No runtime, no TensorFlow.

Field by field through the generated schema: nothing is unpacked that is not asked for, and the counts are capped, so a
file that lies about its sizes costs an error, not memory or time.
"""

from __future__ import annotations

import math
import struct
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.errors import IntegrityError

FILE_IDENTIFIER = b"TFL3"
MAX_OPERATORS = 2048
MAX_TENSORS = 8192

_Generated: TypeAlias = Any
"""A table of the generated schema, whose accessors carry no types."""

_HINT = "is it a .tflite file, whole?"


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_OPERATORS = _names(schema.BuiltinOperator)
_TYPES = _names(schema.TensorType)
_ACTIVATIONS = _names(schema.ActivationFunctionType)
_PADDINGS = _names(schema.Padding)
_DTYPES: dict[str, np.dtype[Any]] = {
    "INT8": np.dtype("i1"),
    "UINT8": np.dtype("u1"),
    "INT32": np.dtype("<i4"),
    "FLOAT32": np.dtype("<f4"),
}
_OPTIONS = {
    "CONV_2D": schema.Conv2DOptions,
    "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptions,
    "AVERAGE_POOL_2D": schema.Pool2DOptions,
    "FULLY_CONNECTED": schema.FullyConnectedOptions,
    "ADD": schema.AddOptions,
}


class TfliteTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of the file.

    Args:
        name: As the file calls it.
        shape: Sizes; NHWC for maps.
        type: "INT8", "UINT8", "INT32", "FLOAT32", ...
        scale: float32, one per tensor or per slice along `axis`; empty without a grid.
        zero_point: int64, as many.
        axis: Dimension of a per_channel grid.
        values: What the file stores, of `shape`; None for activations.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int
    values: npt.NDArray[Any] | None


class TfliteOperator(msgspec.Struct, frozen=True, kw_only=True):
    """An operator of the file.

    Args:
        kind: "CONV_2D", "ADD", ...
        inputs: Indices of tensors; -1 for one that is left out.
        outputs: Indices of tensors.
        activation: "NONE", "RELU", "RELU6", ...: what is fused into it.
        padding: "SAME" or "VALID"; "" for operators without a window.
        strides: Height and width.
        dilations: Height and width.
        window: Height and width of a pool; (1, 1) for other operators, whose window is their weight's.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str = "NONE"
    padding: str = ""
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    window: tuple[int, int] = (1, 1)


class TfliteFile(msgspec.Struct, frozen=True, kw_only=True):
    """The one subgraph of a file, operators in execution order.

    Args:
        tensors: All of them.
        operators: All of them; every index in them is one of a tensor.
        inputs: Indices of the network's inputs.
        outputs: Indices of its outputs.
    """

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(content: bytes) -> TfliteFile:
    """Read the bytes of a .tflite file.

    Raises:
        IntegrityError: They are none, or are damaged, or say what no file of one network says.
    """
    if content[4:8] != FILE_IDENTIFIER:
        raise IntegrityError(f"no TFLite file: bytes 4 to 7 are {content[4:8]!r}, expected {FILE_IDENTIFIER!r}")
    try:
        return _read(schema.Model.GetRootAs(content))
    except (struct.error, LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        # The generated accessors trust every offset: a damaged one surfaces in any of these.
        raise IntegrityError(f"damaged TFLite file of {len(content)} bytes: {error}", hint=_HINT) from error


def dequantize(tensor: TfliteTensor, *, scale: npt.NDArray[np.float64] | None = None) -> npt.NDArray[np.float32]:
    """Real values of a stored tensor, rounded once: scale * (integer - zero-point).

    Args:
        tensor: With values of integers.
        scale: Another grid than the tensor's own, float64, as long as its own or 1 (a kernel takes a bias as lying on
            input scale * weight scale, whatever scale the file states).

    Raises:
        IntegrityError: No values, no integers, no grid, or one that is no grid.
    """
    what = f"tensor {tensor.name!r}"
    if tensor.values is None:
        raise IntegrityError(f"{what} has no values in the file", hint=_HINT)
    steps = tensor.scale.astype(np.float64) if scale is None else scale
    zero_point = tensor.zero_point if tensor.zero_point.size else np.zeros(1, np.int64)
    if tensor.values.dtype.kind not in "iu" or steps.size == 0:
        raise IntegrityError(
            f"{what} is {tensor.type} with {steps.size} scales, expected integers on a grid",
            hint="only quantized files are read here",
        )
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise IntegrityError(f"{what} has scales that are not positive: {steps.min()} to {steps.max()}")
    length = tensor.values.shape[tensor.axis] if 0 <= tensor.axis < tensor.values.ndim else 0
    if not {steps.size, zero_point.size} <= {1, length}:
        raise IntegrityError(
            f"{what} of shape {list(tensor.shape)} has {steps.size} scales and {zero_point.size} zero-points "
            f"along axis {tensor.axis}"
        )
    along = [length if axis == tensor.axis else 1 for axis in range(tensor.values.ndim)]
    steps, zero_point = (
        np.broadcast_to(grid, length).reshape(along) if grid.size > 1 else grid for grid in (steps, zero_point)
    )
    return ((tensor.values.astype(np.int64) - zero_point) * steps).astype(np.float32)


def _read(model: _Generated) -> TfliteFile:
    if model.SubgraphsLength() != 1:
        raise IntegrityError(f"the TFLite file has {model.SubgraphsLength()} subgraphs, expected 1", hint=_HINT)
    graph = model.Subgraphs(0)
    counts = (graph.TensorsLength(), graph.OperatorsLength())
    if not (0 < counts[0] <= MAX_TENSORS and 0 < counts[1] <= MAX_OPERATORS):
        raise IntegrityError(
            f"the TFLite file states {counts[0]} tensors and {counts[1]} operators, "
            f"expected 1 to {MAX_TENSORS} and 1 to {MAX_OPERATORS}",
            hint=_HINT,
        )
    tensors = tuple(_tensor(model, graph.Tensors(index)) for index in range(counts[0]))
    operators = tuple(_operator(model, graph.Operators(index)) for index in range(counts[1]))
    inputs, outputs = _indices(graph.InputsAsNumpy()), _indices(graph.OutputsAsNumpy())
    for index in (*inputs, *outputs, *(index for one in operators for index in (*one.inputs, *one.outputs))):
        if not -1 <= index < len(tensors):
            raise IntegrityError(f"the TFLite file names tensor {index} of {len(tensors)}", hint=_HINT)
    return TfliteFile(tensors=tensors, operators=operators, inputs=inputs, outputs=outputs)


def _tensor(model: _Generated, tensor: _Generated) -> TfliteTensor:
    name = (tensor.Name() or b"").decode(errors="replace")
    type_name = _TYPES.get(tensor.Type(), str(tensor.Type()))
    shape = _indices(tensor.ShapeAsNumpy())
    if tensor.Sparsity() is not None:
        raise IntegrityError(f"tensor {name!r} is stored sparse, expected dense")
    scale, zero_point, axis = _grid(tensor.Quantization())
    return TfliteTensor(
        name=name,
        shape=shape,
        type=type_name,
        scale=scale,
        zero_point=zero_point,
        axis=axis,
        values=_values(model, tensor.Buffer(), name, _DTYPES.get(type_name), shape),
    )


def _grid(quantization: _Generated) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]:
    """Scales, zero-points and axis; empty where there are none."""
    if quantization is None or quantization.ScaleLength() == 0:
        return np.empty(0, np.float32), np.empty(0, np.int64), 0
    zero_point = quantization.ZeroPointAsNumpy() if quantization.ZeroPointLength() else ()
    scale = np.array(quantization.ScaleAsNumpy(), np.float32)
    return scale, np.array(zero_point, np.int64), quantization.QuantizedDimension()


def _values(
    model: _Generated, buffer: int, name: str, dtype: np.dtype[Any] | None, shape: tuple[int, ...]
) -> npt.NDArray[Any] | None:
    """What the file stores of a tensor; None for activations, and for types that no layer is made of."""
    if not 0 < buffer < model.BuffersLength() or dtype is None:
        return None
    stored = model.Buffers(buffer)
    if stored.DataLength() == 0:
        return None
    content = stored.DataAsNumpy()
    if min(shape, default=1) < 1 or content.size != math.prod(shape) * dtype.itemsize:
        raise IntegrityError(
            f"tensor {name!r} of shape {list(shape)} stores {content.size} bytes, "
            f"expected {math.prod(shape) * dtype.itemsize}",
            hint=_HINT,
        )
    return content.view(dtype).reshape(shape)


def _operator(model: _Generated, operator: _Generated) -> TfliteOperator:
    if not 0 <= operator.OpcodeIndex() < model.OperatorCodesLength():
        raise IntegrityError(f"the TFLite file names operator code {operator.OpcodeIndex()}", hint=_HINT)
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Up to TF 2.3 only the one-byte field was written; today both are, and the larger counts.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = _OPERATORS.get(number, str(number))
    inputs, outputs = _indices(operator.InputsAsNumpy()), _indices(operator.OutputsAsNumpy())
    table = operator.BuiltinOptions()
    if kind not in _OPTIONS or table is None:
        return TfliteOperator(kind=kind, inputs=inputs, outputs=outputs)
    options: _Generated = _OPTIONS[kind]()
    options.Init(table.Bytes, table.Pos)
    activation = _ACTIVATIONS.get(options.FusedActivationFunction(), str(options.FusedActivationFunction()))
    if not hasattr(options, "Padding"):
        return TfliteOperator(kind=kind, inputs=inputs, outputs=outputs, activation=activation)
    is_pool = kind == "AVERAGE_POOL_2D"
    return TfliteOperator(
        kind=kind,
        inputs=inputs,
        outputs=outputs,
        activation=activation,
        padding=_PADDINGS.get(options.Padding(), str(options.Padding())),
        strides=(options.StrideH(), options.StrideW()),
        dilations=(1, 1) if is_pool else (options.DilationHFactor(), options.DilationWFactor()),
        window=(options.FilterHeight(), options.FilterWidth()) if is_pool else (1, 1),
    )


def _indices(vector: npt.NDArray[np.int32] | int) -> tuple[int, ...]:
    """A vector of integers; the schema's accessors give 0 for one that is absent."""
    return () if isinstance(vector, int) else tuple(vector.tolist())
