"""Rounding one weight after the other so that later weights make good the error of earlier ones, at a price per bit.

Optimal Brain Surgeon (Hassibi and Stork 1993) gives the best change of the other weights when one is fixed; Optimal
Brain Quantization (Frantar and Alistarh 2022, arXiv:2208.11580) fixes weights on a grid, and GPTQ (Frantar et al. 2023,
arXiv:2210.17323) takes the columns of all outputs in one order, so that one Cholesky factor serves. Here a weight goes
to the level of least error plus rate (entropy-constrained quantization: Chou, Lookabaugh and Gray 1989), so that
setting weights to zero, which is pruning, and a dead zone come out of the same choice.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.entropy import order0_bits_of_counts
from edgekit.quantize.rounding_columns import Floats, bits_of_levels, cheapest_levels, fix_columns, inverse_factors

Matrix: TypeAlias = npt.NDArray[np.float64]
Levels: TypeAlias = npt.NDArray[np.int64]

MAX_LEVEL = 127
"""Levels run from -127 to 127."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is rounded, and what an error or a bit costs.

    Args:
        weights: float64 [outputs, inputs + 1], the biases as last column.
        hessian: float64 [inputs + 1, inputs + 1], as in `LayerCurvature`.
        sensitivity: float64 [outputs].
        damping: Added to the diagonal, as a share of its mean over the inputs.
        step: Distance of the weights' levels.
        bias_step: The same of the biases.
        rate_weight: Nats of divergence that a bit may cost.
    """

    weights: Matrix
    hessian: Matrix
    sensitivity: Matrix
    damping: float
    step: float
    bias_step: float
    rate_weight: float


class Rounded(msgspec.Struct, frozen=True, kw_only=True):
    """Levels that were chosen.

    Args:
        levels: int64 [outputs, inputs], -127 to 127.
        bias_levels: int64 [outputs].
        distortion: Expected divergence per picture that the rounding costs, in nats.
        num_bits: Order-0 entropy of the levels, in bits.
    """

    levels: Levels
    bias_levels: Levels
    distortion: float
    num_bits: float


def round_compensated(problem: Problem, num_rounds: int = 3) -> Rounded:
    """Round a layer, with compensation; never worse than `round_plain` in error plus rate.

    Each round takes the rate of a level from how often the round before chose it; the best of all rounds counts.
    """
    best = round_plain(problem)
    order = column_order(problem.hessian)
    factor = inverse_factor(problem.hessian[np.ix_(order, order)], problem.damping)
    bits = bits_of_levels(best.levels)
    for _ in range(num_rounds):
        rounded = _round_columns(problem, order, factor, bits)
        bits = bits_of_levels(rounded.levels)
        best = min(best, rounded, key=lambda each: cost(each, problem.rate_weight))
    return best


def round_plain(problem: Problem) -> Rounded:
    """Each weight and bias to its nearest level."""
    levels = np.rint(problem.weights[:, :-1] / problem.step).astype(np.int64)
    bias_levels = np.rint(problem.weights[:, -1] / problem.bias_step).astype(np.int64)
    return _rounded(problem, np.clip(levels, -MAX_LEVEL, MAX_LEVEL), bias_levels)


def cost(rounded: Rounded, rate_weight: float) -> float:
    """Divergence plus the price of the bits, in nats."""
    return rounded.distortion + rate_weight * rounded.num_bits


def column_order(hessian: Matrix) -> Levels:
    """The bias first, then the inputs by falling energy: what comes last has the least to be compensated for."""
    last = len(hessian) - 1
    falling = np.argsort(-np.diag(hessian)[:-1], kind="stable")
    return np.concatenate([[last], falling]).astype(np.int64)


def inverse_factor(hessian: Matrix, damping: float) -> Matrix:
    """Upper triangular U with U'U the inverse of the damped Hessian, as `rounding_columns.inverse_factors`.

    Args:
        hessian: float64 [n, n], the constant input first.
        damping: Share of the mean diagonal of the inputs; of its own for the constant.
    """
    diagonal = np.diag(hessian)
    share = max(damping, 1e-10)
    added = np.full(len(diagonal), share * float(diagonal[1:].mean()) if len(diagonal) > 1 else 0.0)
    added[0] = share * diagonal[0]
    added[diagonal <= 0] = 1.0  # nothing is compensated through an input that never occurs
    return inverse_factors(hessian[None], added[None])[0]


def _round_columns(problem: Problem, order: Levels, factor: Matrix, bits: Matrix) -> Rounded:
    """One pass over the columns, each level chosen by error plus rate."""
    weights = problem.weights[:, order]
    weights[:, np.diag(problem.hessian)[order] <= 0] = 0  # inputs that never occur
    bias_column = weights.shape[1] - 1

    def choose(column: int, wanted: Floats) -> Floats:
        if order[column] == bias_column:
            return np.rint(wanted / problem.bias_step) * problem.bias_step
        # Fixing a weight with an error e costs 1/2 s e^2 / [H^-1]_jj once the others have made good what they can.
        prices = 0.5 * problem.sensitivity / factor[column, column] ** 2 * problem.step**2
        return cheapest_levels(wanted / problem.step, prices, problem.rate_weight * bits) * problem.step

    fixed = fix_columns(weights[None], factor[None], choose)[0]
    restored = np.empty_like(fixed)
    restored[:, order] = fixed
    levels = np.rint(restored[:, :-1] / problem.step).astype(np.int64)
    return _rounded(problem, levels, np.rint(restored[:, -1] / problem.bias_step).astype(np.int64))


def _rounded(problem: Problem, levels: Levels, bias_levels: Levels) -> Rounded:
    values = np.concatenate([levels * problem.step, bias_levels[:, None] * problem.bias_step], axis=1)
    error = problem.weights - values
    distortion = 0.5 * float(problem.sensitivity @ ((error @ problem.hessian) * error).sum(1))
    return Rounded(
        levels=levels,
        bias_levels=bias_levels,
        distortion=distortion,
        num_bits=order0_bits_of_counts(np.unique(levels, return_counts=True)[1]),
    )
