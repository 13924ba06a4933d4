from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.core.entropy import order0_bits
from edgekit.core.errors import QuantizationError
from edgekit.quantize.layer_problem import LayerProblem, RoundedWeights, cost, error_of, qmax_of, shrunk_hessian
from edgekit.quantize.rounding import round_adaround, round_best, round_gptq, round_nearest
from edgekit.quantize.rounding_config import LearningConfig, RoundingConfig
from edgekit.quantize.rounding_scales import choose_scales

ALL_METHODS = RoundingConfig(methods=("gptq", "adaround"), learning=LearningConfig(num_steps=40))
SECOND_ORDER = [round_gptq, round_adaround]


def problem_of(
    seed: int, *, groups: int = 1, outputs: int = 12, inputs: int = 20, num_samples: int = 300
) -> LayerProblem:
    """Correlated inputs, as those of a network are."""
    generator = np.random.default_rng(seed)
    hessians: list[np.ndarray] = []
    for _ in range(groups):
        mixing = generator.normal(size=(inputs, inputs)) * np.linspace(2, 0.1, inputs)
        seen = np.maximum(generator.normal(size=(num_samples, inputs)) @ mixing, 0)
        seen -= seen.mean(0)
        hessians.append(seen.T @ seen / num_samples)
    return LayerProblem(
        name="features.3",
        weights=generator.standard_t(6, (groups, outputs, inputs)),
        hessian=np.stack(hessians),
        importance=generator.uniform(0.1, 2, (groups, outputs)),
    )


def with_price(rate_weight: float) -> RoundingConfig:
    return msgspec.structs.replace(ALL_METHODS, rate_weight=rate_weight)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8), st.sampled_from([0.0, 1e-3, 0.1, 10.0]), st.integers(1, 3))
def test_best_rounding_is_never_worse_than_the_nearest_levels(
    seed: int, num_bits: int, rate_weight: float, groups: int
) -> None:
    problem = problem_of(seed, groups=groups, outputs=3, inputs=6)
    config = with_price(rate_weight)
    nearest = round_nearest(problem, choose_scales(problem, num_bits, config), num_bits)
    best = round_best(problem, num_bits, config)
    assert cost(best, rate_weight) <= cost(nearest, rate_weight)
    assert np.abs(best.levels).max() <= qmax_of(num_bits)
    assert (best.scales > 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 8), st.sampled_from([0.0, 0.1]))
def test_an_answer_says_what_its_levels_cost(seed: int, num_bits: int, rate_weight: float) -> None:
    problem = problem_of(seed, outputs=3, inputs=6)
    rounded = round_best(problem, num_bits, with_price(rate_weight))
    off = problem.weights - rounded.levels * rounded.scales[:, :, None]
    by_hand = sum(
        price * row @ problem.hessian[0] @ row for price, row in zip(problem.importance[0], off[0], strict=True)
    )
    assert rounded.error == pytest.approx(by_hand)
    assert rounded.error == pytest.approx(error_of(problem, rounded.levels, rounded.scales))
    assert rounded.num_bits == pytest.approx(order0_bits(rounded.levels))


@pytest.mark.parametrize("method", SECOND_ORDER)
@pytest.mark.parametrize("num_bits", range(2, 9))
def test_second_order_rounding_has_less_error_than_nearest_when_inputs_are_correlated(
    method: Callable[..., RoundedWeights], num_bits: int
) -> None:
    problem = problem_of(1)
    scales = choose_scales(problem, num_bits)
    rounded = method(problem, scales, num_bits)
    assert rounded.error < 0.8 * round_nearest(problem, scales, num_bits).error
    assert np.abs(rounded.levels).max() <= qmax_of(num_bits)


@pytest.mark.parametrize("method", SECOND_ORDER)
def test_independent_inputs_are_rounded_to_the_nearest(method: Callable[..., RoundedWeights]) -> None:
    problem = msgspec.structs.replace(problem_of(2), hessian=np.eye(20)[None])
    scales = choose_scales(problem, 4)
    rounded = method(problem, scales, 4)
    assert (rounded.levels == round_nearest(problem, scales, 4).levels).all()


@pytest.mark.parametrize("method", SECOND_ORDER)
def test_errors_of_clipped_weights_are_compensated(method: Callable[..., RoundedWeights]) -> None:
    problem = problem_of(3)
    scales = choose_scales(problem, 4) / 3  # most weights are beyond the last level
    assert method(problem, scales, 4).error < 0.8 * round_nearest(problem, scales, 4).error


def test_learning_improves_on_compensation() -> None:
    problems = [problem_of(seed, outputs=16, inputs=32) for seed in range(3)]
    scales = [choose_scales(problem, 3) for problem in problems]
    compensated = sum(round_gptq(*each, 3).error for each in zip(problems, scales, strict=True))
    learned = sum(round_adaround(*each, 3).error for each in zip(problems, scales, strict=True))
    assert learned < compensated


def test_the_answer_names_its_method() -> None:
    problem = problem_of(4)
    assert round_best(problem, 4, RoundingConfig(methods=())).method == "nearest"
    assert round_best(problem, 4, RoundingConfig(methods=("gptq",))).method == "gptq"
    assert round_best(problem, 3, RoundingConfig(methods=("adaround",))).method == "adaround"


def test_scales_that_are_given_stay() -> None:
    problem = problem_of(5)
    scales = choose_scales(problem, 4) * 1.1
    assert (round_best(problem, 4, ALL_METHODS, scales=scales).scales == scales).all()


def test_groups_are_rounded_as_each_alone() -> None:
    problem = problem_of(6, groups=4, outputs=2, inputs=9)
    config = RoundingConfig(num_sweeps=1)  # a layer decides as a whole when to stop
    scales = choose_scales(problem, 4)
    whole = round_gptq(problem, scales, 4, config)
    best = round_best(problem, 4, config)
    for group in range(4):
        part = slice(group, group + 1)
        alone = LayerProblem(
            name="alone",
            weights=problem.weights[part],
            hessian=problem.hessian[part],
            importance=problem.importance[part],
        )
        assert (choose_scales(alone, 4) == scales[part]).all()
        assert (round_gptq(alone, scales[part], 4, config).levels == whole.levels[part]).all()
        np.testing.assert_allclose(round_best(alone, 4, config).scales, best.scales[part], rtol=1e-6)
        assert (round_best(alone, 4, config).levels == best.levels[part]).all()


@pytest.mark.parametrize("method", SECOND_ORDER)
def test_a_dearer_bit_buys_fewer_bits_and_more_error(method: Callable[..., RoundedWeights]) -> None:
    problem = problem_of(7, outputs=24)
    scales = choose_scales(problem, 6)
    rounded = [method(problem, scales, 6, with_price(price)) for price in (0.0, 0.02, 0.2, 2.0, 20.0)]
    bits = [each.num_bits for each in rounded]
    errors = [each.error for each in rounded]
    assert bits == sorted(bits, reverse=True)
    assert errors == sorted(errors)
    assert bits[-1] < bits[0] / 2


def test_a_price_buys_more_by_coarser_scales_than_by_levels_alone() -> None:
    problem = problem_of(8, outputs=64)
    price = 0.3
    free = round_best(problem, 8, with_price(price), scales=choose_scales(problem, 8))
    coarser = round_best(problem, 8, with_price(price))
    assert cost(coarser, price) < cost(free, price)


def test_everything_becomes_zero_when_bits_are_priceless() -> None:
    rounded = round_best(problem_of(9), 4, with_price(1e9))
    assert not rounded.levels.any()
    assert rounded.num_bits == 0


@pytest.mark.parametrize("rate_weight", [0.0, 0.01])
def test_inputs_that_never_occur_cost_nothing(rate_weight: float) -> None:
    problem = problem_of(10)
    hessian = problem.hessian.copy()
    hessian[:, 5, :] = hessian[:, :, 5] = 0
    problem = msgspec.structs.replace(problem, hessian=hessian)
    rounded = round_best(problem, 4, with_price(rate_weight))
    assert cost(rounded, rate_weight) < cost(round_nearest(problem, choose_scales(problem, 4), 4), rate_weight)


def test_weights_of_inputs_that_never_occur_keep_their_nearest_levels() -> None:
    """Pictures to come may show what the calibration pictures did not."""
    problem = problem_of(11)
    hessian = problem.hessian.copy()
    hessian[:, 5, :] = hessian[:, :, 5] = 0
    problem = msgspec.structs.replace(problem, hessian=hessian)
    scales = choose_scales(problem, 8)
    rounded = round_gptq(problem, scales, 8)
    assert (rounded.levels[0, :, 5] == round_nearest(problem, scales, 8).levels[0, :, 5]).all()


@pytest.mark.parametrize("rate_weight", [0.0, 0.01])
def test_no_input_ever_occurring_is_no_error(rate_weight: float) -> None:
    problem = problem_of(12)
    problem = msgspec.structs.replace(problem, hessian=np.zeros_like(problem.hessian))
    assert round_best(problem, 4, with_price(rate_weight)).error == 0


@pytest.mark.parametrize("rate_weight", [0.0, 0.01])
def test_a_layer_that_matters_to_nothing_is_rounded_all_the_same(rate_weight: float) -> None:
    problem = problem_of(13)
    problem = msgspec.structs.replace(problem, importance=np.zeros_like(problem.importance))
    rounded = round_best(problem, 4, with_price(rate_weight))
    assert rounded.error == 0
    assert np.isfinite(rounded.scales).all()


def test_dead_outputs_stay_zeros_with_the_largest_scale_of_the_others() -> None:
    problem = problem_of(14)
    weights = problem.weights.copy()
    weights[0, 3] = 0
    problem = msgspec.structs.replace(problem, weights=weights)
    scales = choose_scales(problem, 4)
    assert scales[0, 3] == np.delete(scales[0], 3).max()
    assert not round_best(problem, 4, ALL_METHODS).levels[0, 3].any()


@pytest.mark.parametrize("rate_weight", [0.0, 0.01])
def test_a_layer_of_zeros_is_zeros_at_scale_one(rate_weight: float) -> None:
    problem = problem_of(15)
    problem = msgspec.structs.replace(problem, weights=np.zeros_like(problem.weights))
    rounded = round_best(problem, 4, with_price(rate_weight))
    assert not rounded.levels.any()
    assert (rounded.scales == 1).all()


@pytest.mark.parametrize(("groups", "outputs", "inputs"), [(1, 1, 1), (5, 1, 1), (1, 4, 1), (3, 1, 9), (1, 2, 130)])
def test_layers_of_any_shape_are_rounded(groups: int, outputs: int, inputs: int) -> None:
    problem = problem_of(16, groups=groups, outputs=outputs, inputs=inputs)
    rounded = round_best(problem, 4, ALL_METHODS)
    assert rounded.levels.shape == (groups, outputs, inputs)
    assert rounded.scales.shape == (groups, outputs)


@pytest.mark.parametrize("num_samples", [1, 2, 10])
def test_a_singular_hessian_is_rounded_all_the_same(num_samples: int) -> None:
    problem = problem_of(17, num_samples=num_samples)
    rounded = round_best(problem, 4, ALL_METHODS)
    assert rounded.error <= round_nearest(problem, choose_scales(problem, 4), 4).error
    assert np.isfinite(rounded.scales).all()


def test_shrinking_helps_on_other_pictures_where_few_were_seen() -> None:
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(80, 80)) * np.linspace(2, 0.1, 80)
    few, many = (np.maximum(generator.normal(size=(count, 80)) @ mixing, 0) for count in (40, 4000))
    seen, unseen = (np.cov(each.T, bias=True)[None] for each in (few, many))
    problem = msgspec.structs.replace(problem_of(23, inputs=80), hessian=seen)
    truth = msgspec.structs.replace(problem, hessian=unseen)

    def error_with(hessian: np.ndarray) -> float:
        rounded = round_best(msgspec.structs.replace(problem, hessian=hessian), 4)
        return error_of(truth, rounded.levels, rounded.scales)

    assert error_with(shrunk_hessian(seen, 40)) < 0.9 * error_with(seen)


def test_shrinking_keeps_energies_and_what_many_pictures_told() -> None:
    hessian = problem_of(24, groups=2).hessian
    shrunk = shrunk_hessian(hessian, 20)
    assert (np.diagonal(shrunk, axis1=1, axis2=2) == np.diagonal(hessian, axis1=1, axis2=2)).all()
    np.testing.assert_allclose(shrunk[1, 2, 3], hessian[1, 2, 3] / 2)
    np.testing.assert_allclose(shrunk_hessian(hessian, 1e9), hessian, rtol=1e-6)


def test_an_indefinite_hessian_is_rounded_all_the_same() -> None:
    problem = problem_of(18)
    hessian = problem.hessian - 0.5 * np.diagonal(problem.hessian[0]).mean() * np.eye(20)
    problem = msgspec.structs.replace(problem, hessian=hessian)
    rounded = round_best(problem, 4, ALL_METHODS)
    assert np.abs(rounded.levels).max() <= 7
    assert np.isfinite(rounded.scales).all()


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e4, 1e12])
def test_units_of_inputs_do_not_matter(scale: float) -> None:
    problem = problem_of(19)
    expected = round_gptq(problem, choose_scales(problem, 4), 4).levels
    problem = msgspec.structs.replace(problem, hessian=problem.hessian * scale)
    assert (round_gptq(problem, choose_scales(problem, 4), 4).levels == expected).mean() > 0.99


@pytest.mark.parametrize("field", ["weights", "hessian", "importance"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused_by_the_layer_s_name(field: str, value: float) -> None:
    problem = problem_of(20)
    values = getattr(problem, field).copy()
    values.flat[3] = value
    broken = msgspec.structs.replace(problem, **{field: values})
    for refuse in (
        lambda: round_best(broken, 4),
        lambda: choose_scales(broken, 4),
        lambda: round_gptq(broken, np.ones((1, 12)), 4),
    ):
        with pytest.raises(QuantizationError, match=rf"features\.3: expected finite {field}, got"):
            refuse()


def test_shapes_that_do_not_fit_are_refused() -> None:
    problem = problem_of(21)
    for broken in (
        msgspec.structs.replace(problem, weights=problem.weights[0]),
        msgspec.structs.replace(problem, weights=problem.weights[:, :, :0]),
        msgspec.structs.replace(problem, hessian=problem.hessian[0]),
        msgspec.structs.replace(problem, importance=problem.importance[:, 1:]),
        msgspec.structs.replace(problem, importance=-problem.importance),
    ):
        with pytest.raises(QuantizationError, match=r"features\.3"):
            round_best(broken, 4)


@pytest.mark.parametrize("num_bits", [1, 9])
def test_bits_outside_two_to_eight_are_refused(num_bits: int) -> None:
    with pytest.raises(QuantizationError, match=f"2 to 8 .* got {num_bits}"):
        round_best(problem_of(22), num_bits)
