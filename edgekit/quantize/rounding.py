"""How one layer's weights become integers: to the nearest level, with compensation, or learned; the best of them.

All answers are measured by one cost, output error plus `rate_weight` times bits (`layer_problem`). A `rate_weight` of 0
asks for the least error whatever it takes to store; above, the files become smaller at a known price.
"""

from __future__ import annotations

import msgspec
import numpy as np

from edgekit.quantize.layer_problem import (
    LayerProblem,
    Levels,
    Reals,
    RoundedWeights,
    RoundingMethod,
    qmax_of,
    require_sound,
    rounded_of,
)
from edgekit.quantize.rounding_columns import (
    Chooser,
    bits_of_levels,
    cheapest_levels,
    damping_of,
    descend_columns,
    fix_columns,
    inverse_factors,
)
from edgekit.quantize.rounding_learned import LearningConfig, SoftProblem, learn_levels
from edgekit.quantize.rounding_scales import choose_scales, refit_scales


class RoundingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a layer is rounded.

    Args:
        methods: What `round_best` tries, besides the nearest levels.
        rate_weight: Price of a bit, in units of the error; 0 asks for the least error.
        damping: Added to the diagonal of the Hessian for choosing, as a share of its mean: few pictures tell
            correlations of inputs badly.
        num_rounds: Passes of compensation where bits have a price, each with the rates that the last one led to.
        num_sweeps: Passes of coordinate descent after it, at most.
        one_scale: One scale for the whole layer.
        mantissa_bits: Significant bits of a scale; None for all of float64's.
        learning: How rounding is learned.
    """

    methods: tuple[RoundingMethod, ...] = ("gptq",)
    rate_weight: float = 0.0
    damping: float = 0.01
    num_rounds: int = 2
    num_sweeps: int = 4
    one_scale: bool = False
    mantissa_bits: int | None = None
    learning: LearningConfig = LearningConfig()


DEFAULT_ROUNDING = RoundingConfig()


def cost(rounded: RoundedWeights, rate_weight: float) -> float:
    """Error plus the price of the bits."""
    return rounded.error + rate_weight * rounded.num_bits


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
    return rounded_of(problem, levels, scales, "nearest")


def round_gptq(
    problem: LayerProblem, scales: Reals, num_bits: int, config: RoundingConfig = DEFAULT_ROUNDING
) -> RoundedWeights:
    """Round with error compensation, inputs by falling energy, then descend coordinate by coordinate.

    Errors of clipped weights are compensated like all others. Where bits have a price, rates are those of the levels of
    the round before, the nearest ones at first, and the round of least cost counts.

    Args:
        problem: Of the layer.
        scales: float64 [groups, outputs].
        num_bits: Grid bits, 2 to 8.
        config: Price of a bit, damping, numbers of passes.

    Raises:
        QuantizationError: As `round_nearest`.
    """
    nearest = round_nearest(problem, scales, num_bits)
    return _polish(problem, _compensate(problem, nearest, qmax_of(num_bits), config), qmax_of(num_bits), config)


def round_adaround(
    problem: LayerProblem,
    scales: Reals,
    num_bits: int,
    config: RoundingConfig = DEFAULT_ROUNDING,
    *,
    start: RoundedWeights | None = None,
) -> RoundedWeights:
    """Learn for each weight which of two levels it takes, then descend coordinate by coordinate.

    Args:
        problem: Of the layer.
        scales: float64 [groups, outputs].
        num_bits: Grid bits, 2 to 8.
        config: Price of a bit, damping, how to learn.
        start: Levels to start from, on these scales; None for the answer of `round_gptq`.

    Raises:
        QuantizationError: As `round_nearest`.
    """
    start = start or round_gptq(problem, scales, num_bits, config)
    qmax = qmax_of(num_bits)
    charges = np.zeros((1, 1, 2 * qmax + 1))
    if config.rate_weight > 0:
        prices = np.maximum(problem.importance * scales**2, np.finfo(np.float64).tiny ** 0.25)
        charges = config.rate_weight * bits_of_levels(start.levels, qmax) / prices[:, :, None]
    soft = SoftProblem(
        wanted=problem.weights / scales[:, :, None],
        hessians=_damped(problem, config),
        start=start.levels,
        qmax=qmax,
        charges=charges,
    )
    learned = rounded_of(problem, learn_levels(soft, config.learning), scales, "adaround")
    return _polish(problem, learned, qmax, config)


def round_best(
    problem: LayerProblem, num_bits: int, config: RoundingConfig = DEFAULT_ROUNDING, *, scales: Reals | None = None
) -> RoundedWeights:
    """The answer of least cost among the nearest levels and those of the configured methods.

    Args:
        problem: Of the layer.
        num_bits: Grid bits, 2 to 8.
        config: Methods, price of a bit, what scales may be.
        scales: float64 [groups, outputs]; None has them chosen, and fitted again to the levels.

    Raises:
        QuantizationError: As `round_nearest`.
    """
    fixed = scales is not None
    if scales is None:
        scales = choose_scales(
            problem,
            num_bits,
            one_scale=config.one_scale,
            mantissa_bits=config.mantissa_bits,
            rate_weight=config.rate_weight,
        )
    answers = [round_nearest(problem, scales, num_bits)]
    compensated = None
    if "gptq" in config.methods or "adaround" in config.methods:
        compensated = round_gptq(problem, scales, num_bits, config)
    if compensated and "gptq" in config.methods:
        answers.append(compensated)
    if compensated and "adaround" in config.methods:
        answers.append(round_adaround(problem, scales, num_bits, config, start=compensated))
    if not fixed:
        answers += [_refitted(problem, answer, qmax_of(num_bits), config) for answer in answers]
    return min(answers, key=lambda answer: cost(answer, config.rate_weight))


def _damped(problem: LayerProblem, config: RoundingConfig) -> Reals:
    hessians = (problem.hessian + problem.hessian.transpose(0, 2, 1)) / 2
    damping = damping_of(hessians, config.damping)
    diagonals = np.diagonal(hessians, axis1=1, axis2=2)
    lifted = damping[:, None] + np.maximum(-diagonals, 0)
    return hessians + lifted[:, :, None] * np.eye(hessians.shape[1])


def _compensate(problem: LayerProblem, start: RoundedWeights, qmax: int, config: RoundingConfig) -> RoundedWeights:
    """Passes over the columns (`fix_columns`); the one of least cost."""
    hessians = (problem.hessian + problem.hessian.transpose(0, 2, 1)) / 2
    order = np.argsort(-np.diagonal(hessians, axis1=1, axis2=2), axis=1, kind="stable")
    groups = np.arange(len(hessians))[:, None]
    ordered = hessians[groups[:, :, None], order[:, :, None], order[:, None, :]]
    damping = np.broadcast_to(damping_of(hessians, config.damping)[:, None], order.shape)
    factors = inverse_factors(ordered, damping)
    # Fixing a weight with an error e costs e^2 / [H^-1]_jj once the others have made good what they can.
    prices = 1 / np.diagonal(factors, axis1=1, axis2=2) ** 2
    weights = np.take_along_axis(problem.weights, order[:, None, :], axis=2)
    best, last = None, start
    for _ in range(config.num_rounds if config.rate_weight > 0 else 1):
        chooser = _chooser(problem, last, prices, qmax, config.rate_weight)
        fixed = fix_columns(weights, factors, chooser)
        levels = np.empty_like(start.levels)
        np.put_along_axis(levels, order[:, None, :], _levels_of(fixed, start.scales), axis=2)
        last = rounded_of(problem, levels, start.scales, "gptq")
        best = min(best or last, last, key=lambda each: cost(each, config.rate_weight))
    return best or start


def _polish(problem: LayerProblem, start: RoundedWeights, qmax: int, config: RoundingConfig) -> RoundedWeights:
    """Sweeps of coordinate descent until nothing moves; the answer of least cost."""
    hessians = _damped(problem, config)
    prices = np.diagonal(hessians, axis1=1, axis2=2)
    best = last = start
    for _ in range(config.num_sweeps):
        chooser = _chooser(problem, last, prices, qmax, config.rate_weight)
        values = last.levels * last.scales[:, :, None]
        levels = _levels_of(descend_columns(values, problem.weights, hessians, chooser), last.scales)
        if (levels == last.levels).all():
            break
        last = rounded_of(problem, levels, last.scales, start.method)
        best = min(best, last, key=lambda each: cost(each, config.rate_weight))
    return best


def _refitted(problem: LayerProblem, answer: RoundedWeights, qmax: int, config: RoundingConfig) -> RoundedWeights:
    """The answer with the best scales for its levels; levels then descend on these scales."""
    scales = refit_scales(
        problem, answer.levels, answer.scales, one_scale=config.one_scale, mantissa_bits=config.mantissa_bits
    )
    fitted = rounded_of(problem, answer.levels, scales, answer.method)
    return fitted if answer.method == "nearest" else _polish(problem, fitted, qmax, config)


def _chooser(problem: LayerProblem, last: RoundedWeights, prices: Reals, qmax: int, rate_weight: float) -> Chooser:
    """Gives columns the nearest level, or the cheapest by the rates of the last levels."""
    scales = last.scales
    if rate_weight <= 0:
        return lambda _, wanted: np.clip(np.rint(wanted / scales), -qmax, qmax) * scales
    charges = rate_weight * bits_of_levels(last.levels, qmax)
    steps = problem.importance * scales**2
    return lambda column, wanted: cheapest_levels(wanted / scales, steps * prices[:, column, None], charges) * scales


def _levels_of(values: Reals, scales: Reals) -> Levels:
    return np.rint(values / scales[:, :, None]).astype(np.int64)
