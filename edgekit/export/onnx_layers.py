"""Conversions of ONNX layers and arithmetic: Conv, Gemm, MatMul, BatchNormalization, pools, Add, Mul, activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.graph import TOKEN_RANK, Array, Attribute
from edgekit.export.builder import Value
from edgekit.export.onnx_call import OnnxCall, Operand
from edgekit.export.shapes import ceil_padding

Conversion: TypeAlias = Callable[[OnnxCall], Value | tuple[Value, ...]]

LARGEST = float(np.finfo(np.float32).max)


def _window_pads(
    call: OnnxCall, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[int, ...]:
    """(top, left, bottom, right), with auto_pad resolved for the input at hand."""
    mode = call.text("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return call.ints("pads", (0, 0, 0, 0))
    if mode == "VALID":
        return 0, 0, 0, 0
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise call.fail(f"auto_pad {mode!r} is unknown")
    before: list[int] = []
    after: list[int] = []
    for size, window, stride, dilation in zip(call.value().shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(size // -stride) - 1) * stride + dilation * (window - 1) + 1 - size)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return *before, *after


def _require_picture(call: OnnxCall) -> Value:
    value = call.value()
    if len(value.shape) != 4:
        raise call.fail(
            f"expected an input [N, C, H, W], got {value.shape}", "only two-dimensional layers are supported"
        )
    return value


def _conv(call: OnnxCall) -> Value:
    value, weight = _require_picture(call), call.array(1)
    kernel = tuple(int(size) for size in weight.shape[2:])
    strides, dilations = call.ints("strides", (1, 1)), call.ints("dilations", (1, 1))
    inputs = [value.name, call.constant(1)]
    if call.optional_array(2) is not None:
        inputs.append(call.constant(2))
    attrs: dict[str, Attribute] = {
        "strides": strides,
        "pads": _window_pads(call, kernel, strides, dilations),
        "dilations": dilations,
        "group": call.integer("group", 1),
    }
    return call.emit("Conv", inputs, attrs)


def _gemm(call: OnnxCall) -> Value:
    if call.integer("transA", 0):
        raise call.fail("transA = 1 transposes the batch")
    weight = call.array(1).astype(np.float64) * call.number("alpha", 1.0)
    return _linear(call, weight if call.integer("transB", 0) else weight.T, call.operand(2), call.number("beta", 1.0))


def _matmul(call: OnnxCall) -> Value:
    other = call.operand(1)
    if isinstance(other, Value):  # canonical only as a part of attention
        return call.emit("MatMul", [call.value().name, other.name])
    return _linear(call, call.array(1).T, None, 1.0)


def _linear(call: OnnxCall, weight: Array, bias: Operand, beta: float) -> Value:
    """Gemm: x @ weight.T + beta * bias, weight [out, in]."""
    value = call.value()
    ranks = (2, TOKEN_RANK) if call.op == "MatMul" else (2,)
    if len(value.shape) not in ranks or weight.ndim != 2:
        raise call.fail(f"expected [N, in] * [in, out], got {value.shape} * {weight.shape[::-1]}")
    inputs = [value.name, call.constant(1, weight)]
    if isinstance(bias, Value):
        if beta != 1.0:
            raise call.fail(f"beta = {beta} on a computed bias")
        return call.emit("Add", [call.step("Gemm", inputs).name, bias.name])
    if bias is not None:
        inputs.append(call.constant(2, _bias_vector(call, bias, weight.shape[0]) * beta))
    return call.emit("Gemm", inputs)


def _bias_vector(call: OnnxCall, bias: Array, num_outputs: int) -> npt.NDArray[np.float64]:
    if bias.size not in (1, num_outputs) or (bias.ndim and bias.shape[-1] != bias.size):
        raise call.fail(f"expected a bias of {num_outputs}, got shape {bias.shape}")
    return np.broadcast_to(bias.astype(np.float64).reshape(-1), (num_outputs,))


def _batch_norm(call: OnnxCall) -> Value:
    if call.integer("training_mode", 0):
        raise call.fail("it is in training mode", "export the model in evaluation mode (model.eval())")
    inputs = [call.value().name, *(call.constant(index) for index in range(1, 5))]
    return call.emit("BatchNormalization", inputs, {"epsilon": call.number("epsilon", 1e-5)})


def _pool(call: OnnxCall) -> Value:
    value = _require_picture(call)
    kernel = call.ints("kernel_shape")
    strides = call.ints("strides", (1, 1))
    if any(step != 1 for step in call.ints("dilations", (1, 1))):
        raise call.fail("dilated pooling is not supported")
    if call.integer("p", 2) != 2 or len(kernel) != 2:
        raise call.fail(f"expected a two-dimensional window, got {kernel}")
    top, left, bottom, right = _window_pads(call, kernel, strides, (1, 1))
    counts_padding = bool(call.integer("count_include_pad", 0)) and any((top, left, bottom, right))
    if call.integer("ceil_mode", 0):
        ends = ((top, bottom), (left, right))
        extra = [ceil_padding(*each) for each in zip(value.shape[2:], kernel, strides, ends, strict=True)]
        if counts_padding and any(extra):
            raise call.fail("count_include_pad with padding and a ceil_mode that rounds up")
        bottom, right = bottom + extra[0], right + extra[1]
    attrs: dict[str, Attribute] = {"kernel_shape": kernel, "strides": strides, "pads": (top, left, bottom, right)}
    if call.op == "AveragePool":
        attrs["count_include_pad"] = int(counts_padding)
    return call.emit(call.op, [value.name], attrs)


def _global_max_pool(call: OnnxCall) -> Value:
    value = _require_picture(call)
    attrs: dict[str, Attribute] = {"kernel_shape": value.shape[2:], "strides": (1, 1), "pads": (0, 0, 0, 0)}
    return call.emit("MaxPool", [value.name], attrs)


def _reduce_mean(call: OnnxCall) -> Value:
    value, axes = call.value(), call.ints_or_input("axes", 1)
    rank = len(value.shape)
    if rank != 4 or axes is None or {axis % rank for axis in axes} != {2, 3}:
        raise call.fail(f"mean over axes {axes} of {value.shape}; only over height and width of [N, C, H, W]")
    if call.integer("keepdims", 1):
        return call.emit("GlobalAveragePool", [value.name])
    return call.emit("Flatten", [call.step("GlobalAveragePool", [value.name]).name])


def _operands(call: OnnxCall) -> tuple[Value, Operand, int]:
    """(activation, the other operand, its index) of a binary operator with at least one activation."""
    first, second = call.operand(0), call.operand(1)
    if isinstance(first, Value):
        return first, second, 1
    return call.value(1), first, 0


def _with_constant(call: OnnxCall, op: str, array: Array, index: int, value: Value, *, final: bool = True) -> Value:
    rank = len(value.shape)
    if array.ndim > rank:
        raise call.fail(f"constant of shape {array.shape} has more dimensions than the activation {value.shape}")
    full = np.reshape(array, (1,) * (rank - array.ndim) + array.shape)
    inputs = [value.name, call.constant(index, full)]
    return call.emit(op, inputs) if final else call.step(op, inputs)


def _commutative(call: OnnxCall) -> Value:
    value, other, index = _operands(call)
    if isinstance(other, Value):
        return call.emit(call.op, [value.name, other.name])
    return _with_constant(call, call.op, call.array(index), index, value)


def _sub(call: OnnxCall) -> Value:
    value, _, index = _operands(call)
    if index == 1:
        return _with_constant(call, "Add", -call.array(1).astype(np.float32), 1, value)
    negative = call.step(
        "Mul",
        [value.name, call.builder.constant(f"{call.name}/minus_one", -np.ones((1,) * len(value.shape), np.float32))],
    )
    return _with_constant(call, "Add", call.array(0), 0, negative)


def _div(call: OnnxCall) -> Value:
    value, _, index = _operands(call)
    if index != 1:
        raise call.fail("division by an activation is not supported")
    divisor = call.array(1).astype(np.float64)
    if np.any(divisor == 0):
        raise call.fail("division by zero")
    return _with_constant(call, "Mul", 1.0 / divisor, 1, value)


def _sum(call: OnnxCall) -> Value:
    total = call.value(0)
    for index in range(1, len(call.inputs) - 1):
        total = call.step("Add", [total.name, call.value(index).name])
    if len(call.inputs) == 1:
        return total
    return call.emit("Add", [total.name, call.value(len(call.inputs) - 1).name])


def _clip(call: OnnxCall) -> Value:
    bounds: list[float] = []
    for index, (key, default) in enumerate((("min", -LARGEST), ("max", LARGEST)), start=1):
        array = call.optional_array(index)
        bounds.append(call.number(key, default) if array is None else float(array.reshape(-1)[0]))
    low, high = max(bounds[0], -LARGEST), min(bounds[1], LARGEST)
    return call.emit("Clip", [call.value().name], {"min": low, "max": high})


def _limit(call: OnnxCall) -> Value:
    """Max or Min with one number is a one-sided Clip."""
    value, other, index = _operands(call)
    if isinstance(other, Value) or len(call.inputs) != 2 or call.array(index).size != 1:
        raise call.fail("only the maximum or minimum with one number is supported")
    number = float(call.array(index).reshape(-1)[0])
    bounds = {"min": number, "max": LARGEST} if call.op == "Max" else {"min": -LARGEST, "max": number}
    return call.emit("Clip", [value.name], bounds)


def _unary(call: OnnxCall) -> Value:
    return call.emit(call.op, [call.value().name])


def _hard_sigmoid(call: OnnxCall) -> Value:
    attrs = {"alpha": call.number("alpha", 0.2), "beta": call.number("beta", 0.5)}
    return call.emit("HardSigmoid", [call.value().name], attrs)


def _softmax(call: OnnxCall) -> Value:
    value = call.value()
    rank = len(value.shape)
    axis = call.integer("axis", 1 if call.opset < 13 else -1) % rank
    if call.opset < 13 and any(size != 1 for size in value.shape[axis + 1 :]):
        raise call.fail("Softmax over several axes at once (operator sets before 13)")
    return call.emit("Softmax", [value.name], {"axis": axis})


def _layer_norm(call: OnnxCall) -> Value:
    value, scale = call.value(), call.array(1)
    axis = call.integer("axis", -1) % len(value.shape)
    if axis != len(value.shape) - 1 or len(call.outputs) > 1:
        raise call.fail(f"normalization from axis {axis} of {value.shape}; only of the last axis, without statistics")
    shift = call.optional_array(2)
    second = call.constant(2) if shift is not None else call.builder.constant(f"{call.name}.bias", np.zeros_like(scale))
    attrs: dict[str, Attribute] = {"epsilon": call.number("epsilon", 1e-5)}
    return call.emit("LayerNormalization", [value.name, call.constant(1), second], attrs)


def _gelu(call: OnnxCall) -> Value:
    if call.text("approximate", "none") != "none":
        raise call.fail("only the exact form is supported, not its tanh form")
    return _unary(call)


def _response_norm(call: OnnxCall) -> Value:
    attrs: dict[str, Attribute] = {
        "size": call.integer("size", 1),
        "alpha": call.number("alpha", 1e-4),
        "beta": call.number("beta", 0.75),
        "bias": call.number("bias", 1.0),
    }
    return call.emit("LRN", [_require_picture(call).name], attrs)


LAYER_CONVERSIONS: Mapping[str, Conversion] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": lambda call: call.emit("GlobalAveragePool", [_require_picture(call).name]),
    "GlobalMaxPool": _global_max_pool,
    "ReduceMean": _reduce_mean,
    "Add": _commutative,
    "Mul": _commutative,
    "Sub": _sub,
    "Div": _div,
    "Sum": _sum,
    "Clip": _clip,
    "Max": _limit,
    "Min": _limit,
    "Relu": _unary,
    "Sigmoid": _unary,
    "HardSwish": _unary,
    "HardSigmoid": _hard_sigmoid,
    "LRN": _response_norm,
    "LayerNormalization": _layer_norm,
    "Gelu": _gelu,
    "Erf": _unary,
    "Softmax": _softmax,
}
"""Operators that compute."""
