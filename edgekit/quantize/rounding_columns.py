"""The two passes over a layer's columns that all second-order rounding here is made of, for many groups at once.

`fix_columns` fixes one input's weights after the other and lets the later ones make good the error (GPTQ, Frantar et
al. 2023, arXiv:2210.17323, algorithm 1, with its lazy batches). `descend_columns` goes over them again and moves each
level to where it is cheapest with all others held (cyclic coordinate descent: QuantEase, Behdin et al. 2023,
arXiv:2309.01885). Both choose by squared error plus rate (entropy-constrained quantization: Chou, Lookabaugh and Gray
1989), and both take the columns of all outputs together, so that numpy does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Reals: TypeAlias = npt.NDArray[np.float64]
Levels: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]
"""The passes keep the precision that they are given."""
Chooser: TypeAlias = Callable[[int, Floats], Floats]
"""From the number of a column and its wanted values [groups, outputs], the values that it gets."""

_BATCH = 64
"""Columns whose effect on the later ones is added up before it is applied, as one matrix product."""
_RARE = 0.3
"""What a level that did not occur counts as: it costs a lot, not infinitely much."""
_LEAST_DAMPING = 1e-10
_LEAST_ENERGY = 1e-30
"""Inputs of less have not occurred, but for what rounding errors left; float32 holds the factors of more."""


def damping_of(hessians: Reals, share: float) -> Reals:
    """What is added to a Hessian's diagonal: a share of its mean over the inputs that occur; 1 where none does.

    Args:
        hessians: float64 [groups, n, n].
        share: Of the mean.

    Returns:
        float64 [groups].
    """
    diagonals = np.maximum(np.diagonal(hessians, axis1=1, axis2=2), 0)
    means = diagonals.sum(1) / np.maximum((diagonals > 0).sum(1), 1)
    return np.where(means > _LEAST_ENERGY, max(share, _LEAST_DAMPING) * means, 1.0)


def inverse_factors(hessians: Reals, damping: Reals) -> Reals:
    """Upper triangular U with U'U the inverse of each damped Hessian (GPTQ, section 3.3).

    Inputs that never occur are compensated through nothing. Where a Hessian is indefinite, its damping is raised
    tenfold until it is not.

    Args:
        hessians: float64 [groups, n, n], symmetric.
        damping: float64 [groups, n], above 0, added to the diagonals.
    """
    live = np.diagonal(hessians, axis1=1, axis2=2) > 0
    added = damping[:, :, None] * np.eye(hessians.shape[1])
    masked = hessians * (live[:, :, None] & live[:, None, :])
    try:
        return _flipped_factor(masked + added)
    except np.linalg.LinAlgError:
        return np.stack([_raised_factor(each, own) for each, own in zip(masked, added, strict=True)])


def fix_columns(weights: Floats, factors: Floats, choose: Chooser) -> Floats:
    """Fix the weights of one column after the other; those to come make good the errors.

    Args:
        weights: Floats [groups, outputs, n], columns in the order in which they are fixed.
        factors: Floats [groups, n, n] of the Hessians in this order, from `inverse_factors`.
        choose: Gives a column its values.

    Returns:
        Like weights, the fixed values.
    """
    rest = weights.transpose(0, 2, 1).copy()  # a column's outputs lie side by side
    num_columns = rest.shape[1]
    for start in range(0, num_columns, _BATCH):
        stop = min(start + _BATCH, num_columns)
        errors = np.empty_like(rest[:, start:stop])
        for column in range(start, stop):
            wanted = rest[:, column]
            fixed = choose(column, wanted)
            error = (wanted - fixed) / factors[:, column, column, None]
            rest[:, column] = fixed
            rest[:, column + 1 : stop] -= factors[:, column, column + 1 : stop, None] * error[:, None]
            errors[:, column - start] = error
        rest[:, stop:] -= factors[:, start:stop, stop:].transpose(0, 2, 1) @ errors
    return rest.transpose(0, 2, 1)


def descend_columns(values: Floats, weights: Floats, hessians: Floats, choose: Chooser) -> Floats:
    """Give each column the values that are cheapest with all other columns held: no pass raises the cost.

    Args:
        values: Floats [groups, outputs, n], fixed values to start from.
        weights: Like values, what is wanted.
        hessians: Floats [groups, n, n], diagonals above 0.
        choose: Gives a column its values from those that would be best if any value were allowed.

    Returns:
        Like values.
    """
    fixed = values.transpose(0, 2, 1).copy()
    pulls = hessians @ (weights.transpose(0, 2, 1) - fixed)  # minus half the gradient
    num_columns = fixed.shape[1]
    for start in range(0, num_columns, _BATCH):
        stop = min(start + _BATCH, num_columns)
        before = fixed[:, start:stop].copy()
        for column in range(start, stop):
            wanted = fixed[:, column] + pulls[:, column] / hessians[:, column, column, None]
            chosen = choose(column, wanted)
            moved = chosen - fixed[:, column]
            pulls[:, column:stop] -= hessians[:, column:stop, column, None] * moved[:, None]
            fixed[:, column] = chosen
        pulls[:, stop:] -= hessians[:, stop:, start:stop] @ (fixed[:, start:stop] - before)
    return fixed.transpose(0, 2, 1)


def bits_of_levels(levels: Levels, qmax: int = 127) -> Reals:
    """Bits of each level from -qmax to qmax, by how often it occurs.

    >>> bits_of_levels(np.array([0, 0, 0, 1]))[126:129].round(1).tolist()
    [8.1, 4.6, 6.0]
    """
    counts = np.bincount((levels + qmax).ravel(), minlength=2 * qmax + 1) + _RARE
    return np.log2(counts.sum()) - np.log2(counts)


def cheapest_levels(scaled: Floats, prices: Floats, charges: Reals) -> Levels:
    """The level of least squared error times price plus charge: a neighbour, the next one towards zero, or zero.

    Args:
        scaled: Wanted values in units of the step.
        prices: Broadcast against scaled: price of a squared error in units of the step.
        charges: float64 [2 qmax + 1], what each level from -qmax to qmax costs besides.
    """
    qmax = len(charges) // 2
    below = np.floor(scaled)
    candidates = np.stack([below, below + 1, np.trunc(scaled) - np.sign(scaled), np.zeros_like(scaled)])
    candidates = np.clip(candidates, -qmax, qmax).astype(np.int64)
    costs = prices * (scaled - candidates) ** 2 + charges[candidates + qmax]
    return np.take_along_axis(candidates, costs.argmin(0)[None], 0)[0]


def _flipped_factor(hessians: Reals) -> Reals:
    """The inverse of the upper triangular R with RR' = H, which is the lower factor of H turned around."""
    lower = np.linalg.cholesky(hessians[:, ::-1, ::-1])
    return np.asarray(np.triu(np.linalg.inv(lower[:, ::-1, ::-1])), np.float64)


def _raised_factor(hessian: Reals, added: Reals) -> Reals:
    try:
        return _flipped_factor((hessian + added)[None])[0]
    except np.linalg.LinAlgError:
        return _raised_factor(hessian, added * 10)
