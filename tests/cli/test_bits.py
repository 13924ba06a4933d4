"""The options that choose grids, as recipe keys."""

from __future__ import annotations

import math

import pytest

from edgekit.cli.bits import PARETO_POINTS, QAT_EPOCHS, grid_keys, making_keys, training_keys
from edgekit.core.errors import UnknownNameError, UsageError

MIXED = ("quantize.scheme", "static_wimixed_ai8")


def test_bits_stand_for_a_scheme() -> None:
    assert grid_keys(None, None) == []
    assert grid_keys("6", None) == [("quantize.scheme", "static_wi6_ai8")]
    assert grid_keys("mixed", None) == [MIXED]


def test_budget_and_sweep_mean_mixed_when_no_bits_are_given() -> None:
    assert grid_keys(None, 300.0) == [MIXED, ("quantize.budget_kb", "300.0")]
    assert grid_keys("mixed", 0.5) == [MIXED, ("quantize.budget_kb", "0.5")]
    sweep = ("quantize.pareto", str(PARETO_POINTS))
    assert grid_keys(None, None, pareto=True) == [MIXED, sweep]
    assert grid_keys(None, 300.0, pareto=True) == [MIXED, ("quantize.budget_kb", "300.0"), sweep]


@pytest.mark.parametrize("bits", ["1", "9", "0", "-4", "6.5", "abc", "", "nan", "inf", "Mixed", "4,8"])
@pytest.mark.parametrize("budget_kb", [None, 300.0])
def test_bits_that_are_none_are_a_usage_error(bits: str, budget_kb: float | None) -> None:
    with pytest.raises(UsageError, match=r"--bits takes a whole number from \d to 8, or mixed, got ") as caught:
        grid_keys(bits, budget_kb)
    assert repr(bits) in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("budget_kb", [0.0, -1.0, math.nan, math.inf])
def test_budget_that_is_none_is_a_usage_error(budget_kb: float) -> None:
    with pytest.raises(UsageError, match=r"--budget-kb takes a size above 0 in kB of 1,000 bytes") as caught:
        grid_keys(None, budget_kb)
    assert f"got {budget_kb:g}" in caught.value.message
    assert caught.value.hint == "for example --budget-kb 300"


def test_budget_or_sweep_beside_a_number_of_bits_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--budget-kb chooses the bits of every layer, and --bits 6") as caught:
        grid_keys("6", 300.0)
    assert caught.value.hint == "leave out --bits 6, or say --bits mixed"
    with pytest.raises(UsageError, match="--pareto chooses"):
        grid_keys("8", None, pareto=True)


def test_engine_is_one_of_two() -> None:
    assert making_keys(None, None, None) == []
    assert making_keys("nncf", None, None) == [("quantize.engine", "nncf")]
    with pytest.raises(UnknownNameError, match="unknown engine 'ncnf'") as caught:
        making_keys("ncnf", None, None)
    assert caught.value.hint == "did you mean 'nncf'?"


def test_compute_int4_needs_layers_of_4_bits() -> None:
    assert making_keys(None, None, None) == []
    assert making_keys(None, "int8", "6") == [("quantize.compute", "int8")]
    for bits in (None, "4", "mixed"):
        assert making_keys(None, "int4", bits) == [("quantize.compute", "int4")]
    with pytest.raises(UsageError, match="needs layers of 4 bits, and --bits 6 makes none"):
        making_keys(None, "int4", "6")
    with pytest.raises(UnknownNameError, match="unknown compute 'int2'"):
        making_keys(None, "int2", "4")


def test_qat_takes_the_epochs_that_are_given() -> None:
    assert training_keys(None, qat=False) == []
    assert training_keys(5, qat=False) == [("prune.epochs", "5"), ("share.epochs", "5")]
    assert training_keys(None, qat=True) == [("qat.epochs", str(QAT_EPOCHS))]
    assert training_keys(5, qat=True)[-1] == ("qat.epochs", "5")
    with pytest.raises(UsageError, match="at least 1 epoch, got --epochs 0"):
        training_keys(0, qat=True)
