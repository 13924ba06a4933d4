from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.core.errors import BarNotMetError, BudgetError
from edgekit.quantize.allocation import Allocation, Candidate, LayerOptions, most_precise, smallest, sweep
from edgekit.quantize.bisection import MAX_DROP_TRIALS, MAX_SIZE_TRIALS, SizeTrial, fit_budget, hold_drop


def network(num_layers: int, seed: int) -> list[LayerOptions]:
    """A table as that of a network: errors fall about fourfold per bit, sizes are in step with bits."""
    rng = np.random.default_rng(seed)
    options = []
    for index in range(num_layers):
        num_weights = int(10 ** rng.uniform(2.5, 5.5))
        scale = 10 ** rng.uniform(-3, 0)
        candidates = tuple(
            Candidate(
                num_bits=bits,
                error=scale * 4.0**-bits * rng.uniform(0.9, 1.1),
                size_bytes=num_weights * (bits - 0.6) / 8 * rng.uniform(0.97, 1.0),
            )
            for bits in range(3, 9)
        )
        options.append(LayerOptions(name=f"layer{index}", num_weights=num_weights, candidates=candidates))
    return options


class File:
    """Stands for packing: offset + slope * bytes of the table, and noise that each allocation has of its own."""

    def __init__(self, offset: float, slope: float, noise: float = 0.0) -> None:
        self.offset, self.slope, self.noise = offset, slope, noise
        self.seen: list[Allocation] = []

    def size_of(self, allocation: Allocation) -> int:
        shift = zlib.crc32(repr(allocation.bits).encode()) / 2**31 - 1
        return math.ceil(self.offset + self.slope * allocation.size_bytes * (1 + self.noise * shift))

    def measure(self, allocation: Allocation) -> int:
        self.seen.append(allocation)
        return self.size_of(allocation)


sizes = st.builds(
    File,
    offset=st.floats(0, 2e5),
    slope=st.floats(0.8, 1.2),
    noise=st.sampled_from([0.0, 0.0, 0.002, 0.05]),
)


@given(sizes, st.integers(1, 30), st.integers(0, 1000), st.floats(0.0, 1.1))
def test_budget_is_never_exceeded_and_called_unreachable_only_when_it_is(
    file: File, num_layers: int, seed: int, share: float
) -> None:
    options = network(num_layers, seed)
    low, high = file.size_of(smallest(options)), file.size_of(most_precise(options))
    budget = int(low + share * (high - low)) - 5
    if low > budget:
        # Noise may still let a larger allocation's file fit; else the error names the smallest file seen.
        try:
            assert fit_budget(options, budget, file.measure).best.size_bytes <= budget
        except BudgetError as error:
            nearest = error.nearest
            assert nearest == min(map(file.size_of, file.seen))
    else:
        fitted = fit_budget(options, budget, file.measure)
        assert fitted.best.size_bytes == file.size_of(fitted.best.allocation) <= budget
        within = [trial.allocation.error for trial in fitted.trials if trial.size_bytes <= budget]
        assert fitted.best.allocation.error == min(within)
        assert [trial.allocation for trial in fitted.trials] == file.seen
    assert len(file.seen) <= MAX_SIZE_TRIALS
    assert len({repr(each.bits) for each in file.seen}) == len(file.seen), "nothing is measured twice"


@settings(max_examples=25)  # a table of many layers each: sizes of few layers lie too far apart
@given(st.floats(0, 2e5), st.floats(0.8, 1.2), st.integers(0, 1000), st.floats(0.05, 0.95))
def test_budget_is_filled_to_within_tolerance_when_sizes_follow_the_table(
    offset: float, slope: float, seed: int, share: float
) -> None:
    options, file = network(40, seed), File(offset, slope)
    low, high = file.size_of(smallest(options)), file.size_of(most_precise(options))
    budget = int(low + share * (high - low))
    fitted = fit_budget(options, budget, file.measure)
    # Layers of very different sizes leave small gaps between the sizes that can be had.
    assert budget * 0.985 <= fitted.best.size_bytes <= budget


def test_budget_search_spares_a_trial_when_a_file_is_known() -> None:
    options, file = network(40, 3), File(90_000, 1.05)
    full = most_precise(options)
    start = SizeTrial(allocation=full, size_bytes=file.size_of(full))
    fitted = fit_budget(options, int(0.7 * start.size_bytes), file.measure, start=start)
    assert fitted.trials[0] == start
    assert full not in file.seen
    assert 0.985 * 0.7 * start.size_bytes <= fitted.best.size_bytes <= 0.7 * start.size_bytes
    assert fit_budget(options, start.size_bytes, file.measure, start=start).trials == (start,)


def test_budget_above_everything_takes_one_trial() -> None:
    options, file = network(10, 0), File(50_000, 1.0)
    fitted = fit_budget(options, 10**9, file.measure)
    assert fitted.best.allocation == most_precise(options)
    assert len(fitted.trials) == 1


def test_budget_below_everything_names_the_nearest_file() -> None:
    options, file = network(10, 0), File(50_000, 1.0)
    nearest = file.size_of(smallest(options))
    with pytest.raises(BudgetError, match=f"the smallest file reachable has {nearest:,} bytes") as caught:
        fit_budget(options, 40_000, file.measure)
    assert caught.value.nearest == nearest
    assert caught.value.exit_code == 1


@given(st.integers(0, 1000), st.floats(-0.5, 12.0), st.floats(0.0, 10.0))
def test_drop_is_held_by_the_smallest_when_larger_is_never_worse(seed: int, max_drop: float, floor: float) -> None:
    points = sweep(network(20, seed))
    worst = points[0].error
    drops = {point.size_bytes: floor + 10 * point.error / worst for point in points}
    held = [point for point in points if drops[point.size_bytes] <= max_drop]
    if not held:
        with pytest.raises(BarNotMetError):
            hold_drop(points, max_drop, lambda point: drops[point.size_bytes])
        return
    found = hold_drop(points, max_drop, lambda point: drops[point.size_bytes])
    assert found.best.allocation == held[0]
    assert len(found.trials) <= MAX_DROP_TRIALS


@given(st.integers(0, 1000), st.floats(0.2, 3.0), st.floats(0.1, 2.0), st.integers(1, 6))
def test_drop_found_was_measured_to_hold_when_measurements_are_noisy(
    seed: int, max_drop: float, noise: float, max_trials: int
) -> None:
    points, rng = sweep(network(20, seed)), np.random.default_rng(seed)
    drops = {point.size_bytes: 5 * point.error / points[0].error + noise * rng.standard_normal() for point in points}
    seen: list[float] = []

    def measure(point: Allocation) -> float:
        seen.append(drops[point.size_bytes])
        return seen[-1]

    if drops[points[-1].size_bytes] > max_drop:
        with pytest.raises(BarNotMetError):
            hold_drop(points, max_drop, measure, max_trials=max_trials)
        assert len(seen) == 1
    else:
        found = hold_drop(points, max_drop, measure, max_trials=max_trials)
        assert drops[found.best.allocation.size_bytes] == found.best.drop_points <= max_drop
        smaller = [trial for trial in found.trials if trial.drop_points <= max_drop]
        assert found.best.allocation.size_bytes == min(trial.allocation.size_bytes for trial in smaller)
    assert len(seen) <= max_trials


def test_drop_that_is_not_a_number_is_too_much() -> None:
    with pytest.raises(BarNotMetError, match="not a number"):
        hold_drop(sweep(network(3, 0)), 1.0, lambda _: math.nan)


def test_drop_error_names_points_that_suffice() -> None:
    with pytest.raises(BarNotMetError, match=r"it is 1\.24 points") as caught:
        hold_drop(sweep(network(3, 0)), 1.0, lambda _: 1.2345)
    assert caught.value.hint is not None
    assert "at least 1.24 points" in caught.value.hint
