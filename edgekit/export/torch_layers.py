"""Conversions of `torch.nn` layers, by type. A layer that is not here is an UnsupportedOpError."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn

from edgekit.core.graph import TOKEN_RANK
from edgekit.export.builder import Value
from edgekit.export.shapes import ceil_padding
from edgekit.export.torch_walk import Pair, Walk, pair
from edgekit.models.layers import SelfAttention

LayerConversion: TypeAlias = Callable[[Walk, Any, Value], Value]


def conv2d(walk: Walk, layer: nn.Conv2d, x: Value) -> Value:
    """Convolution with explicit pads."""
    if layer.padding_mode != "zeros":
        raise walk.unsupported(f"padding_mode {layer.padding_mode!r}")
    inputs = [x.name, walk.constant(f"{walk.path}.weight", layer.weight)]
    if layer.bias is not None:
        inputs.append(walk.constant(f"{walk.path}.bias", layer.bias))
    kernel, dilations = pair(layer.kernel_size), pair(layer.dilation)
    attrs = {
        "strides": pair(layer.stride),
        "pads": conv_pads(layer.padding, kernel, dilations),
        "dilations": dilations,
        "group": layer.groups,
    }
    return walk.emit_one("Conv", inputs, attrs)


def conv_pads(padding: Pair | str, kernel: tuple[int, int], dilations: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of torch's `padding` argument; "same" puts the odd pixel at the end.

    >>> conv_pads("same", (3, 4), (1, 1))
    (1, 1, 1, 2)
    """
    if padding == "valid":
        padding = 0
    if isinstance(padding, str):
        total = [dilation * (size - 1) for size, dilation in zip(kernel, dilations, strict=True)]
        return total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2
    vertical, horizontal = pair(padding)
    return vertical, horizontal, vertical, horizontal


def batch_norm(walk: Walk, layer: nn.BatchNorm2d, x: Value) -> Value:
    """BatchNorm with running statistics; folded later."""
    if layer.running_mean is None or layer.running_var is None:
        raise walk.unsupported("BatchNorm without running statistics")
    ones = torch.ones_like(layer.running_mean)
    gamma = layer.weight if layer.weight is not None else ones
    beta = layer.bias if layer.bias is not None else torch.zeros_like(ones)
    tensors = {"weight": gamma, "bias": beta, "running_mean": layer.running_mean, "running_var": layer.running_var}
    inputs = [walk.constant(f"{walk.path}.{key}", tensor) for key, tensor in tensors.items()]
    return walk.emit_one("BatchNormalization", [x.name, *inputs], {"epsilon": float(layer.eps)})


def linear(walk: Walk, layer: nn.Linear, x: Value) -> Value:
    """Fully connected layer on [N, in], or token by token on [N, T, in]."""
    if len(x.shape) not in (2, TOKEN_RANK):
        raise walk.unsupported(f"Linear on an input of shape {x.shape}, expected [N, in] or [N, T, in],")
    inputs = [x.name, walk.constant(f"{walk.path}.weight", layer.weight)]
    if layer.bias is not None:
        inputs.append(walk.constant(f"{walk.path}.bias", layer.bias))
    return walk.emit_one("Gemm", inputs)


def max_pool(walk: Walk, layer: nn.MaxPool2d, x: Value) -> Value:
    """Max-pooling."""
    if pair(layer.dilation) != (1, 1) or layer.return_indices:
        raise walk.unsupported("MaxPool2d with dilation or indices")
    return pool(walk, "MaxPool", x, layer, count_include_pad=False)


def avg_pool(walk: Walk, layer: nn.AvgPool2d, x: Value) -> Value:
    """Average-pooling."""
    if layer.divisor_override is not None:
        raise walk.unsupported("AvgPool2d with divisor_override")
    return pool(walk, "AveragePool", x, layer, count_include_pad=layer.count_include_pad)


def pool(walk: Walk, op: str, x: Value, layer: nn.MaxPool2d | nn.AvgPool2d, *, count_include_pad: bool) -> Value:
    """A pool whose ceil_mode is resolved into pads at the end."""
    if len(x.shape) != 4:
        raise walk.unsupported(f"pooling of an input of shape {x.shape}, expected [N, C, H, W],")
    kernel, strides, padding = pair(layer.kernel_size), pair(layer.stride), pair(layer.padding)
    extra = (0, 0)
    if layer.ceil_mode:
        sizes = zip(x.shape[2:], kernel, strides, padding, strict=True)
        extra = pair(tuple(ceil_padding(size, window, step, (pad, pad)) for size, window, step, pad in sizes))
    if not any(padding):
        count_include_pad = False  # torch never counts what ceil_mode adds.
    elif any(extra) and count_include_pad:
        raise walk.unsupported("AvgPool2d with padding, count_include_pad and a ceil_mode that rounds up")
    attrs: dict[str, int | tuple[int, ...]] = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": (padding[0], padding[1], padding[0] + extra[0], padding[1] + extra[1]),
    }
    if op == "AveragePool":
        attrs["count_include_pad"] = int(count_include_pad)
    return walk.emit_one(op, [x.name], attrs)


def adaptive_avg_pool(walk: Walk, x: Value, output_size: Pair | tuple[int | None, ...] | None) -> Value:
    """Adaptive average-pooling to 1x1, or to a size that divides the input."""
    if len(x.shape) != 4:
        raise walk.unsupported(f"adaptive pooling of an input of shape {x.shape}, expected [N, C, H, W],")
    wanted = output_size if isinstance(output_size, tuple) else (output_size, output_size)
    sizes = tuple(have if want is None else want for want, have in zip(wanted, x.shape[2:], strict=True))
    if sizes == (1, 1):
        return walk.emit_one("GlobalAveragePool", [x.name])
    if any(have % want for want, have in zip(sizes, x.shape[2:], strict=True)):
        raise walk.unsupported(f"adaptive pooling of {x.shape[2:]} to {sizes}, which does not divide,")
    window = tuple(have // want for want, have in zip(sizes, x.shape[2:], strict=True))
    attrs = {"kernel_shape": window, "strides": window, "pads": (0, 0, 0, 0), "count_include_pad": 0}
    return walk.emit_one("AveragePool", [x.name], attrs)


def flatten(walk: Walk, x: Value, start_dim: int, end_dim: int) -> Value:
    """Flatten any run of dimensions except the batch."""
    rank = len(x.shape)
    start, end = start_dim % rank, end_dim % rank
    shape = (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
    if start < 1:
        raise walk.unsupported("flattening the batch dimension")
    if len(shape) == 2:
        return walk.emit_one("Flatten", [x.name])
    return walk.emit_one("Reshape", [x.name], {"shape": shape})


def softmax(walk: Walk, x: Value, dim: int | None) -> Value:
    """Softmax over one axis."""
    if dim is None:
        raise walk.unsupported("Softmax without dim")
    return walk.emit_one("Softmax", [x.name], {"axis": dim % len(x.shape)})


def silu(walk: Walk, x: Value) -> Value:
    """SiLU: x * sigmoid(x)."""
    gate = walk.emit_one("Sigmoid", [x.name], step="sigmoid")
    return walk.emit_one("Mul", [x.name, gate.name])


def response_norm(walk: Walk, x: Value, size: int, alpha: float, beta: float, k: float) -> Value:
    """Local response normalization across channels (Krizhevsky et al. 2012, section 3.3)."""
    if len(x.shape) != 4 or size % 2 == 0:  # torch and ONNX put the middle of an even window on different channels
        raise walk.unsupported(f"local response normalization over {size} channels of an input of shape {x.shape}")
    return walk.emit_one("LRN", [x.name], {"size": size, "alpha": alpha, "beta": beta, "bias": k})


def layer_norm(walk: Walk, layer: nn.LayerNorm, x: Value) -> Value:
    """Layer normalization of the last axis."""
    if tuple(layer.normalized_shape) != x.shape[-1:]:
        raise walk.unsupported(f"LayerNorm over {tuple(layer.normalized_shape)} of an input of shape {x.shape}")
    ones = torch.ones(x.shape[-1:])
    scale = ones if layer.weight is None else layer.weight
    shift = torch.zeros_like(ones) if layer.bias is None else layer.bias
    inputs = [walk.constant(f"{walk.path}.{key}", part) for key, part in (("weight", scale), ("bias", shift))]
    return walk.emit_one("LayerNormalization", [x.name, *inputs], {"epsilon": float(layer.eps)})


def gelu(walk: Walk, x: Value, approximate: str) -> Value:
    """Gaussian error linear unit."""
    if approximate != "none":
        raise walk.unsupported(f"GELU with approximate={approximate!r}")
    return walk.emit_one("Gelu", [x.name])


def attention(walk: Walk, layer: SelfAttention, x: Value) -> Value:
    """Query, key and value side by side [N, T, 3 * heads * d], cut apart and attended."""
    channels = x.shape[-1] // 3
    parts = walk.emit("Split", [x.name], {"axis": 2, "split": (channels,) * 3}, step="split", num_outputs=3)
    attrs = {"heads": layer.num_heads, "scale": (channels // layer.num_heads) ** -0.5}
    return walk.emit_one("Attention", [part.name for part in parts], attrs)


def zero_pad(walk: Walk, x: Value, padding: tuple[int, ...], value: float) -> Value:
    """Pad the last two axes by torch's (left, right, top, bottom)."""
    if len(padding) not in (2, 4) or len(x.shape) not in (TOKEN_RANK, 4):
        raise walk.unsupported(f"padding {padding} of an input of shape {x.shape}")
    left, right, top, bottom = (*padding, 0, 0)[:4]
    return walk.emit_one("Pad", [x.name], {"pads": (top, left, bottom, right), "value": float(value)})


def elementwise(op: str, **attrs: float) -> LayerConversion:
    """An activation function without parameters."""
    return lambda walk, _layer, x: walk.emit_one(op, [x.name], attrs)


def _identity(_walk: Walk, _layer: nn.Module, x: Value) -> Value:
    return x


def _clip(walk: Walk, layer: nn.Hardtanh, x: Value) -> Value:
    return walk.emit_one("Clip", [x.name], {"min": float(layer.min_val), "max": float(layer.max_val)})


def _shuffle(walk: Walk, layer: nn.ChannelShuffle, x: Value) -> Value:
    return walk.emit_one("ChannelShuffle", [x.name], {"groups": int(layer.groups)})


def _padding_layer(walk: Walk, layer: nn.ConstantPad2d, x: Value) -> Value:
    return zero_pad(walk, x, tuple(layer.padding), float(layer.value))


HARD_SIGMOID = {"alpha": 1 / 6, "beta": 0.5}
"""torch's hard sigmoid: clip(x / 6 + 1/2, 0, 1)."""

LAYERS: Mapping[type | str, LayerConversion] = {
    "shuffle": _shuffle,
    nn.Conv2d: conv2d,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.Linear: linear,
    nn.ReLU: elementwise("Relu"),
    nn.ReLU6: elementwise("Clip", min=0.0, max=6.0),
    nn.Hardtanh: _clip,
    nn.Hardswish: elementwise("HardSwish"),
    nn.Hardsigmoid: elementwise("HardSigmoid", **HARD_SIGMOID),
    nn.Sigmoid: elementwise("Sigmoid"),
    nn.SiLU: lambda walk, _layer, x: silu(walk, x),
    nn.Softmax: lambda walk, layer, x: softmax(walk, x, layer.dim),
    nn.MaxPool2d: max_pool,
    nn.AvgPool2d: avg_pool,
    nn.AdaptiveAvgPool2d: lambda walk, layer, x: adaptive_avg_pool(walk, x, layer.output_size),
    nn.LayerNorm: layer_norm,
    nn.GELU: lambda walk, layer, x: gelu(walk, x, layer.approximate),
    SelfAttention: attention,
    nn.LocalResponseNorm: lambda walk, layer, x: response_norm(walk, x, layer.size, layer.alpha, layer.beta, layer.k),
    nn.Dropout: _identity,
    nn.Dropout2d: _identity,
    nn.Identity: _identity,
    nn.Flatten: lambda walk, layer, x: flatten(walk, x, layer.start_dim, layer.end_dim),
    nn.ZeroPad2d: _padding_layer,
    nn.ConstantPad2d: _padding_layer,
    nn.ChannelShuffle: _shuffle,
}
"""Layer type (or "shuffle" for our own channel shuffles) -> its conversion."""
