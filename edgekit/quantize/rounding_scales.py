"""Distances of a layer's levels: how far each output's grid reaches, and the best distance once levels are chosen.

A grid that ends below the largest weight clips it and is finer for all others. Its end is searched by the error that
the diagonal of the Hessian foresees; levels in hand, the best distance is a least-squares answer on the whole Hessian.
"""

from __future__ import annotations

import numpy as np

from edgekit.quantize.layer_problem import LayerProblem, Reals, RoundedWeights, qmax_of, require_sound
from edgekit.quantize.ranges import SMALLEST_SCALE
from edgekit.quantize.rounding_config import DEFAULT_ROUNDING, RoundingConfig

_NUM_COARSE = 13
_NUM_FINE = 4
_LEAST_SHARES = {2: 0.2, 3: 0.25, 4: 0.35, 5: 0.45, 6: 0.5, 7: 0.6, 8: 0.7}
"""By bits: the smallest share of an output's largest weight that is tried as the end of its grid."""
_EVEN_SHARE = 0.01
"""Weights of inputs that hardly occur count as if these had this share of the mean energy."""


def choose_scales(problem: LayerProblem, num_bits: int, config: RoundingConfig = DEFAULT_ROUNDING) -> Reals:
    """The scale of each output of least error over the shares of its largest weight that the grid may end at.

    Outputs of zeros get the largest scale of the others, 1 if all are zeros, as `weights.choose_weight_grid` does.

    Args:
        problem: Of the layer.
        num_bits: Grid bits, 2 to 8.
        config: One scale or many; how many significant bits (a packed file pays for each); price of a bit.
            Where bits have a price, no scale is finer than what pays at this price (Gish and Pierce 1968:
            `price * scale^2 = 6 rate_weight / ln 2`).

    Returns:
        float64 [groups, outputs], above 0.

    Raises:
        QuantizationError: The problem is not sound (`require_sound`), or num_bits not 2 to 8.
    """
    require_sound(problem)
    qmax = qmax_of(num_bits)
    energies = _energies(problem)
    ends = np.abs(problem.weights).max(axis=2)
    alive = ends > 0
    if not alive.any():
        return np.ones_like(ends)
    if config.one_scale:
        ends = np.full_like(ends, ends.max())
    scales = np.where(ends > 0, ends, 1.0) / qmax
    scales = scales * _best_shares(problem, energies, scales, num_bits, one_scale=config.one_scale)
    if config.rate_weight > 0:
        scales = np.maximum(
            scales, _paying_scales(problem, energies, config.rate_weight, ends, one_scale=config.one_scale)
        )
    scales = np.where(alive, scales, scales[alive].max())
    return with_short_mantissa(np.maximum(scales, SMALLEST_SCALE), config.mantissa_bits)


def with_short_mantissa(scales: Reals, mantissa_bits: int | None) -> Reals:
    """Scales rounded to so many significant bits, the leading one counted; None returns them as they are.

    To the nearest, not up: the coarser grids cost more than the clipping that they save.

    >>> with_short_mantissa(np.array([0.3, 1.0]), 3).tolist()
    [0.3125, 1.0]
    """
    if mantissa_bits is None:
        return scales
    mantissas, exponents = np.frexp(scales)
    return np.ldexp(np.rint(np.ldexp(mantissas, mantissa_bits)), exponents - mantissa_bits)


def refit_scales(
    problem: LayerProblem, rounded: RoundedWeights, *, one_scale: bool = False, mantissa_bits: int | None = None
) -> Reals:
    """The scales of least error for given levels: `s = W H L^T / L H L^T`; where that is no better, those given."""
    levels, scales = rounded.levels, rounded.scales
    moved = levels @ problem.hessian
    products = (moved * problem.weights).sum(2)
    energies = (moved * levels).sum(2)
    if one_scale:
        products = np.full_like(products, (problem.importance * products).sum())
        energies = np.full_like(energies, (problem.importance * energies).sum())
    found = (energies > 0) & (products > 0)
    fitted = np.where(found, products / np.where(found, energies, 1.0), scales)
    fitted = with_short_mantissa(np.maximum(fitted, SMALLEST_SCALE), mantissa_bits)
    better = energies * fitted**2 - 2 * products * fitted < energies * scales**2 - 2 * products * scales
    return np.where(better, fitted, scales)


def _energies(problem: LayerProblem) -> Reals:
    """float64 [groups, inputs]: what a squared error of each weight costs, compensation apart."""
    diagonals = np.maximum(np.diagonal(problem.hessian, axis1=1, axis2=2), 0)
    means = diagonals.mean(1, keepdims=True)
    return np.where(means > 0, diagonals + _EVEN_SHARE * means, 1.0)


def _best_shares(problem: LayerProblem, energies: Reals, full: Reals, num_bits: int, *, one_scale: bool) -> Reals:
    """Share of each full scale of least error: a coarse search, then a finer one around its answer."""
    least = _LEAST_SHARES[num_bits]
    weights = problem.weights.astype(np.float32)
    prices = energies.astype(np.float32)
    qmax = np.float32(qmax_of(num_bits))
    best_share = np.ones_like(full)
    best_error = np.full_like(full, np.inf)

    def try_shares(shares: Reals) -> None:
        scales = (full * shares).astype(np.float32)[:, :, None]
        off = weights / scales
        off -= np.clip(np.rint(off), -qmax, qmax)
        off *= scales
        error = np.einsum("goi,goi,gi->go", off, off, prices, dtype=np.float64, casting="same_kind")
        if one_scale:
            error = np.full_like(error, (problem.importance * error).sum())
        better = error < best_error
        best_share[better] = shares[better]
        best_error[better] = error[better]

    for share in np.linspace(1.0, least, _NUM_COARSE):
        try_shares(np.full_like(full, share))
    distance = (1.0 - least) / (_NUM_COARSE - 1) / (_NUM_FINE // 2 + 1)
    centre = best_share.copy()
    for offset in range(-(_NUM_FINE // 2), _NUM_FINE // 2 + 1):
        if offset:
            try_shares(np.minimum(centre + offset * distance, 1.0))
    return best_share


def _paying_scales(
    problem: LayerProblem, energies: Reals, rate_weight: float, ends: Reals, *, one_scale: bool
) -> Reals:
    """The scale at which a bit is worth its price, at most the largest weight."""
    prices = problem.importance * np.exp(np.log(energies).mean(1))[:, None]
    if one_scale:
        prices = np.full_like(prices, prices.mean())
    with np.errstate(divide="ignore"):
        return np.minimum(np.sqrt(6 * rate_weight / (np.log(2) * prices)), np.where(ends > 0, ends, 1.0))
