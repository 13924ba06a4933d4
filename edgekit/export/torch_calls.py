"""Conversions of the torch functions and tensor methods that a forward() calls on activations."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses.
from torch import nn

from edgekit.export.builder import Value
from edgekit.export.torch_layers import (
    HARD_SIGMOID,
    adaptive_avg_pool,
    conv_pads,
    flatten,
    gelu,
    pool,
    response_norm,
    silu,
    softmax,
    zero_pad,
)
from edgekit.export.torch_walk import Pair, Parameter, Walk, pair

Call: TypeAlias = Callable[..., Any]
Operand: TypeAlias = Value | Parameter | torch.Tensor | float
Dims: TypeAlias = int | Sequence[int] | None
Index: TypeAlias = Any
"""What stands in x[...]: an integer, a slice, or a tuple of them."""
Extracted: TypeAlias = Any
"""What x[...] or x.name gives: a Value, or plain Python data."""


def _binary(op: str) -> Call:
    def convert(walk: Walk, first: Operand, second: Operand, *, alpha: float = 1) -> Value:
        if alpha != 1:
            raise walk.unsupported(f"add with alpha={alpha}")
        rank = max(len(operand.shape) for operand in (first, second) if isinstance(operand, Value))
        values = [operand for operand in (first, second) if isinstance(operand, Value)]
        others = [operand for operand in (first, second) if not isinstance(operand, Value)]
        return walk.emit_one(op, [*(value.name for value in values), *(walk.operand(other, rank) for other in others)])

    return convert


def _subtract(walk: Walk, first: Operand, second: Operand) -> Value:
    if isinstance(second, Value) or not isinstance(first, Value):
        raise walk.unsupported("subtraction of an activation")
    return _binary("Add")(walk, first, -_tensor(second))


def _divide(walk: Walk, first: Operand, second: Operand) -> Value:
    if isinstance(second, Value) or not isinstance(first, Value):
        raise walk.unsupported("division by an activation")
    return _binary("Mul")(walk, first, 1.0 / _tensor(second).to(torch.float64))


def _tensor(operand: Operand) -> torch.Tensor:
    if isinstance(operand, Parameter):
        return operand.tensor
    return torch.as_tensor(operand)


def _unary(op: str, **attrs: float) -> Call:
    def convert(walk: Walk, x: Value, inplace: bool = False) -> Value:
        del inplace  # Values are immutable here; in place or not is the same.
        return walk.emit_one(op, [x.name], attrs)

    return convert


def _clamp(walk: Walk, x: Value, min: float | None = None, max: float | None = None, **_inplace: bool) -> Value:
    largest = float(torch.finfo(torch.float32).max)
    bounds = {"min": -largest if min is None else float(min), "max": largest if max is None else float(max)}
    return walk.emit_one("Clip", [x.name], bounds)


def _hardtanh(walk: Walk, x: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Value:
    del inplace
    return _clamp(walk, x, min_val, max_val)


def _identity(_walk: Walk, x: Value, *_args: object, **_kwargs: object) -> Value:
    return x


def _concat(walk: Walk, tensors: Sequence[Value], dim: int = 0) -> Value:
    return walk.emit_one("Concat", [value.name for value in tensors], {"axis": dim % len(tensors[0].shape)})


def _split(walk: Walk, x: Value, split_size: int | Sequence[int], dim: int = 0) -> tuple[Value, ...]:
    axis = dim % len(x.shape)
    if isinstance(split_size, int):
        length = x.shape[axis]
        sizes = tuple(min(split_size, length - start) for start in range(0, length, split_size))
    else:
        sizes = tuple(split_size)
    if len(sizes) == 1:
        return (x,)
    return walk.emit("Split", [x.name], {"axis": axis, "split": sizes}, num_outputs=len(sizes))


def _chunk(walk: Walk, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    return _split(walk, x, math.ceil(x.shape[dim] / chunks), dim)


def _getitem(walk: Walk, x: Value | Sequence[Value], index: Index) -> Extracted:
    if not isinstance(x, Value):
        return x[index]
    result = x
    for axis, part in enumerate(index if isinstance(index, tuple) else (index,)):
        if not isinstance(part, slice):
            raise walk.unsupported(f"indexing with {part!r}, which is no slice,")
        start, end, step = part.indices(result.shape[axis])
        if step != 1:
            raise walk.unsupported(f"a slice with step {step}")
        if (start, end) != (0, result.shape[axis]):
            result = walk.emit_one("Slice", [result.name], {"axis": axis, "start": start, "end": end})
    return result


def _getattr(walk: Walk, x: Value, name: str) -> Extracted:
    if name == "shape":
        return x.shape
    if name == "ndim":
        return len(x.shape)
    raise walk.unsupported(f"attribute {name!r} of a tensor")


def _size(_walk: Walk, x: Value, dim: int | None = None) -> int | tuple[int, ...]:
    return x.shape if dim is None else x.shape[dim]


def _reshape(walk: Walk, x: Value, *shape: Any) -> Value:
    wanted = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    known = math.prod(size for size in wanted if size != -1)
    target = tuple(math.prod(x.shape) // known if size == -1 else int(size) for size in wanted)
    return walk.emit_one("Reshape", [x.name], {"shape": target})


def _transpose(walk: Walk, x: Value, dim0: int, dim1: int) -> Value:
    perm = list(range(len(x.shape)))
    perm[dim0], perm[dim1] = perm[dim1], perm[dim0]
    return walk.emit_one("Transpose", [x.name], {"perm": tuple(perm)})


def _permute(walk: Walk, x: Value, *dims: Any) -> Value:
    order = tuple(dims[0]) if len(dims) == 1 and not isinstance(dims[0], int) else dims
    return walk.emit_one("Transpose", [x.name], {"perm": tuple(dim % len(x.shape) for dim in order)})


def _mean(walk: Walk, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    axes = {axis % len(x.shape) for axis in (dim if isinstance(dim, Sequence) else (dim,)) if axis is not None}
    if len(x.shape) != 4 or axes != {2, 3}:
        raise walk.unsupported(f"mean over {dim} of an input of shape {x.shape}, expected over height and width,")
    pooled = walk.emit_one("GlobalAveragePool", [x.name], step="globalaveragepool")
    return pooled if keepdim else walk.emit_one("Flatten", [pooled.name])


def _flatten(walk: Walk, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    return flatten(walk, x, start_dim, end_dim)


def _squeeze(walk: Walk, x: Value, dim: Dims = None) -> Value:
    rank = len(x.shape)
    dims = range(1, rank) if dim is None else [axis % rank for axis in (dim if isinstance(dim, Sequence) else (dim,))]
    kept = tuple(size for axis, size in enumerate(x.shape) if axis not in dims or size != 1)
    return walk.emit_one("Reshape", [x.name], {"shape": kept})


def _unsqueeze(walk: Walk, x: Value, dim: int) -> Value:
    axis = dim % (len(x.shape) + 1)
    return walk.emit_one("Reshape", [x.name], {"shape": (*x.shape[:axis], 1, *x.shape[axis:])})


def _max_pool(  # noqa: PLR0913, PLR0917 - the signature is torch's
    walk: Walk,
    x: Value,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    if pair(dilation) != (1, 1) or return_indices:
        raise walk.unsupported("max_pool2d with dilation or indices")
    layer = nn.MaxPool2d(kernel_size, stride, padding, ceil_mode=ceil_mode)  # type: ignore[arg-type]
    return pool(walk, "MaxPool", x, layer, count_include_pad=False)


def _avg_pool(  # noqa: PLR0913, PLR0917 - the signature is torch's
    walk: Walk,
    x: Value,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Value:
    layer = nn.AvgPool2d(kernel_size, stride, padding, ceil_mode)  # type: ignore[arg-type]
    return pool(walk, "AveragePool", x, layer, count_include_pad=count_include_pad)


def _pad(walk: Walk, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    if mode != "constant":
        raise walk.unsupported(f"pad with mode {mode!r}")
    return zero_pad(walk, x, tuple(pad), 0.0 if value is None else value)


def _conv2d(  # noqa: PLR0913, PLR0917 - the signature is torch's
    walk: Walk,
    x: Value,
    weight: Parameter,
    bias: Parameter | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Value:
    inputs = [x.name, *(walk.constant(item.path, item.tensor) for item in (weight, bias) if item is not None)]
    kernel = pair(tuple(weight.tensor.shape[2:]))
    attrs = {
        "strides": pair(stride),
        "pads": conv_pads(padding, kernel, pair(dilation)),
        "dilations": pair(dilation),
        "group": groups,
    }
    return walk.emit_one("Conv", inputs, attrs)


def _linear(walk: Walk, x: Value, weight: Parameter, bias: Parameter | None = None) -> Value:
    inputs = [x.name, *(walk.constant(item.path, item.tensor) for item in (weight, bias) if item is not None)]
    return walk.emit_one("Gemm", inputs)


def _adaptive(walk: Walk, x: Value, output_size: Pair | tuple[int | None, ...] | None) -> Value:
    return adaptive_avg_pool(walk, x, output_size)


def _silu(walk: Walk, x: Value, inplace: bool = False) -> Value:
    del inplace
    return silu(walk, x)


def _response_norm(walk: Walk, x: Value, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Value:
    return response_norm(walk, x, size, alpha, beta, k)


def _gelu(walk: Walk, x: Value, approximate: str = "none") -> Value:
    return gelu(walk, x, approximate)


def _softmax(walk: Walk, x: Value, dim: int | None = None, **_kwargs: object) -> Value:
    return softmax(walk, x, dim)


def _shuffle(walk: Walk, x: Value, groups: int) -> Value:
    return walk.emit_one("ChannelShuffle", [x.name], {"groups": groups})


_CONVERSIONS: tuple[tuple[Call, tuple[Any, ...]], ...] = (
    (_binary("Add"), (operator.add, operator.iadd, torch.add, "add", "add_")),
    (_binary("Mul"), (operator.mul, operator.imul, torch.mul, "mul", "mul_")),
    (_subtract, (operator.sub, torch.sub, "sub")),
    (_divide, (operator.truediv, torch.div, "div")),
    (_unary("Relu"), (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")),
    (_unary("Clip", min=0.0, max=6.0), (F.relu6,)),
    (_unary("Sigmoid"), (F.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_")),
    (_unary("HardSwish"), (F.hardswish,)),
    (_unary("HardSigmoid", **HARD_SIGMOID), (F.hardsigmoid,)),
    (_silu, (F.silu,)),
    (_gelu, (F.gelu,)),
    (_clamp, (torch.clamp, torch.clip, "clamp", "clamp_", "clip")),
    (_hardtanh, (F.hardtanh,)),
    (_response_norm, (F.local_response_norm,)),
    (_softmax, (F.softmax, torch.softmax, "softmax")),
    (_identity, (F.dropout, F.dropout2d, "contiguous", "to", "float", "clone", "detach")),
    (_concat, (torch.cat, torch.concat, torch.concatenate)),
    (_split, (torch.split, torch.functional.split, "split")),
    (_chunk, (torch.chunk, "chunk")),
    (_getitem, (operator.getitem,)),
    (_getattr, (getattr,)),
    (_size, ("size",)),
    (lambda _walk, x: len(x.shape), ("dim",)),
    (_reshape, ("view", "reshape", torch.reshape)),
    (_transpose, ("transpose", torch.transpose)),
    (_permute, ("permute", torch.permute)),
    (_mean, ("mean", torch.mean)),
    (_flatten, ("flatten", torch.flatten)),
    (_squeeze, ("squeeze", torch.squeeze)),
    (_unsqueeze, ("unsqueeze", torch.unsqueeze)),
    (_max_pool, (F.max_pool2d, torch.max_pool2d)),
    (_avg_pool, (F.avg_pool2d,)),
    (_adaptive, (F.adaptive_avg_pool2d,)),
    (_pad, (F.pad,)),
    (_conv2d, (F.conv2d, torch.conv2d)),
    (_linear, (F.linear,)),
    (_shuffle, (F.channel_shuffle, torch.channel_shuffle)),
)

CALLS: Mapping[Any, Call] = {target: convert for convert, targets in _CONVERSIONS for target in targets}
"""Function object or method name -> its conversion."""
