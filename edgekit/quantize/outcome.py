"""What became of a layer that was rounded."""

from __future__ import annotations

import msgspec

from edgekit.quantize.layer_problem import RoundingMethod


class LayerOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a layer.

    Args:
        name: Of its node.
        num_bits: Grid bits.
        method: What gave the least cost.
        sqnr_db: Power of the layer's output over that of the error, in decibels; how good the rounding is on its own.
        nearest_sqnr_db: The same of rounding to the nearest level on the grid that reaches the largest weight.
        entropy_bytes: Order-0 entropy of its levels.
        error: Mean squared error of its output, summed over channels.
    """

    name: str
    num_bits: int
    method: RoundingMethod
    sqnr_db: float
    nearest_sqnr_db: float
    entropy_bytes: float
    error: float
