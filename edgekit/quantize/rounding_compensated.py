"""One layer on given scales: rounded with compensation, then by coordinate descent.

The passes themselves are in `rounding_columns`; here is what they choose by. They run in float32 (the Cholesky factors
are float64's): what they end in is measured again in float64, and the best of it counts.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.quantize.layer_problem import LayerProblem, Levels, Reals, RoundedWeights, cost, rounded_of
from edgekit.quantize.rounding_columns import (
    Chooser,
    Floats,
    bits_of_levels,
    cheapest_levels,
    damping_of,
    descend_columns,
    fix_columns,
    inverse_factors,
)
from edgekit.quantize.rounding_config import RoundingConfig

Singles: TypeAlias = npt.NDArray[np.float32]

_SETTLED = 1e-3
"""A sweep that lowers the cost by less than this share is the last one."""


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """What the passes over a layer's columns need of its Hessian.

    Args:
        order: int64 [groups, inputs], by falling energy: what comes last has the least to be compensated for.
        factors: float32 [groups, inputs, inputs], inverse Cholesky factors in this order.
        hessians: float32 [groups, inputs, inputs], damped, in the layer's own order, diagonals above 0.
    """

    order: Levels
    factors: Singles
    hessians: Singles


def columns_of(problem: LayerProblem, damping: float) -> Columns:
    """Order, factors and damped Hessians of a sound problem."""
    hessians = (problem.hessian + problem.hessian.transpose(0, 2, 1)) / 2
    diagonals = np.diagonal(hessians, axis1=1, axis2=2)
    order = np.argsort(-diagonals, axis=1, kind="stable")
    added = np.broadcast_to(damping_of(hessians, damping)[:, None], order.shape)
    groups = np.arange(len(hessians))[:, None, None]
    ordered = hessians[groups, order[:, :, None], order[:, None, :]]
    lifted = added + np.maximum(-diagonals, 0)
    return Columns(
        order=order,
        factors=inverse_factors(ordered, added).astype(np.float32),
        hessians=(hessians + lifted[:, :, None] * np.eye(order.shape[1])).astype(np.float32),
    )


def compensate(
    problem: LayerProblem, columns: Columns, start: RoundedWeights, qmax: int, config: RoundingConfig
) -> RoundedWeights:
    """Passes of `fix_columns` on the start's scales; the one of least cost.

    Rates are those of the levels of the pass before, the start's at first.
    """
    order = columns.order[:, None, :]
    weights = np.take_along_axis(problem.weights, order, axis=2).astype(np.float32)
    # Fixing a weight with an error e costs e^2 / [H^-1]_jj once the others have made good what they can.
    keep = None if problem.keep is None else np.take_along_axis(problem.keep, order, axis=2)
    prices = 1 / np.diagonal(columns.factors, axis1=1, axis2=2) ** 2
    answers: list[RoundedWeights] = []
    for _ in range(max(1, config.num_rounds) if config.rate_weight > 0 else 1):
        chooser = _chooser(problem, answers[-1] if answers else start, prices, qmax, config.rate_weight)
        fixed = fix_columns(weights, columns.factors, _pruning(chooser, keep))
        levels = np.empty_like(start.levels)
        np.put_along_axis(levels, order, _levels_of(fixed, start.scales), axis=2)
        answers.append(rounded_of(problem, levels, start.scales, "gptq"))
    return min(answers, key=lambda answer: cost(answer, config.rate_weight))


def polish(
    problem: LayerProblem, columns: Columns, start: RoundedWeights, qmax: int, config: RoundingConfig
) -> RoundedWeights:
    """Sweeps of `descend_columns` until little changes; the answer of least cost, the start included."""
    prices = np.diagonal(columns.hessians, axis1=1, axis2=2)
    weights = problem.weights.astype(np.float32)
    best = last = start
    for _ in range(config.num_sweeps):
        chooser = _chooser(problem, last, prices, qmax, config.rate_weight)
        values = (last.levels * last.scales[:, :, None]).astype(np.float32)
        chooser = _pruning(chooser, problem.keep)
        levels = _levels_of(descend_columns(values, weights, columns.hessians, chooser), last.scales)
        last = rounded_of(problem, levels, last.scales, start.method)
        least = cost(best, config.rate_weight)
        best = min(best, last, key=lambda answer: cost(answer, config.rate_weight))
        if cost(last, config.rate_weight) > (1 - _SETTLED) * least:
            break
    return best


def _chooser(problem: LayerProblem, last: RoundedWeights, prices: Floats, qmax: int, rate_weight: float) -> Chooser:
    """Gives columns the nearest level, or the cheapest by the rates of the last levels."""
    scales = last.scales.astype(np.float32)
    if rate_weight <= 0:
        return lambda _, wanted: np.clip(np.rint(wanted / scales), -qmax, qmax) * scales
    charges = rate_weight * bits_of_levels(last.levels, qmax)
    steps = problem.importance * last.scales**2
    return lambda column, wanted: (
        cheapest_levels(wanted / scales, steps * prices[:, column, None], charges).astype(np.float32) * scales
    )


def _pruning(chooser: Chooser, keep: npt.NDArray[np.bool_] | None) -> Chooser:
    """The same, but zero where nothing is to be kept [groups, outputs, inputs], inputs in the chooser's order."""
    if keep is None:
        return chooser
    return lambda column, wanted: chooser(column, wanted) * keep[:, :, column]


def _levels_of(values: Floats, scales: Reals) -> Levels:
    return np.rint(values / scales[:, :, None]).astype(np.int64)
