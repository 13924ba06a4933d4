"""FGSM and PGD: bounds, strength, and the gradient they go by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from attack_toys import Toy
from edgekit.core.errors import DataError, UsageError
from edgekit.perturb.gradient import LossGradient, cross_entropy, fgsm, margins, pgd
from edgekit.perturb.torch_gradient import make_loss_gradient

EPSILON = 0.2

Attack = Callable[..., npt.NDArray[np.uint8]]


def linear_gradient(num_classes: int, shape: tuple[int, ...], seed: int) -> LossGradient:
    """The loss gradient of a linear classifier, by hand: weights' * (softmax - one-hot)."""
    weights = np.random.default_rng(seed).normal(size=(num_classes, *shape))

    def gradient_of(pictures: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> tuple[np.ndarray, np.ndarray]:
        logits = np.einsum("nhwc,khwc->nk", pictures, weights) / 255
        share = np.exp(logits - logits.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        share[np.arange(len(labels)), labels] -= 1
        return np.einsum("nk,khwc->nhwc", share, weights).astype(np.float32), logits.astype(np.float32)

    return gradient_of


ATTACKS = {
    "fgsm": fgsm,
    "pgd": lambda *given, seed=0: pgd(*given, num_steps=4, rng=np.random.default_rng(seed)),
    "pgd from the picture": lambda *given: pgd(*given, num_steps=4),
    "pgd in long steps": lambda *given: pgd(*given, step=0.5, num_steps=3, rng=np.random.default_rng(0)),
}


@pytest.mark.parametrize("name", ATTACKS)
@given(
    levels=st.integers(0, 255),
    num=st.integers(0, 3),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_result_is_within_epsilon_and_the_pictures_stay(
    name: str, levels: int, num: int, channels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (num, 4, 5, channels)).astype(np.uint8)
    pictures[:, 0], pictures[:, 1] = 0, 255  # at the edges of the range
    before, labels = pictures.copy(), rng.integers(0, 3, num)
    gradient_of = linear_gradient(3, (4, 5, channels), seed)

    attacked = ATTACKS[name](gradient_of, pictures, labels, levels / 255)

    assert (attacked.dtype, attacked.shape) == (np.uint8, pictures.shape)
    assert int(np.abs(attacked.astype(int) - pictures).max(initial=0)) <= levels
    assert not np.shares_memory(attacked, pictures)
    np.testing.assert_array_equal(pictures, before)
    if levels == 0:
        np.testing.assert_array_equal(attacked, pictures)


@pytest.mark.parametrize("name", ATTACKS)
def test_epsilon_between_two_levels_is_rounded_down(name: str, toy: Toy) -> None:
    attacked = ATTACKS[name](toy.gradient_of, toy.pictures, toy.labels, 2.9 / 255)

    assert int(np.abs(attacked.astype(int) - toy.pictures).max()) == 2


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_lowers_accuracy(name: str, toy: Toy) -> None:
    clean = toy.accuracy(toy.pictures)

    attacked = toy.accuracy(ATTACKS[name](toy.gradient_of, toy.pictures, toy.labels, EPSILON))

    assert clean > 0.95
    assert attacked < clean - 0.2


def test_pgd_is_at_least_as_strong_as_fgsm(toy: Toy) -> None:
    for levels in (4, 8, 16, 32, 48, 64):
        one = fgsm(toy.gradient_of, toy.pictures, toy.labels, levels / 255)
        many = pgd(toy.gradient_of, toy.pictures, toy.labels, levels / 255, num_steps=20, rng=np.random.default_rng(0))

        assert toy.accuracy(many) <= toy.accuracy(one)
        losses = [cross_entropy(toy.predict(given), toy.labels).mean() for given in (toy.pictures, one, many)]
        assert losses[0] < losses[1] <= losses[2] * (1 + 1e-6)


@pytest.mark.parametrize("name", ATTACKS)
def test_whole_range_is_a_valid_epsilon(name: str, toy: Toy) -> None:
    attacked = ATTACKS[name](toy.gradient_of, toy.pictures, toy.labels, 1)

    assert toy.accuracy(attacked) < 0.3


def test_fgsm_adds_the_sign_of_the_gradient(toy: Toy) -> None:
    gradient, _ = toy.gradient_of(toy.pictures.astype(np.float32), toy.labels)

    attacked = fgsm(toy.gradient_of, toy.pictures, toy.labels, 10 / 255)

    expected = np.clip(toy.pictures.astype(int) + 10 * np.sign(gradient).astype(int), 0, 255)
    np.testing.assert_array_equal(attacked, expected)


def test_short_steps_of_pgd_add_up(toy: Toy) -> None:
    """Steps of a quarter of a level, which no rounding may swallow."""
    attacked = pgd(toy.gradient_of, toy.pictures, toy.labels, 2 / 255, step=0.25 / 255, num_steps=10)

    assert int(np.abs(attacked.astype(int) - toy.pictures).max()) == 2


def test_pgd_repeats_itself_and_starts_where_the_generator_says(toy: Toy) -> None:
    first, again, other = (
        pgd(toy.gradient_of, toy.pictures, toy.labels, 0.1, num_steps=2, rng=np.random.default_rng(seed))
        for seed in (5, 5, 6)
    )

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pgd_keeps_the_worst_of_its_iterates(toy: Toy) -> None:
    """Steps so long that it jumps from edge to edge: later iterates are often better for the network."""
    seen: list[npt.NDArray[np.float64]] = []

    def watched(pictures: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> tuple[np.ndarray, np.ndarray]:
        gradient, logits = toy.gradient_of(pictures, labels)
        is_wrong = margins(logits, labels) < 0
        seen.append(cross_entropy(logits, labels) + 1000 * is_wrong)
        return gradient, logits

    attacked = pgd(watched, toy.pictures, toy.labels, EPSILON, step=1, num_steps=5, rng=np.random.default_rng(0))

    logits = toy.predict(attacked)
    found = cross_entropy(logits, toy.labels) + 1000 * (margins(logits, toy.labels) < 0)
    assert len(seen) == 6
    np.testing.assert_allclose(found, np.max(seen, axis=0), rtol=1e-4)


@pytest.mark.parametrize(("settings", "match"), [({"num_steps": 0}, "num_steps"), ({"step": 0.0}, "step")])
def test_pgd_without_steps_is_refused(toy: Toy, settings: dict[str, float], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        pgd(toy.gradient_of, toy.pictures, toy.labels, 0.1, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_bad_input_is_refused(toy: Toy, attack: Attack) -> None:
    for epsilon in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="epsilon"):
            attack(toy.gradient_of, toy.pictures, toy.labels, epsilon)
    with pytest.raises(DataError, match="labels"):
        attack(toy.gradient_of, toy.pictures, toy.labels[1:], 0.1)
    with pytest.raises(DataError, match="4 classes"):
        attack(toy.gradient_of, toy.pictures, toy.labels + 1, 0.1)


def test_gradient_is_that_of_autograd_through_the_normalization(toy: Toy) -> None:
    pictures = toy.pictures.astype(np.float32)
    mean, std = torch.tensor(toy.spec.mean), torch.tensor(toy.spec.std)
    leaf = torch.from_numpy(pictures.copy()).double().requires_grad_()
    exact = toy.module.double()
    try:
        logits = exact(((leaf / 255 - mean) / std).permute(0, 3, 1, 2))
        functional.cross_entropy(logits, torch.from_numpy(toy.labels), reduction="sum").backward()
    finally:
        toy.module.float()

    gradient, actual = toy.gradient_of(pictures, toy.labels)

    assert leaf.grad is not None
    assert (gradient.dtype, actual.dtype) == (np.float32, np.float32)
    scale = float(leaf.grad.abs().max())
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-3, atol=1e-6 * scale)
    np.testing.assert_allclose(actual, logits.detach().numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(actual, toy.predict(toy.pictures), rtol=1e-5, atol=1e-5)


def test_gradient_predicts_what_a_small_change_does(toy: Toy) -> None:
    """The same without autograd: the loss a little further along the gradient, in float64."""
    pictures, labels = toy.pictures[:3].astype(np.float32), toy.labels[:3]
    gradient, _ = toy.gradient_of(pictures, labels)
    mean, std = np.array(toy.spec.mean), np.array(toy.spec.std)
    direction = gradient / np.linalg.norm(gradient.reshape(3, -1), axis=1)[:, None, None, None]

    def loss_at(length: float) -> npt.NDArray[np.float64]:
        inputs = torch.from_numpy(((pictures + length * direction.astype(np.float64)) / 255 - mean) / std)
        with torch.inference_mode():
            return cross_entropy(toy.module(inputs.permute(0, 3, 1, 2)).numpy(), labels)

    toy.module.double()
    try:
        slope = (loss_at(1e-4) - loss_at(-1e-4)) / 2e-4
    finally:
        toy.module.float()

    np.testing.assert_allclose(slope, np.linalg.norm(gradient.reshape(3, -1), axis=1), rtol=1e-3)


def test_gradient_of_many_pictures_is_that_of_each_alone(toy: Toy) -> None:
    many = np.tile(toy.pictures, (100, 1, 1, 1)).astype(np.float32)  # more than one batch
    labels = np.tile(toy.labels, 100)

    gradient, logits = toy.gradient_of(many, labels)
    alone, alone_logits = toy.gradient_of(many[3:4], labels[3:4])

    assert (gradient.shape, len(logits)) == (many.shape, len(labels))
    np.testing.assert_allclose(gradient[3:4], alone, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(logits[-37:-36], alone_logits, rtol=1e-5, atol=1e-6)


def test_gradient_of_a_confident_answer_is_not_zero(toy: Toy) -> None:
    class Sure(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 4 * toy.module(x)

    logits = 4 * toy.predict(toy.pictures)
    assert margins(logits, toy.labels).max() > 20  # where 1 - p is 0 in float32

    gradient, _ = make_loss_gradient(Sure(), toy.spec)(toy.pictures.astype(np.float32), toy.labels)

    assert (np.abs(gradient).max(axis=(1, 2, 3)) > 0).all()


def test_weights_and_their_gradients_are_left_alone(toy: Toy) -> None:
    before = {name: tensor.clone() for name, tensor in toy.module.state_dict().items()}

    with torch.inference_mode():  # a caller's own modes do not matter
        toy.gradient_of(toy.pictures.astype(np.float32), toy.labels)

    assert all(torch.equal(tensor, before[name]) for name, tensor in toy.module.state_dict().items())


def test_pictures_of_other_channels_are_refused(toy: Toy) -> None:
    with pytest.raises(DataError, match="expected at least one of"):
        toy.gradient_of(np.zeros((2, 12, 12, 2), np.float32), np.array([0, 1]))
