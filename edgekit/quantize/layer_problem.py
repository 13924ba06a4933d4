"""One layer's weights, what an error in them costs, and the integers that were chosen for them.

To second order, weights W - sL that are off cost `importance * (W - sL) H (W - sL)^T` per output, with H the second
moments of the layer's inputs (Nagel et al. 2020, arXiv:2004.10568, eq. 16; Frantar et al. 2023, arXiv:2210.17323,
eq. 1). All rounding in this package (`rounding`, `rounding_columns`, `rounding_learned`) starts from that and needs no
pictures, so its memory does not depend on how many there were.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.entropy import order0_bits_of_counts
from edgekit.core.errors import QuantizationError

Reals: TypeAlias = npt.NDArray[np.float64]
Levels: TypeAlias = npt.NDArray[np.int64]
RoundingMethod: TypeAlias = Literal["nearest", "gptq", "adaround"]


class LayerProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is rounded, and what an error costs.

    Args:
        name: Of the layer, for messages.
        weights: float64 [groups, outputs, inputs], outputs and inputs of one group; a depthwise layer has a group per
            channel and kernel height x width inputs.
        hessian: float64 [groups, inputs, inputs], second moments of the inputs, about their means where the bias is
            set afterwards. Symmetric; rounding errors may make it slightly indefinite.
        importance: float64 [groups, outputs], price of a squared error of an output, at least 0.
        keep: bool [groups, outputs, inputs], False where a level has to be zero (pruned weights); None for everywhere
            True.
    """

    name: str
    weights: Reals
    hessian: Reals
    importance: Reals
    keep: npt.NDArray[np.bool_] | None = None


class RoundedWeights(msgspec.Struct, frozen=True, kw_only=True):
    """Levels that were chosen.

    Args:
        levels: int64 [groups, outputs, inputs], within -qmax..qmax.
        scales: float64 [groups, outputs], distance of the levels, above 0.
        error: What `error_of` says of them.
        num_bits: Order-0 entropy of all levels, in bits.
        method: What chose them.
    """

    levels: Levels
    scales: Reals
    error: float
    num_bits: float
    method: RoundingMethod


def qmax_of(num_bits: int) -> int:
    """The largest level of a symmetric grid.

    Raises:
        QuantizationError: Not 2 to 8 bits.

    >>> [qmax_of(num_bits) for num_bits in (2, 4, 8)]
    [1, 7, 127]
    """
    if not 2 <= num_bits <= 8:
        raise QuantizationError(f"num_bits: expected 2 to 8 for the grid of weights, got {num_bits}")
    return (1 << (num_bits - 1)) - 1


def require_sound(problem: LayerProblem) -> None:
    """Refuse a problem that has no answer.

    Raises:
        QuantizationError: Shapes that do not fit, no weights, values that are not finite, or an importance below 0;
            names the layer.
    """
    shape = problem.weights.shape
    if len(shape) != 3 or problem.weights.size == 0:
        raise QuantizationError(f"{problem.name}: expected weights [groups, outputs, inputs], got shape {list(shape)}")
    groups, outputs, inputs = shape
    if problem.hessian.shape != (groups, inputs, inputs) or problem.importance.shape != (groups, outputs):
        raise QuantizationError(
            f"{problem.name}: expected a Hessian of {[groups, inputs, inputs]} and importance of {[groups, outputs]}, "
            f"got {list(problem.hessian.shape)} and {list(problem.importance.shape)}"
        )
    for what, values in (
        ("weights", problem.weights),
        ("hessian", problem.hessian),
        ("importance", problem.importance),
    ):
        finite = np.isfinite(values)
        if not finite.all():
            raise QuantizationError(
                f"{problem.name}: expected finite {what}, got {values[~finite].flat[0]}",
                hint="the model's weights or its answers to the calibration pictures hold NaN or infinite values",
            )
    if problem.importance.min() < 0:
        raise QuantizationError(f"{problem.name}: expected importance of at least 0, got {problem.importance.min()}")


def kept(problem: LayerProblem, levels: Levels) -> Levels:
    """The levels, zero where the problem says so."""
    return levels if problem.keep is None else levels * problem.keep


def error_of(problem: LayerProblem, levels: Levels, scales: Reals) -> float:
    """Price of the output error of levels: sum of importance * (W - sL) H (W - sL)^T, at least 0.

    Args:
        problem: Of the layer.
        levels: int64 [groups, outputs, inputs].
        scales: float64 [groups, outputs].
    """
    return max(0.0, float(output_errors(problem, levels, scales).sum()))


def output_errors(problem: LayerProblem, levels: Levels, scales: Reals) -> Reals:
    """float64 [groups, outputs], what each output adds to `error_of`."""
    errors = problem.weights - levels * scales[:, :, None]
    return problem.importance * ((errors @ problem.hessian) * errors).sum(2)


def shrunk_hessian(hessian: Reals, num_samples: float) -> Reals:
    """Second moments with correlations taken back where too few samples told them (as Ledoit and Wolf 2004 shrink).

    A dense layer sees one sample per picture. From 96 of them, 1280 inputs have moments of rank 95, on which almost any
    error can be compensated, though not on other pictures. Correlations keep `num_samples / (num_samples + inputs)` of
    their size; energies stay.

    Args:
        hessian: float64 [groups, inputs, inputs].
        num_samples: Pictures times output positions.
    """
    inputs = hessian.shape[-1]
    shrunk = hessian * (num_samples / (num_samples + inputs))
    shrunk[:, range(inputs), range(inputs)] = np.diagonal(hessian, axis1=1, axis2=2)
    return shrunk


def rounded_of(problem: LayerProblem, levels: Levels, scales: Reals, method: RoundingMethod) -> RoundedWeights:
    """Levels with what they cost."""
    counts = np.bincount((levels - levels.min()).ravel())
    return RoundedWeights(
        levels=levels,
        scales=scales,
        error=error_of(problem, levels, scales),
        num_bits=order0_bits_of_counts(counts[counts > 0]),
        method=method,
    )


def cost(rounded: RoundedWeights, rate_weight: float) -> float:
    """Error plus the price of the bits, in units of the error."""
    return rounded.error + rate_weight * rounded.num_bits
