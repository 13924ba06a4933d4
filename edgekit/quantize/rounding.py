"""How one layer's weights become integers: to the nearest level, with compensation, or learned; the best of them.

All answers are measured by one cost, output error plus `rate_weight` times bits (`layer_problem`). A `rate_weight` of 0
asks for the least error whatever it takes to store; above, the files become smaller at a known price.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from edgekit.quantize.layer_problem import (
    LayerProblem,
    Reals,
    RoundedWeights,
    cost,
    kept,
    output_errors,
    qmax_of,
    require_sound,
    rounded_of,
)
from edgekit.quantize.rounding_columns import bits_of_levels
from edgekit.quantize.rounding_compensated import Columns, columns_of, compensate, polish
from edgekit.quantize.rounding_config import DEFAULT_ROUNDING, RoundingConfig
from edgekit.quantize.rounding_learned import SoftProblem, learn_levels
from edgekit.quantize.rounding_scales import choose_scales, refit_scales, with_short_mantissa


def round_nearest(problem: LayerProblem, scales: Reals, num_bits: int) -> RoundedWeights:
    """Each weight to its nearest level.

    Args:
        problem: Of the layer.
        scales: float64 [groups, outputs], as from `choose_scales`.
        num_bits: Grid bits, 2 to 8.

    Raises:
        QuantizationError: The problem is not sound (`require_sound`), or num_bits not 2 to 8.
    """
    require_sound(problem)
    qmax = qmax_of(num_bits)
    levels = np.clip(np.rint(problem.weights / scales[:, :, None]), -qmax, qmax).astype(np.int64)
    return rounded_of(problem, kept(problem, levels), scales, "nearest")


def round_gptq(
    problem: LayerProblem, scales: Reals, num_bits: int, config: RoundingConfig = DEFAULT_ROUNDING
) -> RoundedWeights:
    """Round with error compensation, inputs by falling energy, then descend coordinate by coordinate.

    Errors of clipped weights are compensated like all others. Where bits have a price, rates are those of the levels of
    the pass before, the nearest ones at first, and the pass of least cost counts.

    Args:
        problem: Of the layer.
        scales: float64 [groups, outputs].
        num_bits: Grid bits, 2 to 8.
        config: Price of a bit, damping, numbers of passes.

    Raises:
        QuantizationError: As `round_nearest`.
    """
    nearest = round_nearest(problem, scales, num_bits)
    qmax, columns = qmax_of(num_bits), columns_of(problem, config.damping)
    return polish(problem, columns, compensate(problem, columns, nearest, qmax, config), qmax, config)


def round_adaround(
    problem: LayerProblem, scales: Reals, num_bits: int, config: RoundingConfig = DEFAULT_ROUNDING
) -> RoundedWeights:
    """Learn from the answer of `round_gptq` on which of two levels each weight takes; descend coordinate by coordinate.

    Args:
        problem: Of the layer.
        scales: float64 [groups, outputs].
        num_bits: Grid bits, 2 to 8.
        config: Price of a bit, damping, how to learn.

    Raises:
        QuantizationError: As `round_nearest`.
    """
    nearest = round_nearest(problem, scales, num_bits)
    qmax, columns = qmax_of(num_bits), columns_of(problem, config.damping)
    start = polish(problem, columns, compensate(problem, columns, nearest, qmax, config), qmax, config)
    return _learn(problem, columns, start, qmax, config)


def round_best(
    problem: LayerProblem, num_bits: int, config: RoundingConfig = DEFAULT_ROUNDING, *, scales: Reals | None = None
) -> RoundedWeights:
    """The answer of least cost among the nearest levels and those of the configured methods.

    Args:
        problem: Of the layer.
        num_bits: Grid bits, 2 to 8.
        config: Methods, price of a bit, what scales may be.
        scales: float64 [groups, outputs] that stay as they are; None has them chosen, and fitted to the levels.

    Raises:
        QuantizationError: As `round_nearest`.
    """
    chosen = choose_scales(problem, num_bits, config) if scales is None else scales
    nearest = round_nearest(problem, chosen, num_bits)
    qmax = qmax_of(num_bits)
    answers = [nearest]
    if scales is None:
        answers.append(_refitted(problem, nearest, config))
    if "gptq" in config.methods or "adaround" in config.methods:
        columns = columns_of(problem, config.damping)
        best = _compensated(problem, columns, nearest, qmax, config if scales is None else _with_given_scales(config))
        best = polish(problem, columns, best, qmax, config)
        if scales is None:
            best = polish(problem, columns, _refitted(problem, best, config), qmax, config)
        if "gptq" in config.methods:
            answers.append(best)
        if "adaround" in config.methods:
            answers.append(_learn(problem, columns, best, qmax, config))
    return min(answers, key=lambda answer: cost(answer, config.rate_weight))


def _with_given_scales(config: RoundingConfig) -> RoundingConfig:
    return msgspec.structs.replace(config, scale_factors=(1.0,), mantissa_bits=None)


def _compensated(
    problem: LayerProblem, columns: Columns, nearest: RoundedWeights, qmax: int, config: RoundingConfig
) -> RoundedWeights:
    """Compensation on several multiples of the scales, each output with its best."""
    answers: list[RoundedWeights] = []
    for factor in config.scale_factors:
        scales = with_short_mantissa(nearest.scales * factor, config.mantissa_bits)
        levels = np.clip(np.rint(problem.weights / scales[:, :, None]), -qmax, qmax).astype(np.int64)
        start = rounded_of(problem, kept(problem, levels), scales, "nearest")
        answers.append(compensate(problem, columns, start, qmax, config))
    if config.one_scale or len(answers) == 1:
        return min(answers, key=lambda answer: cost(answer, config.rate_weight))
    return _best_outputs(problem, answers, qmax, config.rate_weight)


def _best_outputs(
    problem: LayerProblem, answers: Iterable[RoundedWeights], qmax: int, rate_weight: float
) -> RoundedWeights:
    """From each answer the outputs that cost least there, by the rates of the first."""
    answers = list(answers)
    bits = bits_of_levels(answers[0].levels, qmax)
    costs = np.stack(
        [
            output_errors(problem, answer.levels, answer.scales)
            + (rate_weight * bits[answer.levels + qmax].sum(2) if rate_weight > 0 else 0.0)
            for answer in answers
        ]
    )
    winner = costs.argmin(0)[None]
    scales = np.take_along_axis(np.stack([answer.scales for answer in answers]), winner, 0)[0]
    levels = np.take_along_axis(np.stack([answer.levels for answer in answers]), winner[..., None], 0)[0]
    mixed = rounded_of(problem, levels, scales, answers[0].method)
    return min([mixed, *answers], key=lambda answer: cost(answer, rate_weight))


def _refitted(problem: LayerProblem, answer: RoundedWeights, config: RoundingConfig) -> RoundedWeights:
    """The answer with the best scales for its levels."""
    scales = refit_scales(problem, answer, one_scale=config.one_scale, mantissa_bits=config.mantissa_bits)
    return rounded_of(problem, answer.levels, scales, answer.method)


def _learn(
    problem: LayerProblem, columns: Columns, start: RoundedWeights, qmax: int, config: RoundingConfig
) -> RoundedWeights:
    """Learned levels around the start's, after descent."""
    charges = np.zeros((1, 1, 2 * qmax + 1))
    if config.rate_weight > 0:
        prices = np.maximum(problem.importance * start.scales**2, np.finfo(np.float64).tiny ** 0.25)
        charges = config.rate_weight * bits_of_levels(start.levels, qmax) / prices[:, :, None]
    soft = SoftProblem(
        wanted=problem.weights / start.scales[:, :, None],
        hessians=columns.hessians,
        start=start.levels,
        qmax=qmax,
        charges=charges,
    )
    learned = rounded_of(problem, kept(problem, learn_levels(soft, config.learning)), start.scales, "adaround")
    return polish(problem, columns, learned, qmax, config)
