from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgekit.quantize.rounding_columns import (
    bits_of_levels,
    cheapest_levels,
    damping_of,
    descend_columns,
    fix_columns,
    inverse_factors,
)


def moments(seed: int, groups: int, inputs: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    seen = generator.normal(size=(groups, 2 * inputs, inputs)) @ generator.normal(size=(groups, inputs, inputs))
    return seen.transpose(0, 2, 1) @ seen / (2 * inputs)


def to_integers(_: int, wanted: np.ndarray) -> np.ndarray:
    return np.rint(wanted)


def test_inverse_factors_invert_the_damped_hessians() -> None:
    hessians = moments(0, 3, 7)
    damping = np.broadcast_to(damping_of(hessians, 0.01)[:, None], (3, 7))
    factors = inverse_factors(hessians, damping)
    assert (factors == np.triu(factors)).all()
    damped = hessians + damping[:, :, None] * np.eye(7)
    np.testing.assert_allclose(factors.transpose(0, 2, 1) @ factors @ damped, np.tile(np.eye(7), (3, 1, 1)), atol=1e-8)


def test_damping_of_one_indefinite_group_leaves_the_others_alone() -> None:
    hessians = moments(1, 3, 5)
    damping = np.full((3, 5), 1e-3)
    expected = inverse_factors(hessians, damping)
    hessians[1] -= 0.7 * np.diagonal(hessians[1]).min() * np.eye(5)
    factors = inverse_factors(hessians, damping)
    assert np.isfinite(factors).all()
    np.testing.assert_allclose(factors[[0, 2]], expected[[0, 2]], rtol=1e-9)


def test_damping_is_a_share_of_the_inputs_that_occur() -> None:
    hessians = np.stack([np.diag([2.0, 4.0, 0.0]), np.zeros((3, 3))])
    assert damping_of(hessians, 0.1).tolist() == pytest.approx([0.3, 1.0])


@pytest.mark.parametrize("inputs", [5, 64, 150])
def test_batches_of_columns_fix_as_one_column_after_the_other(inputs: int) -> None:
    generator = np.random.default_rng(2)
    weights = generator.normal(0, 3, (2, 4, inputs))
    factors = inverse_factors(moments(3, 2, inputs), np.full((2, inputs), 0.1))
    by_hand = weights.copy()
    for column in range(inputs):
        fixed = np.rint(by_hand[:, :, column])
        error = (by_hand[:, :, column] - fixed) / factors[:, column, column, None]
        by_hand[:, :, column + 1 :] -= error[:, :, None] * factors[:, None, column, column + 1 :]
        by_hand[:, :, column] = fixed
    assert (fix_columns(weights, factors, to_integers) == by_hand).all()


@pytest.mark.parametrize("inputs", [1, 64, 150])
def test_descent_lowers_the_error_to_where_no_single_step_does(inputs: int) -> None:
    generator = np.random.default_rng(4)
    weights = generator.normal(0, 3, (2, 4, inputs))
    hessians = moments(5, 2, inputs) + 0.1 * np.eye(inputs)

    def error(values: np.ndarray) -> float:
        off = weights - values
        return float(((off @ hessians) * off).sum())

    values = np.rint(weights)
    errors = [error(values)]
    for _ in range(50):
        values = descend_columns(values, weights, hessians, to_integers)
        errors.append(error(values))
    assert all(after <= before + 1e-9 for before, after in pairwise(errors))
    for column in range(inputs):
        for step in (-1, 1):
            moved = values.copy()
            moved[0, 1, column] += step
            assert error(moved) >= errors[-1] - 1e-9


def test_the_cheapest_level_weighs_error_against_bits() -> None:
    charges = np.array([9.0, 3.0, 0.0, 3.0, 9.0])
    scaled = np.array([0.9, 0.9, 1.9, 1.9, 1.9, 7.0])
    prices = np.array([100.0, 1.0, 100.0, 6.0, 0.1, 100.0])
    assert cheapest_levels(scaled, prices, charges).tolist() == [1, 0, 2, 1, 0, 2]


def test_bits_of_levels_fit_the_grid() -> None:
    bits = bits_of_levels(np.array([[0, 0, 0, 1, -1, 0]]), qmax=3)
    assert len(bits) == 7
    assert bits.argmin() == 3
    assert np.exp2(-bits).sum() == pytest.approx(1)
