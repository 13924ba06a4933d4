"""Pictures of nothing that a network is sure about: evolved from its answers alone, or optimized by its gradient."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError, UsageError
from edgekit.perturb.ball import Labels, Logits, Pictures
from edgekit.perturb.gradient import LossGradient
from edgekit.perturb.square import Predict
from edgekit.runtime.classify import softmax

MUTATION_RATE = 0.1
"""Share of values that a mutation changes at first; it halves every `_RATE_HALF_LIFE` generations."""
_RATE_HALF_LIFE = 1000
_MUTATION_STRENGTH = 15
"""Distribution index of polynomial mutation: the larger, the smaller its steps."""
_STEP_LEVELS = np.float32(2)
"""Length of a gradient step, in levels of 255."""


class FoolingPictures(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures of noise and what they are taken for.

    Args:
        pictures: uint8 [n, h, w, c].
        targets: int64 [n], the class that each was made for.
        confidences: float32 [n], the softmax probability of that class that the attacked model gives it, 0..1.
    """

    pictures: Pictures
    targets: Labels
    confidences: npt.NDArray[np.float32]


def evolve_fooling(
    predict: Predict,
    shape: tuple[int, int, int],
    num_pictures: int,
    num_generations: int,
    rng: np.random.Generator,
    confidence: float = 0.999,
) -> FoolingPictures:
    """Evolve pictures from noise until a model is sure of a class (Nguyen et al. 2015, section 2.2, direct encoding).

    MAP-Elites: one champion per class; every generation mutates champions chosen at random, and a child becomes the
    champion of every class for which the model is at least as sure of it. Values start uniform in 0..255 and mutate by
    polynomial mutation, a tenth of them at first. Picture i is for class i modulo the number of classes; champions of
    the same class evolve apart, in populations of one champion a class.

    Args:
        predict: Logits of pictures; called once per generation on one child per picture.
        shape: (height, width, channels) of the pictures.
        num_pictures: Pictures to make.
        num_generations: Most generations; 0 leaves the noise.
        rng: Draws noise, parents and mutations.
        confidence: It ends early when the model is that sure of all of them; softmax probability, 0..1.

    Returns:
        The champions, of whatever confidence they have come to.

    Raises:
        UsageError: Fewer than one picture, a negative number of generations, no such shape, confidence outside 0..1.
        DataError: Fewer than two classes.
    """
    _check_fooling(shape, num_pictures, num_generations, confidence)
    values = rng.uniform(0, 255, (num_pictures, *shape)).astype(np.float32)
    probabilities = _probabilities(predict(_to_bytes(values)))
    num_classes = probabilities.shape[1]
    if num_classes < 2:
        raise DataError(f"the model has {num_classes} classes, expected 2 or more")
    niches = np.arange(num_pictures)
    targets, populations = niches % num_classes, niches // num_classes
    values, confidences = _champions(values, probabilities, values, np.full(num_pictures, -1, np.float32))
    for generation in range(num_generations):
        if (confidences >= confidence).all():
            break
        first = populations * num_classes
        size = np.minimum(first + num_classes, num_pictures) - first
        parents = first + (rng.random(num_pictures) * size).astype(np.int64)
        children = _mutate(values[parents], MUTATION_RATE / 2 ** (generation // _RATE_HALF_LIFE), rng)
        values, confidences = _champions(children, _probabilities(predict(_to_bytes(children))), values, confidences)
    return FoolingPictures(pictures=_to_bytes(values), targets=targets, confidences=confidences)


def optimize_fooling(
    gradient_of: LossGradient,
    shape: tuple[int, int, int],
    targets: Labels,
    num_steps: int,
    rng: np.random.Generator,
    confidence: float = 0.999,
) -> FoolingPictures:
    """Follow the gradient from noise to pictures that a network is sure about (Nguyen et al. 2015, section 2.3).

    Signed steps of 2 levels down the cross-entropy to the target, taken at pictures rounded to bytes; each picture
    stops when the network is sure enough of it, so that it stays as much noise as can be.

    Args:
        gradient_of: As `make_loss_gradient` makes it.
        shape: (height, width, channels) of the pictures.
        targets: int64 [n], the class that each picture shall be taken for.
        num_steps: Most steps; 0 leaves the noise.
        rng: Draws the noise, uniform in 0..255.
        confidence: Softmax probability at which a picture is done, 0..1.

    Returns:
        For each target the picture of the highest confidence that was met.

    Raises:
        UsageError: No target, a negative number of steps, no such shape, confidence outside 0..1.
        DataError: Targets that are not among the classes.
    """
    _check_fooling(shape, len(targets), num_steps, confidence)
    values = rng.uniform(0, 255, (len(targets), *shape)).astype(np.float32)
    best = np.zeros(values.shape, np.uint8)
    confidences = np.full(len(targets), -1, np.float32)
    for step in range(num_steps + 1):
        alive = np.flatnonzero(confidences < confidence)
        if not alive.size:
            break
        pictures = _to_bytes(values[alive])
        gradient, logits = gradient_of(pictures.astype(np.float32), targets[alive])
        sure = _probabilities(logits)[np.arange(len(alive)), targets[alive]]
        is_better = sure > confidences[alive]
        best[alive[is_better]], confidences[alive[is_better]] = pictures[is_better], sure[is_better]
        if step < num_steps:
            values[alive] = np.clip(values[alive] - _STEP_LEVELS * np.sign(gradient), 0, 255)
    return FoolingPictures(pictures=best, targets=targets.astype(np.int64), confidences=confidences)


def _champions(
    children: npt.NDArray[np.float32],
    probabilities: npt.NDArray[np.float32],
    values: npt.NDArray[np.float32],
    confidences: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Champions and confidences after the children have competed, each population for itself, for all its classes."""
    values, confidences = values.copy(), confidences.copy()
    num, num_classes = probabilities.shape
    for first in range(0, num, num_classes):
        population = np.arange(first, min(first + num_classes, num))
        own = probabilities[population, : len(population)]  # the niche at place i is for class i
        best, sure = own.argmax(axis=0), own.max(axis=0)
        # Equals win too: where the answers of a quantized model do not change, the search drifts on.
        wins = sure >= confidences[population]
        values[population[wins]] = children[population[best[wins]]]
        confidences[population[wins]] = sure[wins]
    return values, confidences


def _mutate(values: npt.NDArray[np.float32], rate: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Polynomial mutation of a random share of the values (Deb and Agrawal 1999)."""
    drawn = rng.random(values.shape, np.float32)
    root = np.float32(1 / (_MUTATION_STRENGTH + 1))
    change = np.where(drawn < 0.5, (2 * drawn) ** root - 1, 1 - (2 * (1 - drawn)) ** root)
    is_mutated = rng.random(values.shape, np.float32) < rate
    return np.clip(values + 255 * change * is_mutated, 0, 255).astype(np.float32)


def _probabilities(logits: Logits) -> npt.NDArray[np.float32]:
    return softmax(logits.astype(np.float64)).astype(np.float32)


def _to_bytes(values: npt.NDArray[np.float32]) -> Pictures:
    return np.rint(values).astype(np.uint8)


def _check_fooling(shape: tuple[int, int, int], num_pictures: int, num_rounds: int, confidence: float) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise UsageError(f"shape is {shape}, expected (height, width, channels), each 1 or more")
    if num_pictures < 1 or num_rounds < 0:
        raise UsageError(f"got {num_pictures} pictures and {num_rounds} rounds, expected 1 or more and 0 or more")
    if not 0 <= confidence <= 1:
        raise UsageError(f"confidence is {confidence}, expected 0 to 1")
