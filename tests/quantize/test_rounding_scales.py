from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.quantize.layer_problem import LayerProblem, error_of, qmax_of
from edgekit.quantize.rounding import round_best, round_nearest
from edgekit.quantize.rounding_config import RoundingConfig
from edgekit.quantize.rounding_scales import choose_scales, refit_scales, with_short_mantissa


def problem_of(seed: int, outputs: int = 8, inputs: int = 40) -> LayerProblem:
    generator = np.random.default_rng(seed)
    seen = generator.normal(size=(200, inputs)) @ generator.normal(size=(inputs, inputs))
    return LayerProblem(
        name="conv",
        weights=generator.standard_t(4, (1, outputs, inputs)) * generator.uniform(0.1, 3, (1, outputs, 1)),
        hessian=(seen.T @ seen / 200)[None],
        importance=generator.uniform(0.5, 2, (1, outputs)),
    )


def full_scales(problem: LayerProblem, num_bits: int) -> np.ndarray:
    return np.abs(problem.weights).max(axis=2) / qmax_of(num_bits)


@pytest.mark.parametrize("num_bits", range(2, 8))
def test_grids_end_where_they_err_least(num_bits: int) -> None:
    problem = problem_of(0)
    problem = msgspec.structs.replace(problem, hessian=np.eye(40)[None])
    full = full_scales(problem, num_bits)
    scales = choose_scales(problem, num_bits)
    assert (scales <= full * (1 + 1e-12)).all()
    assert round_nearest(problem, scales, num_bits).error < round_nearest(problem, full, num_bits).error
    finest = min(round_nearest(problem, full * share, num_bits).error for share in np.linspace(0.2, 1, 81))
    assert round_nearest(problem, scales, num_bits).error < finest * 1.02


def test_one_scale_is_one_for_all_outputs() -> None:
    problem = problem_of(1)
    scales = choose_scales(problem, 4, RoundingConfig(one_scale=True))
    assert len(np.unique(scales)) == 1
    rounded = round_best(problem, 4, RoundingConfig(one_scale=True, methods=("gptq", "adaround")))
    assert len(np.unique(rounded.scales)) == 1
    assert rounded.error < round_nearest(problem, scales, 4).error


@settings(deadline=None)
@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=8), st.integers(1, 12))
def test_short_mantissas_are_near_and_short(values: list[float], mantissa_bits: int) -> None:
    scales = np.array(values)
    short = with_short_mantissa(scales, mantissa_bits)
    assert (np.abs(short / scales - 1) <= 2.0**-mantissa_bits).all()
    mantissas = np.ldexp(np.frexp(short)[0], mantissa_bits)
    assert (mantissas == np.rint(mantissas)).all()


@pytest.mark.parametrize("mantissa_bits", [3, 8])
def test_best_rounding_keeps_scales_short(mantissa_bits: int) -> None:
    config = RoundingConfig(mantissa_bits=mantissa_bits, methods=("gptq", "adaround"))
    scales = round_best(problem_of(2), 4, config).scales
    assert (with_short_mantissa(scales, mantissa_bits) == scales).all()


def test_fitted_scales_err_least() -> None:
    problem = problem_of(3)
    rounded = round_nearest(problem, full_scales(problem, 3), 3)
    fitted = refit_scales(problem, rounded)
    least = error_of(problem, rounded.levels, fitted)
    assert least < rounded.error
    for factor in (0.99, 1.01):
        assert error_of(problem, rounded.levels, fitted * factor) > least


def test_fitted_scales_of_outputs_without_levels_stay() -> None:
    problem = problem_of(4)
    rounded = round_nearest(problem, full_scales(problem, 3) * 1e3, 3)
    assert not rounded.levels.any()
    assert (refit_scales(problem, rounded) == rounded.scales).all()


def test_a_price_makes_scales_coarser_but_none_beyond_the_largest_weight() -> None:
    problem = problem_of(5)
    free = choose_scales(problem, 8)
    dear = choose_scales(problem, 8, RoundingConfig(rate_weight=10.0))
    priceless = choose_scales(problem, 8, RoundingConfig(rate_weight=1e12))
    assert (dear >= free).all()
    assert dear.sum() > free.sum()
    np.testing.assert_allclose(priceless, np.abs(problem.weights).max(axis=2))
