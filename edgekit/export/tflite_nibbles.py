"""INT4 weight tensors of TFLite: two integers to a byte, for layers whose grid has at most four bits.

Storage and the operators' declared type become 4 bits; the kernels of LiteRT unpack to int8 before they multiply, so
the answers are those of the int8 file.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import UsageError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.core.quant import QuantizedGraph

Compute: TypeAlias = Literal["int8", "int4"]
"""Element type of the weights that the kernels are given."""

NIBBLE_BITS = 4
_LOWEST, _HIGHEST = -8, 7


def pack_nibbles(values: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Two's complement nibbles in row-major order, the first in the low half of a byte; an odd last one pads with 0.

    >>> pack_nibbles(np.array([1, -1, 7], np.int8)).tolist()
    [241, 7]

    Raises:
        ValueError: A value outside of -8..7.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.size and (flat.min() < _LOWEST or flat.max() > _HIGHEST):
        raise ValueError(f"expected integers of {_LOWEST}..{_HIGHEST}, got {flat.min()}..{flat.max()}")
    nibbles = np.zeros(flat.size + flat.size % 2, np.uint8)
    nibbles[: flat.size] = flat.astype(np.int8).view(np.uint8) & 15
    return np.bitwise_or(nibbles[0::2], np.left_shift(nibbles[1::2], np.uint8(4)), dtype=np.uint8)


def unpack_nibbles(content: bytes, num_elements: int) -> npt.NDArray[np.int8]:
    """The inverse of `pack_nibbles`, flat.

    >>> unpack_nibbles(bytes([241, 7]), 3).tolist()
    [1, -1, 7]

    Raises:
        ValueError: Another number of bytes than the elements need.
    """
    packed = np.frombuffer(content, np.uint8)
    if packed.size != (num_elements + 1) // 2:
        raise ValueError(f"{num_elements} elements of {NIBBLE_BITS} bits: got {packed.size} bytes")
    nibbles = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:num_elements]
    return (nibbles ^ 8).astype(np.int8) - np.int8(8)


def int4_layers(model: Graph | QuantizedGraph) -> tuple[str, ...]:
    """Node names of the layers that `compute="int4"` writes as INT4, in order.

    These are Conv and Gemm with a grid of at most 4 bits. A depthwise Conv is not among them though LiteRT 2.3 has a
    kernel (version 7): XNNPACK takes only int8 ones, and so few weights are not worth what leaving it costs.
    """
    if not isinstance(model, QuantizedGraph):
        return ()
    graph = model.graph
    layers = [node for node in graph.nodes if node.op in WEIGHTED_OPS and not graph.is_depthwise(node)]
    weights = {node.name: model.constants.get(node.inputs[1]) for node in layers}
    return tuple(
        name for name, weight in weights.items() if weight is not None and weight.params.num_bits <= NIBBLE_BITS
    )


def require_int4_layers(model: Graph | QuantizedGraph) -> tuple[str, ...]:
    """As `int4_layers`, but at least one.

    Raises:
        UsageError: No layer has a grid of at most 4 bits.
    """
    layers = int4_layers(model)
    if layers:
        return layers
    name = model.graph.name if isinstance(model, QuantizedGraph) else model.name
    raise UsageError(
        f"{name}: compute int4, but no convolution or fully-connected layer has weights of 4 bits",
        hint="add --bits 4, or leave --compute at int8",
    )
