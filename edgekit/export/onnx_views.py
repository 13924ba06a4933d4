"""Conversions of ONNX operators that only move values: Reshape, Transpose, Concat, Split, Slice, Pad and their kin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from onnx import TensorProto

from edgekit.core.graph import TOKEN_RANK
from edgekit.export.builder import Value
from edgekit.export.onnx_call import OnnxCall
from edgekit.export.onnx_layers import Conversion
from edgekit.export.onnx_lowering import shuffle_order

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


def _to_shape(call: OnnxCall, value: Value, shape: Sequence[int]) -> Value:
    target = tuple(int(size) for size in shape)
    if target == value.shape:
        return value
    return call.emit("Reshape", [value.name], {"shape": target})


def _reshape(call: OnnxCall) -> Value:
    value = call.value()
    wanted = [int(size) for size in call.array(1).reshape(-1)]
    if not call.integer("allowzero", 0):
        wanted = [
            value.shape[axis] if size == 0 and axis < len(value.shape) else size for axis, size in enumerate(wanted)
        ]
    if wanted and wanted[0] == call.batch:
        wanted[0] = 1  # The file was made for a larger batch; the hub graph has 1.
    if wanted.count(-1) == 1:
        known = -math.prod(wanted)
        total = math.prod(value.shape)
        if known <= 0 or total % known:
            raise call.fail(f"cannot reshape {value.shape} to {wanted}")
        wanted[wanted.index(-1)] = total // known
    if not wanted or wanted[0] != 1:
        raise call.fail(f"reshape of {value.shape} to {wanted} mixes the batch into other dimensions")
    return _to_shape(call, value, wanted)


def _flatten(call: OnnxCall) -> Value:
    value = call.value()
    if call.integer("axis", 1) % len(value.shape) != 1:
        raise call.fail("only axis 1 keeps the batch apart")
    return call.emit("Flatten", [value.name])


def _squeeze(call: OnnxCall) -> Value:
    value, axes = call.value(), call.ints_or_input("axes", 1)
    rank = len(value.shape)
    # Without axes every dimension of size 1 goes; the batch stays, as it would for a larger batch.
    dropped = {axis % rank for axis in axes} if axes is not None else {a for a in range(1, rank) if value.shape[a] == 1}
    if any(value.shape[axis] != 1 for axis in dropped) or 0 in dropped:
        raise call.fail(f"cannot squeeze axes {sorted(dropped)} of {value.shape}")
    return _to_shape(call, value, [size for axis, size in enumerate(value.shape) if axis not in dropped])


def _unsqueeze(call: OnnxCall) -> Value:
    value, axes = call.value(), call.ints_or_input("axes", 1) or ()
    rank = len(value.shape) + len(axes)
    added = {axis % rank for axis in axes}
    sizes = iter(value.shape)
    return _to_shape(call, value, [1 if axis in added else next(sizes) for axis in range(rank)])


def _transpose(call: OnnxCall) -> Value:
    value = call.value()
    perm = call.ints("perm", tuple(reversed(range(len(value.shape)))))
    return call.emit("Transpose", [value.name], {"perm": perm})


def _concat(call: OnnxCall) -> Value:
    values = [call.value(index) for index in range(len(call.inputs))]
    axis = call.integer("axis", 1) % len(values[0].shape)
    return call.emit("Concat", [value.name for value in values], {"axis": axis})


def _split(call: OnnxCall) -> tuple[Value, ...]:
    value = call.value()
    axis = call.integer("axis", 0) % len(value.shape)
    sizes = call.ints_or_input("split", 1)
    if sizes is None:
        count, length = len(call.outputs), value.shape[axis]
        chunk = -(length // -count)
        sizes = tuple(min(chunk, length - start) for start in range(0, length, chunk))
    if len(sizes) == 1:
        return (value,)
    return call.builder.add("Split", call.name, [value.name], {"axis": axis, "split": sizes}, outputs=call.outputs)


def _slice(call: OnnxCall) -> Value:
    result = call.value()
    starts, ends = call.ints_or_input("starts", 1), call.ints_or_input("ends", 2)
    if starts is None or ends is None:
        raise call.fail("starts or ends are missing")
    axes = call.ints_or_input("axes", 3) or tuple(range(len(starts)))
    steps = call.ints_or_input("steps", 4) or (1,) * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step != 1:
            raise call.fail(f"a slice with step {step} is not supported")
        dimension = axis % len(result.shape)
        result = _one_slice(call, result, dimension, slice(start, end).indices(result.shape[dimension])[:2])
    return result


def _one_slice(call: OnnxCall, value: Value, axis: int, limits: tuple[int, int]) -> Value:
    start, end = limits
    if (start, end) == (0, value.shape[axis]):
        return value
    return call.emit("Slice", [value.name], {"axis": axis, "start": start, "end": end})


def _gather(call: OnnxCall) -> Value:
    value, indices = call.value(), call.array(1)
    axis = call.integer("axis", 0) % len(value.shape)
    length = value.shape[axis]
    wanted = [int(index) % length for index in indices.reshape(-1)]
    if indices.ndim == 1 and axis == 1 and len(value.shape) == 4 and len(wanted) == length > 2:
        groups = length // wanted[1] if wanted[1] > 1 and length % wanted[1] == 0 else 1
        if groups > 1 and wanted == shuffle_order(length, groups).tolist():
            return call.emit("ChannelShuffle", [value.name], {"groups": groups})
    if indices.ndim != 1 or wanted != list(range(wanted[0], wanted[0] + len(wanted))):
        raise call.fail("only a run of neighbouring indices is supported, which is a slice, or a channel shuffle")
    return _one_slice(call, value, axis, (wanted[0], wanted[-1] + 1))


def _pad(call: OnnxCall) -> Value:
    value, mode = call.value(), call.text("mode", "constant")
    amounts = call.ints_or_input("pads", 1)
    rank = len(value.shape)
    if mode != "constant" or amounts is None:
        raise call.fail(f"padding mode {mode!r} is not supported, only 'constant'")
    axes = call.ints_or_input("axes", 3) or tuple(range(rank))
    fill = call.optional_array(2)
    number = call.number("value", 0.0) if fill is None or not fill.size else float(fill.reshape(-1)[0])
    full = np.zeros((2, rank), np.int64)
    full[:, [axis % rank for axis in axes]] = np.reshape(amounts, (2, -1))
    if rank not in (TOKEN_RANK, 4) or np.any(full < 0) or np.any(full[:, :-2]):
        raise call.fail(f"padding by {amounts} of {value.shape}; only the last two axes of maps and tokens can grow")
    pads = tuple(int(amount) for amount in full[:, -2:].reshape(-1))
    return call.emit("Pad", [value.name], {"pads": pads, "value": number})


def _cast(call: OnnxCall) -> Value:
    if call.integer("to", 0) not in _FLOATS:
        raise call.fail("an activation is cast to a type that is not float")
    return call.value()


def _expand(call: OnnxCall) -> Value:
    value = call.value()
    shape = tuple(int(size) for size in call.array(1).reshape(-1))
    if np.broadcast_shapes(value.shape, shape) != value.shape:
        raise call.fail(f"expanding {value.shape} to {shape} is not supported; Mul and Add broadcast by themselves")
    return value


def _identity(call: OnnxCall) -> Value:
    return call.value()


VIEW_CONVERSIONS: Mapping[str, Conversion] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Cast": _cast,
    "CastLike": _identity,
    "Expand": _expand,
    "Identity": _identity,
    "Dropout": _identity,
}
"""Operators that only move values."""
