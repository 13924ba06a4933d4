"""Searches over allocations whose real size or accuracy only an expensive call can tell. Pure but for that call.

The table of `allocation` adds up what layers cost one by one. The packed file holds more than weights (scales, biases,
the graph), and its coder does a little better or worse than the table says; accuracy follows the table's error loosely.
So the table proposes, a measurement decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from edgekit.core.errors import BarNotMetError, BudgetError
from edgekit.quantize.allocation import Allocation, LayerOptions, allocate, most_precise, smallest

MAX_SIZE_TRIALS = 5
MAX_DROP_TRIALS = 8

_SLOPES = (0.5, 2.0)
"""Bytes of the file per byte of the table: outside of this, two points tell of noise rather than of a slope."""


class SizeTrial(msgspec.Struct, frozen=True, kw_only=True):
    """An allocation, and the bytes that its file was measured to have."""

    allocation: Allocation
    size_bytes: int


class DropTrial(msgspec.Struct, frozen=True, kw_only=True):
    """An allocation, and what it was measured to lose of top-1, in points (0..100); below 0 for a gain."""

    allocation: Allocation
    drop_points: float


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """The allocation that a budget of bytes led to.

    Args:
        best: The one with the least error of those that were measured to be within the budget.
        trials: Everything measured, in order; the file that the search started from, if any, is the first.
    """

    best: SizeTrial
    trials: tuple[SizeTrial, ...]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The allocation that a largest drop led to.

    Args:
        best: The smallest of those that were measured to lose no more.
        trials: Everything measured, in order.
    """

    best: DropTrial
    trials: tuple[DropTrial, ...]


def fit_budget(
    options: Sequence[LayerOptions],
    budget_bytes: int,
    measure: Callable[[Allocation], int],
    *,
    tolerance: float = 0.005,
    max_trials: int = MAX_SIZE_TRIALS,
    start: SizeTrial | None = None,
) -> Fitted:
    """Find the allocation whose file is just within a budget.

    The file is modelled as offset + slope * bytes of the table: one measurement gives the offset, the last two the
    slope (a secant step), and where that steps out of the bracket of what fits and what does not, the bracket is
    halved. Ends when a file fills the budget to within `tolerance`, when no other allocation lies between, or after
    `max_trials`. What is returned was measured to fit; the last trial is kept for the smallest allocation as long as
    nothing has fitted, so a budget is called unreachable only when that one's file is above it.

    Args:
        options: The table.
        budget_bytes: Most bytes of the whole file.
        measure: Bytes of the file that an allocation makes; expensive.
        tolerance: Share of the budget that may stay unused.
        max_trials: Most measurements, at least 2.
        start: A file that was measured before, say of 8 bits everywhere: it spares a trial, and is no trial itself.

    Raises:
        BudgetError: Even the smallest allocation's file is above the budget; `nearest` is its size in bytes.
    """
    search = _SizeSearch(options, budget_bytes, measure, tolerance)
    if start is not None:
        search.record(start)
    while search.num_measured < max_trials and not search.is_close():
        is_last_chance = search.num_measured == max_trials - 1 and search.best is None
        allocation = smallest(options) if is_last_chance else search.propose()
        if allocation is None or search.is_known(allocation):
            break
        search.try_out(allocation)
    if search.best is None and not search.is_known(smallest(options)):
        search.try_out(smallest(options))
    if search.best is not None:
        return Fitted(best=search.best, trials=tuple(search.trials))
    nearest = min(trial.size_bytes for trial in search.trials)
    raise BudgetError(
        f"a budget of {budget_bytes:,} bytes cannot be met: the smallest file reachable has {nearest:,} bytes",
        nearest=nearest,
        hint=f"ask for at least {nearest:,} bytes (a kB is 1,000), or prune or narrow the model first",
    )


class _SizeSearch:
    """What was measured, and where to look next. `best` fits with the least error; `above` is the least too large."""

    def __init__(
        self,
        options: Sequence[LayerOptions],
        budget_bytes: int,
        measure: Callable[[Allocation], int],
        tolerance: float,
    ) -> None:
        self.options, self.budget_bytes, self.measure, self.tolerance = options, budget_bytes, measure, tolerance
        self.num_measured = 0
        self.trials: list[SizeTrial] = []
        self.best: SizeTrial | None = None
        self.above: SizeTrial | None = None

    def is_known(self, allocation: Allocation) -> bool:
        return any(trial.allocation.bits == allocation.bits for trial in self.trials)

    def is_close(self) -> bool:
        """Whether the budget is filled well enough, or everything has the most bits already."""
        if self.best is None:
            return False
        is_full = self.best.size_bytes >= self.budget_bytes * (1 - self.tolerance)
        return is_full or self.best.allocation.error <= most_precise(self.options).error

    def try_out(self, allocation: Allocation) -> None:
        self.num_measured += 1
        self.record(SizeTrial(allocation=allocation, size_bytes=self.measure(allocation)))

    def record(self, trial: SizeTrial) -> None:
        self.trials.append(trial)
        allocation = trial.allocation
        if trial.size_bytes <= self.budget_bytes:
            if self.best is None or allocation.error < self.best.allocation.error:
                self.best = trial
        elif self.above is None or allocation.size_bytes < self.above.allocation.size_bytes:
            self.above = trial

    def propose(self) -> Allocation | None:
        """The next allocation to measure; None when the bracket is empty."""
        low = smallest(self.options).size_bytes if self.best is None else self.best.allocation.size_bytes
        high = most_precise(self.options).size_bytes if self.above is None else self.above.allocation.size_bytes
        if self.trials and high <= low:
            return None if self.best is not None else smallest(self.options)
        middle = (low + high) / 2
        wanted = self._secant()
        # A step out of what was measured is halved; one out of what there is ends at the end.
        if wanted < low:
            wanted = low if self.best is None else middle
        elif wanted > high:
            wanted = high if self.above is None else middle
        allocation = allocate(self.options, wanted)
        return allocate(self.options, middle) if self.is_known(allocation) else allocation

    def _secant(self) -> float:
        """Bytes of the table at which the file should fill the budget, all but half of the tolerance."""
        aim = self.budget_bytes * (1 - self.tolerance / 2)
        if not self.trials:
            return aim
        last = self.trials[-1]
        slope = 1.0
        if len(self.trials) > 1:
            before = self.trials[-2]
            run = last.allocation.size_bytes - before.allocation.size_bytes
            if run:
                slope = (last.size_bytes - before.size_bytes) / run
                slope = min(max(slope, _SLOPES[0]), _SLOPES[1])
        return last.allocation.size_bytes + (aim - last.size_bytes) / slope


def hold_drop(
    points: Sequence[Allocation],
    max_drop: float,
    measure: Callable[[Allocation], float],
    *,
    max_trials: int = MAX_DROP_TRIALS,
) -> Held:
    """Find the smallest of some allocations that loses at most `max_drop` points, by bisection.

    Takes for granted that larger means no worse, which measurements on few pictures keep only roughly; what is returned
    was itself measured to hold. The largest is measured first: where that loses too much, nothing else is tried.

    Args:
        points: Allocations from `allocation.sweep`, from the smallest to the most precise; at least one.
        max_drop: Most top-1 points that may be lost.
        measure: Points lost by an allocation, on pictures that did not calibrate it; expensive. A value that is not a
            number counts as too much.
        max_trials: Most measurements, at least 1. Each halves what is left, so 8 suffice for 128 points.

    Raises:
        BarNotMetError: The most precise allocation loses more.
    """
    ceiling = DropTrial(allocation=points[-1], drop_points=measure(points[-1]))
    trials = [ceiling]
    if not ceiling.drop_points <= max_drop:
        raise BarNotMetError(
            f"a drop of at most {max_drop:g} points cannot be met: at the most bits there are it is "
            f"{_points(ceiling.drop_points)}",
            hint=f"allow at least {_points(ceiling.drop_points)}, calibrate with more pictures, or train with --qat",
        )
    best, first, last = ceiling, 0, len(points) - 1
    while first < last and len(trials) < max_trials:
        middle = (first + last) // 2
        trial = DropTrial(allocation=points[middle], drop_points=measure(points[middle]))
        trials.append(trial)
        if trial.drop_points <= max_drop:
            best, last = trial, middle
        else:
            first = middle + 1
    return Held(best=best, trials=tuple(trials))


def _points(drop: float) -> str:
    """Points rounded up to hundredths, so that asking for them suffices."""
    return "not a number" if math.isnan(drop) else f"{math.ceil(100 * drop - 1e-9) / 100:.2f} points"
