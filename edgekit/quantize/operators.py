"""Every canonical operator of the hub graph in numpy, float in and float out (meaning: `edgekit.core.graph`).

They serve two masters: `execute.run_float` in float32, and `reference.run_integer`, which runs the linear ones on
integers held in float64, where every sum below 2**53 is exact. So they keep the dtype they are given.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating]
Pads: TypeAlias = tuple[int, ...]


def pad(x: FloatArray, pads: Pads, value: float = 0.0) -> FloatArray:
    """Pad the last two axes of [n, c, h, w] or [n, tokens, channels] by (top, left, bottom, right)."""
    top, left, bottom, right = pads
    if not any(pads):
        return x
    return np.pad(x, (*[(0, 0)] * (x.ndim - 2), (top, bottom), (left, right)), constant_values=value)


def window_taps(
    x: FloatArray, kernel: tuple[int, int], strides: tuple[int, ...], dilations: tuple[int, ...] = (1, 1)
) -> list[FloatArray]:
    """Views of padded [n, c, h, w], one per kernel tap in row order, each [n, c, out_h, out_w]."""
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    out_h = (x.shape[2] - reach[0]) // strides[0] + 1
    out_w = (x.shape[3] - reach[1]) // strides[1] + 1
    taps: list[FloatArray] = []
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            y0, x0 = row * dilations[0], column * dilations[1]
            rows = slice(y0, y0 + (out_h - 1) * strides[0] + 1, strides[0])
            columns = slice(x0, x0 + (out_w - 1) * strides[1] + 1, strides[1])
            taps.append(x[:, :, rows, columns])
    return taps


def convolve(
    x: FloatArray,
    weight: FloatArray,
    *,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: Pads,
    group: int,
) -> FloatArray:
    """Convolve [n, c, h, w] with OIHW weights, without bias: one matrix product per kernel tap, no im2col buffer."""
    kernel = (weight.shape[2], weight.shape[3])
    taps = window_taps(pad(x, pads), kernel, strides, dilations)
    out_channels, in_per_group = weight.shape[:2]
    n, _, out_h, out_w = taps[0].shape
    flat = weight.reshape(group, out_channels // group, in_per_group, -1)
    if in_per_group == 1 and out_channels == group:
        total = np.zeros((n, out_channels, out_h, out_w), dtype=x.dtype)
        for index, tap in enumerate(taps):
            total += tap * flat[:, 0, 0, index].reshape(1, -1, 1, 1)
        return total
    product = np.zeros((n, group, out_channels // group, out_h * out_w), dtype=x.dtype)
    for index, tap in enumerate(taps):
        product += flat[None, :, :, :, index] @ tap.reshape(n, group, in_per_group, out_h * out_w)
    return product.reshape(n, out_channels, out_h, out_w)


def max_pool(x: FloatArray, kernel: tuple[int, int], strides: tuple[int, ...], pads: Pads) -> FloatArray:
    """Largest value of every window; padding never wins."""
    taps = window_taps(pad(x, pads, -math.inf), kernel, strides)
    return np.maximum.reduce(taps)


def sum_pool(x: FloatArray, kernel: tuple[int, int], strides: tuple[int, ...], pads: Pads) -> FloatArray:
    """Sum of every window, padding counted as zero."""
    total = np.array(0, dtype=x.dtype)
    for tap in window_taps(pad(x, pads), kernel, strides):
        total = total + tap
    return total


def window_counts(
    shape: tuple[int, ...], kernel: tuple[int, int], strides: tuple[int, ...], pads: Pads
) -> npt.NDArray[np.float64]:
    """How many positions of every window lie inside the picture, [1, 1, out_h, out_w]."""
    return np.asarray(sum_pool(np.ones((1, 1, *shape[2:])), kernel, strides, pads), dtype=np.float64)


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)), dtype=x.dtype)


def hard_sigmoid(x: FloatArray, alpha: float, beta: float) -> FloatArray:
    """max(0, min(1, alpha * x + beta))."""
    return np.clip(x * alpha + beta, 0.0, 1.0)


def hard_swish(x: FloatArray) -> FloatArray:
    """Return x * hard_sigmoid(x) with alpha 1/6 and beta 1/2 (Howard et al. 2019)."""
    return x * hard_sigmoid(x, 1.0 / 6.0, 0.5)


def softmax(x: FloatArray, axis: int) -> FloatArray:
    """exp(x) / sum(exp(x)) along an axis."""
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def response_norm(x: FloatArray, size: int, alpha: float, beta: float, bias: float) -> FloatArray:
    """Local response normalization across channels (Krizhevsky et al. 2012, section 3.3); alpha is divided by size."""
    before = (size - 1) // 2
    squares = np.pad(np.square(x), ((0, 0), (before, size - 1 - before), (0, 0), (0, 0)))
    total = np.zeros_like(x)
    for shift in range(size):
        total += squares[:, shift : shift + x.shape[1]]
    return x * np.asarray(bias + alpha / size * total, x.dtype) ** -beta


def layer_norm(x: FloatArray, scale: FloatArray, shift: FloatArray, epsilon: float) -> FloatArray:
    """Layer normalization of the last axis (Ba et al. 2016, arXiv:1607.06450, eq. 4)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + np.asarray(epsilon, x.dtype)) * scale + shift


def gelu(x: FloatArray) -> FloatArray:
    """Return x * Phi(x) (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    scaled = (np.asarray(x, np.float64) * math.sqrt(0.5)).reshape(-1)
    erf = np.fromiter(map(math.erf, scaled.tolist()), np.float64, scaled.size).reshape(x.shape)
    return np.asarray(0.5 * x * (1.0 + erf), x.dtype)


def attention(query: FloatArray, key: FloatArray, value: FloatArray, heads: int, scale: float) -> FloatArray:
    """Attention of several heads that lie side by side in [n, tokens, heads * d] (Vaswani et al. 2017, eq. 1)."""
    n, tokens, channels = query.shape
    parts = [part.reshape(n, part.shape[1], heads, -1).transpose(0, 2, 1, 3) for part in (query, key, value)]
    scores = softmax(parts[0] @ parts[1].swapaxes(2, 3) * np.asarray(scale, query.dtype), 3)
    return (scores @ parts[2]).transpose(0, 2, 1, 3).reshape(n, tokens, channels)


def channel_shuffle(x: FloatArray, groups: int) -> FloatArray:
    """Interleave channel groups (Zhang et al. 2018): view [g, n], transpose, [n, g]."""
    n, channels, height, width = x.shape
    grouped = x.reshape(n, groups, channels // groups, height, width)
    return grouped.swapaxes(1, 2).reshape(n, channels, height, width)
