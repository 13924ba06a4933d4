from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.quantize.compensation import (
    MAX_LEVEL,
    Problem,
    Rounded,
    bits_of_levels,
    column_order,
    cost,
    inverse_factor,
    round_compensated,
    round_plain,
)


def problem_of(seed: int, outputs: int = 12, inputs: int = 20, *, rate_weight: float = 0.0) -> Problem:
    """Correlated inputs, as those of a network are."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(inputs, inputs)) * np.linspace(2, 0.1, inputs)
    inputs_seen = np.maximum(generator.normal(size=(300, inputs)) @ mixing, 0)
    columns = np.concatenate([inputs_seen, np.ones((300, 1))], axis=1)
    return Problem(
        weights=generator.normal(0, 1, (outputs, inputs + 1)),
        hessian=columns.T @ columns / 300,
        sensitivity=generator.uniform(0.1, 2, outputs),
        damping=0.003,
        step=0.7,
        bias_step=0.25,
        rate_weight=rate_weight,
    )


def real_values(rounded: Rounded, problem: Problem) -> np.ndarray:
    return np.concatenate([rounded.levels * problem.step, rounded.bias_levels[:, None] * problem.bias_step], axis=1)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 1.0, 100.0]))
def test_compensation_is_never_worse_than_rounding_each_weight(seed: int, rate_weight: float) -> None:
    problem = problem_of(seed, outputs=3, inputs=6, rate_weight=rate_weight)
    assert cost(round_compensated(problem), rate_weight) <= cost(round_plain(problem), rate_weight)


def test_compensation_halves_the_error_when_inputs_are_correlated() -> None:
    problem = problem_of(0)
    assert round_compensated(problem).distortion < 0.5 * round_plain(problem).distortion


def test_distortion_is_the_weighted_output_error() -> None:
    problem = problem_of(1)
    rounded = round_compensated(problem)
    error = problem.weights - real_values(rounded, problem)
    by_hand = sum(0.5 * s * e @ problem.hessian @ e for s, e in zip(problem.sensitivity, error, strict=True))
    assert rounded.distortion == pytest.approx(by_hand)


def test_a_dearer_bit_buys_fewer_bits_and_more_error() -> None:
    rounded = [round_compensated(problem_of(2, rate_weight=weight)) for weight in (0.0, 0.1, 1.0, 10.0)]
    bits = [each.num_bits for each in rounded]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < bits[0] / 2
    assert rounded[-1].distortion > rounded[0].distortion


def test_everything_becomes_zero_when_bits_are_priceless() -> None:
    rounded = round_compensated(problem_of(3, rate_weight=1e9))
    assert not rounded.levels.any()
    assert rounded.num_bits == 0


def test_inputs_that_never_occur_get_zeros() -> None:
    problem = problem_of(4, rate_weight=1e-3)
    hessian = problem.hessian.copy()
    hessian[5, :] = hessian[:, 5] = 0
    rounded = round_compensated(msgspec.structs.replace(problem, hessian=hessian))
    assert not rounded.levels[:, 5].any()
    assert np.isfinite(rounded.distortion)


def test_no_input_ever_occurring_is_no_error() -> None:
    problem = problem_of(5, rate_weight=1e-3)
    hessian = np.zeros_like(problem.hessian)
    hessian[-1, -1] = 1.0
    rounded = round_compensated(msgspec.structs.replace(problem, hessian=hessian))
    assert not rounded.levels.any()
    assert np.abs(problem.weights[:, -1] - rounded.bias_levels * problem.bias_step).max() <= problem.bias_step / 2


def test_a_singular_hessian_without_damping_is_rounded_all_the_same() -> None:
    problem = problem_of(6)
    hessian = problem.hessian.copy()
    hessian[1], hessian[:, 1] = hessian[0], hessian[:, 0]  # input 1 repeats input 0
    hessian[1, 1] = hessian[0, 0]
    problem = msgspec.structs.replace(problem, hessian=hessian, damping=0.0)
    assert round_compensated(problem).distortion <= round_plain(problem).distortion


def test_a_layer_of_four_weights_is_rounded() -> None:
    rounded = round_compensated(problem_of(7, outputs=2, inputs=2, rate_weight=1e-6))
    assert rounded.levels.shape == (2, 2)
    assert rounded.bias_levels.shape == (2,)


def test_levels_stay_in_range_where_the_step_is_far_too_fine() -> None:
    problem = msgspec.structs.replace(problem_of(8), step=1e-3)
    assert np.abs(round_compensated(problem).levels).max() <= MAX_LEVEL


def test_column_order_begins_with_the_bias_and_the_busiest_input() -> None:
    assert column_order(np.diag([1.0, 5.0, 3.0, 1.0])).tolist() == [3, 1, 2, 0]


def test_inverse_factor_inverts_the_damped_hessian() -> None:
    hessian = problem_of(9, inputs=5).hessian
    order = column_order(hessian)
    hessian = hessian[np.ix_(order, order)]
    factor = inverse_factor(hessian, 0.01)
    added = np.full(6, 0.01 * np.diag(hessian)[1:].mean())
    added[0] = 0.01 * hessian[0, 0]
    np.testing.assert_allclose(factor.T @ factor @ (hessian + np.diag(added)), np.eye(6), atol=1e-8)
    assert np.allclose(factor, np.triu(factor))


def test_bits_of_levels_are_more_for_rare_levels() -> None:
    bits = bits_of_levels(np.array([[0, 0, 0, 0, 1, 1, -3]]))
    assert bits[MAX_LEVEL] < bits[MAX_LEVEL + 1] < bits[MAX_LEVEL - 3] < bits[MAX_LEVEL + 50]
    assert np.exp2(-bits).sum() == pytest.approx(1)
