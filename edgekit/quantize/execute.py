"""Run a hub graph in float with numpy alone: the reference for tests, and for users without a runtime.

The operators that only move values or pick among them (`MOVERS`) live here in one place, because the integer
executor runs the very same ones on integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.core.graph import Graph, Node
from edgekit.quantize import operators
from edgekit.quantize.operators import FloatArray

AnyNumber = TypeVar("AnyNumber", bound=np.generic)
Inputs: TypeAlias = Sequence[FloatArray]
Handler: TypeAlias = Callable[[Node, Inputs], FloatArray]


def run_float(graph: Graph, x: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.float32]]:
    """Every activation of the graph, by name.

    Args:
        graph: Any canonical graph.
        x: Input, float32 [n, ...] in the shape of the graph's input with any batch size n.

    Raises:
        GraphError: The input's shape does not fit.
        UnsupportedOpError: An operator that is not canonical; names the node.
    """
    values: dict[str, Any] = {graph.input: check_input(graph, np.asarray(x, dtype=np.float32))}
    for node in graph.nodes:
        inputs = [
            values[name] if name in values else np.asarray(graph.constants[name], np.float32) for name in node.inputs
        ]
        for name, value in zip(node.outputs, run_node(node, inputs), strict=True):
            values[name] = np.asarray(value, dtype=np.float32)
    return values


def check_input(graph: Graph, x: npt.NDArray[AnyNumber]) -> npt.NDArray[AnyNumber]:
    """The input itself, if its shape is [n, ...] of the graph's input.

    Raises:
        GraphError: It is not.
    """
    expected = graph.shapes[graph.input][1:]
    if x.shape[1:] != expected or x.shape[0] < 1:
        sizes = ", ".join(map(str, expected))
        raise GraphError(f"{graph.name}: input {graph.input}: expected [n, {sizes}], got {list(x.shape)}")
    return x


def run_node(node: Node, inputs: Inputs) -> tuple[FloatArray, ...]:
    """Outputs of one node.

    Raises:
        UnsupportedOpError: Not a canonical operator.
    """
    if node.op == "Split":
        return split(node, inputs[0])
    handler = MOVERS.get(node.op) or _ARITHMETIC.get(node.op)
    if handler is None:
        raise UnsupportedOpError(f"node {node.name}: no numpy implementation of {node.op}")
    return (handler(node, inputs),)


def split(node: Node, x: npt.NDArray[AnyNumber]) -> tuple[npt.NDArray[AnyNumber], ...]:
    """The parts of a Split."""
    borders = np.cumsum(node.ints("split"))[:-1]
    return tuple(np.split(x, borders, axis=node.int("axis")))


def pair(node: Node, key: str) -> tuple[int, int]:
    """An attribute that is two integers (kernel_shape)."""
    first, second = node.ints(key)
    return (first, second)


def average_divisor(node: Node, shape: tuple[int, ...]) -> npt.NDArray[np.float64] | float:
    """What the window sums of an AveragePool are divided by: kernel size, or the positions inside the picture."""
    kernel = pair(node, "kernel_shape")
    if node.int("count_include_pad") or not any(node.ints("pads")):
        return float(kernel[0] * kernel[1])
    return operators.window_counts(shape, kernel, node.ints("strides"), node.ints("pads"))


def convolve_node(node: Node, x: FloatArray, weight: FloatArray) -> FloatArray:
    """Conv of a node without its bias."""
    return operators.convolve(
        x,
        weight,
        strides=node.ints("strides"),
        dilations=node.ints("dilations"),
        pads=node.ints("pads"),
        group=node.int("group"),
    )


def sum_pool_node(node: Node, x: FloatArray) -> FloatArray:
    """Window sums of an AveragePool node."""
    return operators.sum_pool(x, pair(node, "kernel_shape"), node.ints("strides"), node.ints("pads"))


def _conv(node: Node, inputs: Inputs) -> FloatArray:
    product = convolve_node(node, inputs[0], inputs[1])
    return product + inputs[2].reshape(1, -1, 1, 1) if len(inputs) > 2 else product


def _gemm(_: Node, inputs: Inputs) -> FloatArray:
    with np.errstate(invalid="ignore"):  # OpenBLAS's kernels raise the flag on their own padding, now and then
        product = inputs[0] @ inputs[1].T
    return product + inputs[2] if len(inputs) > 2 else product


def _max_pool(node: Node, inputs: Inputs) -> FloatArray:
    return operators.max_pool(inputs[0], pair(node, "kernel_shape"), node.ints("strides"), node.ints("pads"))


def _average_pool(node: Node, inputs: Inputs) -> FloatArray:
    return sum_pool_node(node, inputs[0]) / average_divisor(node, inputs[0].shape)


def _response_norm(node: Node, inputs: Inputs) -> FloatArray:
    alpha, beta, bias = (node.float(key) for key in ("alpha", "beta", "bias"))
    return operators.response_norm(inputs[0], node.int("size"), alpha, beta, bias)


def _layer_norm(node: Node, inputs: Inputs) -> FloatArray:
    x, scale, shift = inputs
    return operators.layer_norm(x, scale, shift, node.float("epsilon"))


def _attention(node: Node, inputs: Inputs) -> FloatArray:
    query, key, value = inputs
    return operators.attention(query, key, value, node.int("heads"), node.float("scale"))


def _slice(node: Node, inputs: Inputs) -> FloatArray:
    index = [slice(None)] * inputs[0].ndim
    index[node.int("axis")] = slice(node.int("start"), node.int("end"))
    return inputs[0][tuple(index)]


def _reshape(node: Node, inputs: Inputs) -> FloatArray:
    return inputs[0].reshape(inputs[0].shape[0], *node.ints("shape")[1:])


def _pad(node: Node, inputs: Inputs) -> FloatArray:
    return operators.pad(inputs[0], node.ints("pads"), node.float("value"))


MOVERS: dict[str, Handler] = {
    "MaxPool": _max_pool,
    "Concat": lambda node, inputs: np.concatenate(inputs, axis=node.int("axis")),
    "Slice": _slice,
    "Reshape": _reshape,
    "Flatten": lambda _, inputs: inputs[0].reshape(inputs[0].shape[0], -1),
    "Transpose": lambda node, inputs: inputs[0].transpose(node.ints("perm")),
    "ChannelShuffle": lambda node, inputs: operators.channel_shuffle(inputs[0], node.int("groups")),
}
"""Operators that compute no new value (and Split, which has several outputs): exact on integers as they are."""

_ARITHMETIC: dict[str, Handler] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda _, inputs: inputs[0].mean(axis=(2, 3), keepdims=True),
    "Pad": _pad,
    "Add": lambda _, inputs: inputs[0] + inputs[1],
    "Mul": lambda _, inputs: inputs[0] * inputs[1],
    "Relu": lambda _, inputs: np.maximum(inputs[0], 0),
    "Clip": lambda node, inputs: np.clip(inputs[0], node.float("min"), node.float("max")),
    "Sigmoid": lambda _, inputs: operators.sigmoid(inputs[0]),
    "HardSwish": lambda _, inputs: operators.hard_swish(inputs[0]),
    "HardSigmoid": lambda node, inputs: operators.hard_sigmoid(inputs[0], node.float("alpha"), node.float("beta")),
    "LRN": _response_norm,
    "LayerNormalization": _layer_norm,
    "Gelu": lambda _, inputs: operators.gelu(inputs[0]),
    "Attention": _attention,
    "Softmax": lambda node, inputs: operators.softmax(inputs[0], node.int("axis")),
}
