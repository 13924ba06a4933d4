"""Attacks with the gradient of the loss: one step (FGSM) and many (PGD)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import UsageError
from edgekit.perturb.ball import Ball, Labels, Logits, Pictures, ball_around, check_labels

Floats: TypeAlias = npt.NDArray[np.float32]

LossGradient: TypeAlias = Callable[[Floats, Labels], tuple[Floats, Logits]]
"""Float pictures [n, h, w, c] in 0..255, labels [n] -> the gradient of each picture's own cross-entropy by its values
(float32 [n, h, w, c], loss per level of 255), and the logits (float32 [n, classes])."""

STEP_SHARE = 2.5
"""Steps add up to this many epsilons, so that the edge is reached from anywhere (Madry et al. 2018, section 5)."""


def fgsm(gradient_of: LossGradient, pictures: Pictures, labels: Labels, epsilon: float) -> Pictures:
    """Move every value by epsilon towards more loss: x + epsilon * sign(grad) (Goodfellow et al. 2015, section 4).

    Values whose gradient is exactly 0 stay. Deterministic.

    Args:
        gradient_of: As `make_loss_gradient` makes it.
        pictures: uint8 [n, h, w, c].
        labels: int64 [n], the right classes.
        epsilon: Largest change of a value as a share of 0..255 (8/255 = 0.031), rounded down to whole levels;
            0 returns the pictures as they are.

    Returns:
        uint8 [n, h, w, c], a new array, within epsilon.

    Raises:
        UsageError: Epsilon outside 0..1.
        DataError: Pictures or labels of another type or shape, or labels of classes that are not there.
    """
    ball = ball_around(pictures, epsilon)
    check_labels(pictures, labels)
    if ball.radius == 0 or not len(pictures):
        return pictures.copy()
    values = pictures.astype(np.float32)
    gradient, logits = gradient_of(values, labels)
    check_labels(pictures, labels, logits.shape[1])
    return ball.round(values + ball.radius * np.sign(gradient))


def pgd(  # noqa: PLR0913, PLR0917 - the method's own parameters, each with its letter in the paper
    gradient_of: LossGradient,
    pictures: Pictures,
    labels: Labels,
    epsilon: float,
    step: float | None = None,
    num_steps: int = 20,
    rng: np.random.Generator | None = None,
) -> Pictures:
    """Take many signed gradient steps, each projected back to within epsilon (Madry et al. 2018, section 2.1).

    Gradients are taken at pictures rounded to bytes, while the steps add up unrounded. Of each picture's iterates the
    one is returned that hurts most: a wrong answer before a right one, then the larger loss. `num_steps` + 1 passes.

    Args:
        gradient_of: As `make_loss_gradient` makes it.
        pictures: uint8 [n, h, w, c].
        labels: int64 [n], the right classes.
        epsilon: Largest change of a value as a share of 0..255 (8/255 = 0.031), rounded down to whole levels;
            0 returns the pictures as they are.
        step: Length of a step as a share of 0..255; None for 2.5 epsilon / num_steps.
        num_steps: Steps, at least 1.
        rng: Draws where within epsilon it starts; None starts at the pictures themselves (Kurakin et al. 2017).

    Returns:
        uint8 [n, h, w, c], a new array, within epsilon.

    Raises:
        UsageError: Epsilon outside 0..1, no step, or a step that is not positive.
        DataError: Pictures or labels of another type or shape, or labels of classes that are not there.
    """
    ball = ball_around(pictures, epsilon)
    check_labels(pictures, labels)
    if num_steps < 1:
        raise UsageError(f"num_steps is {num_steps}, expected 1 or more")
    if step is not None and not step > 0:
        raise UsageError(f"step is {step}, expected more than 0: a share of the range 0..255")
    if ball.radius == 0 or not len(pictures):
        return pictures.copy()
    step_levels = np.float32(STEP_SHARE * ball.radius / num_steps if step is None else 255 * step)
    values = _start(ball, pictures, rng)
    worst = _Worst(pictures, labels)
    for _ in range(num_steps):
        gradient = worst.offer(ball.round(values), gradient_of)
        values = ball.project(values + step_levels * np.sign(gradient))
    worst.offer(ball.round(values), gradient_of)
    return worst.pictures


def _start(ball: Ball, pictures: Pictures, rng: np.random.Generator | None) -> Floats:
    values = pictures.astype(np.float32)
    if rng is None:
        return values
    return ball.project(values + rng.uniform(-ball.radius, ball.radius, values.shape).astype(np.float32))


class _Worst:
    """Of every picture, the change that hurt most so far."""

    def __init__(self, pictures: Pictures, labels: Labels) -> None:
        self.pictures = pictures.copy()
        self._labels = labels
        self._is_wrong = np.zeros(len(labels), np.bool_)
        self._loss = np.full(len(labels), -np.inf)

    def offer(self, pictures: Pictures, gradient_of: LossGradient) -> Floats:
        """Keep those that hurt more than what there is; returns the gradient at them."""
        gradient, logits = gradient_of(pictures.astype(np.float32), self._labels)
        check_labels(pictures, self._labels, logits.shape[1])
        loss, is_wrong = cross_entropy(logits, self._labels), margins(logits, self._labels) < 0
        is_worse = (is_wrong & ~self._is_wrong) | ((is_wrong == self._is_wrong) & (loss > self._loss))
        self.pictures[is_worse] = pictures[is_worse]
        self._loss[is_worse], self._is_wrong[is_worse] = loss[is_worse], is_wrong[is_worse]
        return gradient


def cross_entropy(logits: Logits, labels: Labels) -> npt.NDArray[np.float64]:
    """-log of the label's softmax probability, float64 [n].

    >>> cross_entropy(np.zeros((1, 4), np.float32), np.array([2])).round(4)
    array([1.3863])
    """
    exact = logits.astype(np.float64)
    highest = exact.max(axis=1, keepdims=True)
    total = highest[:, 0] + np.log(np.exp(exact - highest).sum(axis=1))
    return total - exact[np.arange(len(labels)), labels]


def margins(logits: Logits, labels: Labels) -> npt.NDArray[np.float32]:
    """How far the label's logit is ahead of the best other one, float32 [n]; negative where the answer is wrong.

    >>> margins(np.array([[1, 3, 2], [1, 3, 2]], np.float32), np.array([1, 2]))
    array([ 1., -1.], dtype=float32)
    """
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return logits[rows, labels] - others.max(axis=1)
