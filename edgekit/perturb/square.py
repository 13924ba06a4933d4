"""The square attack: random search with nothing but answers, so that it works on exported files."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import UsageError
from edgekit.perturb.ball import Ball, Labels, Logits, Pictures, ball_around, check_labels
from edgekit.perturb.gradient import margins

Predict: TypeAlias = Callable[[Pictures], Logits]
"""uint8 pictures [n, h, w, c] -> logits [n, classes]."""

START_SHARE = 0.8
"""Share of a picture's area that the first squares cover: p of the paper, which takes 0.05 where it has 10,000 queries.

With hundreds of queries larger squares break more pictures; AutoAttack (Croce and Hein 2020) starts with 0.8, too. On
the int8 file of shufflenet (Fashion-MNIST, 60 pictures, epsilon 8/255, 150 queries; 91.7 % unchanged) 0.05 leaves 80 %,
0.3 leaves 53 % and 0.8 leaves 35 % right.
"""
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries of 10,000 after which the share halves (Andriushchenko et al. 2020, section 4.1)."""


def square_attack(
    predict: Predict,
    pictures: Pictures,
    labels: Labels,
    epsilon: float,
    num_queries: int,
    rng: np.random.Generator,
) -> Pictures:
    """Change squares of pictures at random and keep what brings a wrong answer nearer (Andriushchenko et al. 2020).

    Untargeted, in the maximum norm (Algorithms 1 and 2): it begins with vertical stripes of +-epsilon, then sets the
    window of a random square to +-epsilon, one sign per channel, and keeps it unless the margin of the right class
    over the best other one grows. A margin that stays counts as no worse, other than in the paper: logits of int8 files
    have few values, so that equal margins are common. Pictures that are answered wrong are asked about no more, and
    those that are wrong from the start are returned as they are.

    Args:
        predict: Logits of pictures; called once per query on all pictures that are still answered right.
        pictures: uint8 [n, h, w, c].
        labels: int64 [n], the right classes.
        epsilon: Largest change of a value as a share of 0..255 (8/255 = 0.031), rounded down to whole levels;
            0 returns the pictures as they are.
        num_queries: Most answers asked for per picture, that of the unchanged picture among them; at least 1.
        rng: Draws signs and squares.

    Returns:
        uint8 [n, h, w, c], a new array, within epsilon: of each picture the change with the smallest margin.

    Raises:
        UsageError: Epsilon outside 0..1, or no query.
        DataError: Pictures or labels of another type or shape, or labels of classes that are not there.
    """
    ball = ball_around(pictures, epsilon)
    check_labels(pictures, labels)
    if num_queries < 1:
        raise UsageError(f"num_queries is {num_queries}, expected 1 or more")
    found = pictures.copy()
    if ball.radius == 0 or not len(pictures):
        return found
    logits = predict(pictures)
    check_labels(pictures, labels, logits.shape[1])
    margin = margins(logits, labels)
    for query in range(num_queries - 1):
        alive = np.flatnonzero(margin >= 0)
        if not alive.size:
            break
        if query == 0:
            tried = _stripes(ball, alive, rng)
        else:
            tried = _with_squares(found[alive], ball, alive, share_at(query, num_queries), rng)
        tried_margin = margins(predict(tried), labels[alive])
        is_kept = tried_margin <= margin[alive]
        found[alive[is_kept]], margin[alive[is_kept]] = tried[is_kept], tried_margin[is_kept]
    return found


def share_at(query: int, num_queries: int) -> float:
    """Share of the area that a square covers: halved ever more slowly, the schedule stretched to the number of queries.

    >>> [share_at(query, 10_000) for query in (1, 11, 51, 9_999)] == [0.8, 0.4, 0.2, 0.8 / 512]
    True
    """
    progress = query * 10_000 // num_queries
    return START_SHARE / 2 ** sum(progress > halving for halving in _HALVINGS)


def _stripes(ball: Ball, alive: npt.NDArray[np.int64], rng: np.random.Generator) -> Pictures:
    """Columns of +-epsilon, a sign of its own for each channel (section 4.2, "Initialization")."""
    _, _, width, channels = ball.lowest.shape
    is_up = rng.integers(0, 2, (len(alive), 1, width, channels)) == 1
    return np.where(is_up, ball.highest[alive], ball.lowest[alive])


def _with_squares(
    current: Pictures, ball: Ball, alive: npt.NDArray[np.int64], share: float, rng: np.random.Generator
) -> Pictures:
    """The pictures with one square each at the edge of the ball (Algorithm 2)."""
    num, height, width, channels = current.shape
    side = min(max(1, round(math.sqrt(share * height * width))), height, width)
    top = rng.integers(0, height - side + 1, (num, 1))
    left = rng.integers(0, width - side + 1, (num, 1))
    is_up = rng.integers(0, 2, (num, 1, 1, channels)) == 1
    own = np.arange(num)[:, None, None]
    rows, columns = (top + np.arange(side))[:, :, None], (left + np.arange(side))[:, None, :]
    whole = alive[:, None, None]
    tried = current.copy()
    tried[own, rows, columns] = np.where(is_up, ball.highest[whole, rows, columns], ball.lowest[whole, rows, columns])
    return tried
