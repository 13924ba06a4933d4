"""How small the integers can get: their order-0 entropy, the limit of any coder of independent symbols."""

from __future__ import annotations

import math

from edgekit.core.entropy import order0_bits
from edgekit.core.quant import QuantizedGraph, QuantTensor

SCALE_BYTES = 4
ZERO_POINT_BYTES = 4
_BIAS_BITS = 32


def entropy_bytes(tensor: QuantTensor) -> int:
    """Order-0 entropy of one tensor's integers, in whole bytes."""
    return math.ceil(order0_bits(tensor.values) / 8)


def side_bytes(tensor: QuantTensor) -> int:
    """What must be stored beside a weight tensor: float32 scales, and int32 zero-points where they are not all zero."""
    num_scales = int(tensor.params.scale.size)
    has_zero_points = bool(tensor.params.zero_point.any())
    return SCALE_BYTES * num_scales + ZERO_POINT_BYTES * num_scales * has_zero_points


def limit_bytes(model: QuantizedGraph) -> int:
    """The size that no lossless coder of independent symbols goes below.

    Order-0 entropy of every weight tensor, each with its own distribution, plus side information: weight scales,
    biases as int32 (their scales follow from the others), and scale and zero-point of every distinct activation grid.
    What a dynamic scheme leaves in float (biases, norms, positions) counts with four bytes a number.
    """
    total = 0
    for tensor in model.constants.values():
        if tensor.params.num_bits == _BIAS_BITS:
            total += 4 * int(tensor.values.size)
        else:
            total += entropy_bytes(tensor) + side_bytes(tensor)
    if model.is_dynamic:
        total += sum(4 * array.size for name, array in model.graph.constants.items() if name not in model.constants)
    grids = {(float(grid.scale[0]), int(grid.zero_point[0])) for grid in model.activations.values()}
    return total + (SCALE_BYTES + 1) * len(grids)
