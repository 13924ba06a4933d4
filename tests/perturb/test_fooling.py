"""Pictures of noise that a network is sure about."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from attack_toys import Toy
from edgekit.core.errors import DataError, UsageError
from edgekit.perturb.fooling import FoolingPictures, evolve_fooling, optimize_fooling
from edgekit.perturb.square import Predict


def shape_of(toy: Toy) -> tuple[int, int, int]:
    return (*toy.spec.input_size, toy.spec.num_channels)


def confidences_of(predict: Predict, found: FoolingPictures) -> npt.NDArray[np.float64]:
    raised = np.exp(predict(found.pictures).astype(np.float64))
    return (raised / raised.sum(axis=1, keepdims=True))[np.arange(len(found.targets)), found.targets]


def test_evolved_noise_fools_the_network(toy: Toy) -> None:
    found = evolve_fooling(toy.predict, shape_of(toy), 8, 300, np.random.default_rng(0))

    assert found.pictures.shape == (8, *shape_of(toy))
    np.testing.assert_array_equal(found.targets, [0, 1, 2, 3, 0, 1, 2, 3])
    assert (found.confidences > 0.99).all()
    np.testing.assert_allclose(found.confidences, confidences_of(toy.predict, found), atol=1e-5)
    assert not np.array_equal(found.pictures[0], found.pictures[4])  # populations evolve apart


def test_evolved_noise_fools_the_exported_int8_file(toy: Toy, int8_predict: Predict) -> None:
    found = evolve_fooling(int8_predict, shape_of(toy), 4, 300, np.random.default_rng(0), confidence=0.9)

    # For a class whose logit is clipped at all of the noise there is nothing to climb by.
    assert (found.confidences > 0.9).sum() >= 3
    np.testing.assert_allclose(found.confidences, confidences_of(int8_predict, found), atol=1e-5)


def test_more_generations_are_never_less_sure(toy: Toy) -> None:
    found = [
        evolve_fooling(toy.predict, shape_of(toy), 6, number, np.random.default_rng(0), confidence=1.0).confidences
        for number in (0, 5, 50)
    ]

    assert (found[0] <= found[1]).all()
    assert (found[1] <= found[2]).all()
    assert found[2].mean() > found[0].mean()


def test_evolution_ends_when_the_network_is_sure(toy: Toy) -> None:
    asked: list[int] = []

    def counting(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        asked.append(len(pictures))
        return toy.predict(pictures)

    evolve_fooling(counting, shape_of(toy), 3, 100_000, np.random.default_rng(0), confidence=0.9)

    assert set(asked) == {3}
    assert len(asked) < 1000


def test_optimized_noise_fools_the_network(toy: Toy) -> None:
    targets = np.array([0, 1, 2, 3, 1])

    found = optimize_fooling(toy.gradient_of, shape_of(toy), targets, 200, np.random.default_rng(0))

    np.testing.assert_array_equal(found.targets, targets)
    assert (found.confidences > 0.99).all()
    np.testing.assert_allclose(found.confidences, confidences_of(toy.predict, found), atol=1e-5)
    assert (found.pictures.astype(float).std(axis=(1, 2, 3)) > 50).all()  # noise still: uniform has 74


def test_noise_itself_is_what_no_step_leaves(toy: Toy) -> None:
    optimized = optimize_fooling(toy.gradient_of, shape_of(toy), np.array([0, 1]), 0, np.random.default_rng(3))
    evolved = evolve_fooling(toy.predict, shape_of(toy), 1, 0, np.random.default_rng(3))

    np.testing.assert_array_equal(optimized.pictures[0], evolved.pictures[0])
    np.testing.assert_allclose(optimized.confidences, confidences_of(toy.predict, optimized), atol=1e-5)


def test_fooling_repeats_itself(toy: Toy) -> None:
    def evolve(seed: int) -> npt.NDArray[np.uint8]:
        return evolve_fooling(toy.predict, shape_of(toy), 3, 10, np.random.default_rng(seed)).pictures

    def optimize(seed: int) -> npt.NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        return optimize_fooling(toy.gradient_of, shape_of(toy), np.array([1, 2]), 10, rng).pictures

    for make in (evolve, optimize):
        np.testing.assert_array_equal(make(5), make(5))
        assert not np.array_equal(make(5), make(6))


def test_bad_input_is_refused(toy: Toy) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match="0 pictures"):
        evolve_fooling(toy.predict, shape_of(toy), 0, 5, rng)
    with pytest.raises(UsageError, match="-1 rounds"):
        evolve_fooling(toy.predict, shape_of(toy), 2, -1, rng)
    with pytest.raises(UsageError, match="shape"):
        evolve_fooling(toy.predict, (0, 4, 1), 2, 5, rng)
    with pytest.raises(UsageError, match="confidence"):
        optimize_fooling(toy.gradient_of, shape_of(toy), np.array([0]), 5, rng, confidence=99)
    with pytest.raises(DataError, match="4 classes"):
        optimize_fooling(toy.gradient_of, shape_of(toy), np.array([4]), 5, rng)
    with pytest.raises(DataError, match="1 classes"):
        evolve_fooling(lambda given: np.zeros((len(given), 1), np.float32), shape_of(toy), 2, 5, rng)
