"""Learned rounding: whether each weight goes up or down is found by gradient descent on the output error.

AdaRound (Nagel et al. 2020, arXiv:2004.10568): a rectified sigmoid of a free variable says how far up a weight goes
(eq. 23), a regularizer whose exponent falls drives it to 0 or 1 (eq. 24). The output error is taken in its Hessian form
(eq. 16) and not picture by picture, so a step is one matrix product and memory does not depend on the pictures.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.quantize.layer_problem import Levels, Reals
from edgekit.quantize.rounding_columns import Floats
from edgekit.quantize.rounding_config import LearningConfig

_Singles = npt.NDArray[np.float32]

_STRETCH, _SHIFT = np.float32(1.2), np.float32(0.1)
"""zeta - gamma and -gamma of eq. 23: the sigmoid is stretched so that it reaches 0 and 1."""
_STEEPEST = 1e6
"""Slopes beyond it (an output without importance, where bits have a price) decide the rounding alone, all the same."""
_MEAN_DECAY, _SQUARE_DECAY = np.float32(0.9), np.float32(0.99)


class SoftProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is learned, in units of each output's step.

    Args:
        wanted: float64 [groups, outputs, inputs], weights over scales.
        hessians: Floats [groups, inputs, inputs], diagonals above 0.
        start: int64 like wanted, levels to start from.
        qmax: Largest level.
        charges: float64 [groups, outputs, 2 qmax + 1] or broadcast to it: price of each level's bits over the price of
            a squared step; zeros ask for the least error.
    """

    wanted: Reals
    hessians: Floats
    start: Levels
    qmax: int
    charges: Reals


def learn_levels(problem: SoftProblem, config: LearningConfig) -> Levels:
    """Levels, each one of the two around where a weight would go with all others held.

    Args:
        problem: In units of steps.
        config: How long and how fast.

    Returns:
        int64 like `problem.start`, within -qmax..qmax.
    """
    unit = np.diagonal(problem.hessians, axis1=1, axis2=2).mean(1)[:, None, None]
    base = _lower_levels(problem)
    off = (problem.wanted - base).astype(np.float32)
    hessians = (problem.hessians / unit).astype(np.float32)
    slopes = _slopes(problem.charges, base, problem.qmax, unit)
    went_up = np.where(problem.start > base, config.start, 1 - config.start).astype(np.float32)
    hidden = _logit(((went_up + _SHIFT) / _STRETCH).astype(np.float32))
    mean = np.zeros_like(hidden)
    square = np.zeros_like(hidden)
    for step in range(config.num_steps):
        sigmoid = 1 / (1 + np.exp(-hidden))
        share = np.clip(_STRETCH * sigmoid - _SHIFT, 0, 1)
        gradient = np.float32(-2) * ((off - share) @ hessians) + slopes
        gradient += _regularizer_slope(share, step / config.num_steps, config)
        gradient *= _STRETCH * sigmoid * (1 - sigmoid)
        mean += (1 - _MEAN_DECAY) * (gradient - mean)
        square += (1 - _SQUARE_DECAY) * (gradient * gradient - square)
        rate = config.learning_rate * np.sqrt(1 - _SQUARE_DECAY ** (step + 1)) / (1 - _MEAN_DECAY ** (step + 1))
        hidden -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))
    return base + (hidden > 0)


def _lower_levels(problem: SoftProblem) -> Levels:
    """The lower of the start's level and its neighbour on the side where the weight would rather be."""
    diagonals = np.diagonal(problem.hessians, axis1=1, axis2=2)[:, None, :]
    pull = ((problem.wanted - problem.start) @ problem.hessians) / diagonals
    return np.clip(problem.start - (pull < 0), -problem.qmax, problem.qmax - 1)


def _slopes(charges: Reals, base: Levels, qmax: int, unit: Floats) -> _Singles:
    """What going up costs in bits, in the unit of the error."""
    rises = np.broadcast_to(np.diff(charges, axis=2), (*base.shape[:2], 2 * qmax))
    slopes = np.take_along_axis(rises, base + qmax, axis=2) / unit
    return np.clip(slopes, -_STEEPEST, _STEEPEST).astype(np.float32)


def _regularizer_slope(share: _Singles, progress: float, config: LearningConfig) -> _Singles | float:
    """Derivative of eq. 24, `1 - |2 h - 1|^beta`, in h."""
    if progress < config.warm_up:
        return 0.0
    left = (1 - progress) / (1 - config.warm_up)
    beta = np.float32(config.beta_end + (config.beta_start - config.beta_end) * left)
    signed = 2 * share - 1
    return np.float32(-2 * config.regularization) * beta * np.sign(signed) * np.abs(signed) ** (beta - 1)


def _logit(share: _Singles) -> _Singles:
    return np.log(share / (1 - share))
