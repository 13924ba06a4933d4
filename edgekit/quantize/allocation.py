"""Bits of every layer from a budget: a multiple-choice knapsack over a table of errors and sizes. Pure.

Each layer offers a few candidates (a number of bits, the error it costs, the bytes it takes); errors and bytes add up
over the layers. `allocate` asks for the least error within a number of bytes, `allocate_error` for the fewest bytes
within an error, `sweep` for the trade between the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from edgekit.core.errors import BudgetError, QuantizationError
from edgekit.quantize.knapsack import Choice, hull_steps, solve


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One number of bits for a layer, and what it costs.

    Args:
        num_bits: Grid of the weights.
        error: Nats of divergence of the network's answer that this layer adds; at least 0.
        size_bytes: Bytes that the layer's weights take when coded; at least 0.
    """

    num_bits: int
    error: float
    size_bytes: float


class LayerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer may be given.

    Args:
        name: Layer name.
        num_weights: Of the layer.
        candidates: One per number of bits, at least one; a layer with a single candidate is fixed.
    """

    name: str
    num_weights: int
    candidates: tuple[Candidate, ...]


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """A number of bits for every layer, with the sums of the table's errors and bytes.

    Args:
        bits: Layer name to bits, in the order of the options.
        error: Sum of errors, in nats.
        size_bytes: Sum of bytes.
    """

    bits: Mapping[str, int]
    error: float
    size_bytes: float


def allocate(options: Sequence[LayerOptions], budget_bytes: float) -> Allocation:
    """Least total error with a total size of at most `budget_bytes`.

    Exact for the table, up to the rounding of sums in 64-bit floats, while the dynamic program of `knapsack.solve`
    keeps at most `knapsack.MAX_STATES` states. Beyond that, no worse than the exact answer to a budget that is smaller
    by `len(options) / MAX_STATES` of what the budget leaves above the smallest size. Never above the budget.

    Raises:
        BudgetError: The smallest reachable size is above the budget; its `nearest` is that size in bytes.
        QuantizationError: A layer without candidates, or an error or size that is negative or not finite.
    """
    _check(options)
    least = smallest(options)
    if not budget_bytes >= least.size_bytes:
        raise BudgetError(
            f"a budget of {budget_bytes:,.0f} bytes cannot be met: the smallest reachable is "
            f"{math.ceil(least.size_bytes):,} bytes",
            nearest=least.size_bytes,
            hint=f"ask for at least {math.ceil(least.size_bytes):,} bytes, or let more layers have fewer bits",
        )
    best = most_precise(options)
    if best.size_bytes <= budget_bytes:
        return best
    choice = solve(
        costs=[np.array([each.error for each in layer.candidates]) for layer in options],
        weights=[np.array([each.size_bytes for each in layer.candidates]) for layer in options],
        capacity=budget_bytes,
    )
    return least if choice is None else _allocation(options, choice)


def allocate_error(options: Sequence[LayerOptions], max_error: float) -> Allocation:
    """Least total size with a total error of at most `max_error` nats. As exact as `allocate`.

    Raises:
        BudgetError: The least reachable error is above `max_error`; its `nearest` is that error in nats.
        QuantizationError: As `allocate`.
    """
    _check(options)
    best = most_precise(options)
    if not max_error >= best.error:
        raise BudgetError(
            f"an error of {max_error:.3g} nats cannot be met: the least reachable is {best.error:.3g} nats",
            nearest=best.error,
            hint="allow a larger drop, or let more layers have 8 bits",
        )
    least = smallest(options)
    if least.error <= max_error:
        return least
    choice = solve(
        costs=[np.array([each.size_bytes for each in layer.candidates]) for layer in options],
        weights=[np.array([each.error for each in layer.candidates]) for layer in options],
        capacity=max_error,
    )
    return best if choice is None else _allocation(options, choice)


def smallest(options: Sequence[LayerOptions]) -> Allocation:
    """The smallest size there is; of equals, the least error."""
    return _extreme(options, lambda each: (each.size_bytes, each.error))


def most_precise(options: Sequence[LayerOptions]) -> Allocation:
    """The least error there is; of equals, the smallest size."""
    return _extreme(options, lambda each: (each.error, each.size_bytes))


def sweep(options: Sequence[LayerOptions], num_points: int | None = None) -> tuple[Allocation, ...]:
    """Allocations along the lower convex hull of size and error, from the smallest to the most precise.

    Each is the exact answer of `allocate` to its own size (everything on the hull is: Everett 1963, theorem 1), and
    neighbours differ in one layer.

    Args:
        options: As of `allocate`.
        num_points: Most points to return, at least 2, spread evenly over the sizes with both ends among them; None for
            the whole hull.

    Raises:
        QuantizationError: As `allocate`.
        ValueError: Fewer than two points asked for.
    """
    _check(options)
    if num_points is not None and num_points < 2:
        raise ValueError(f"a sweep has at least 2 points, got {num_points}")
    choice = list(_positions(options, lambda each: (each.size_bytes, each.error)))
    points = [_allocation(options, choice)]
    steps = hull_steps(
        [np.array([each.error for each in layer.candidates]) for layer in options],
        [np.array([each.size_bytes for each in layer.candidates]) for layer in options],
    )
    for step in steps:
        choice[step.layer] = step.candidate
        points.append(_allocation(options, choice))
    if num_points is None or len(points) <= num_points:
        return tuple(points)
    sizes = np.array([point.size_bytes for point in points])
    wanted = np.linspace(sizes[0], sizes[-1], num_points)
    indices = sorted({int(np.abs(sizes - size).argmin()) for size in wanted[1:-1]} | {0, len(points) - 1})
    return tuple(points[index] for index in indices)


def _check(options: Sequence[LayerOptions]) -> None:
    names = [layer.name for layer in options]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise QuantizationError(f"layer {twice!r} stands twice among the layers that get bits")
    for layer in options:
        if not layer.candidates:
            raise QuantizationError(f"layer {layer.name!r} has no number of bits to choose from")
        for each in layer.candidates:
            if not (math.isfinite(each.error) and math.isfinite(each.size_bytes)):
                raise QuantizationError(
                    f"layer {layer.name!r} at {each.num_bits} bits: error {each.error}, {each.size_bytes} bytes: "
                    "expected finite numbers",
                    hint="look for values that are not finite in the model or in the calibration pictures",
                )
            if each.error < 0 or each.size_bytes < 0:
                raise QuantizationError(
                    f"layer {layer.name!r} at {each.num_bits} bits: error {each.error}, {each.size_bytes} bytes: "
                    "expected at least 0"
                )


def _positions(options: Sequence[LayerOptions], key: Callable[[Candidate], tuple[float, float]]) -> Choice:
    return tuple(min(enumerate(layer.candidates), key=lambda numbered: key(numbered[1]))[0] for layer in options)


def _extreme(options: Sequence[LayerOptions], key: Callable[[Candidate], tuple[float, float]]) -> Allocation:
    return _allocation(options, _positions(options, key))


def _allocation(options: Sequence[LayerOptions], choice: Sequence[int]) -> Allocation:
    chosen = [layer.candidates[index] for layer, index in zip(options, choice, strict=True)]
    return Allocation(
        bits={layer.name: each.num_bits for layer, each in zip(options, chosen, strict=True)},
        error=math.fsum(each.error for each in chosen),
        size_bytes=math.fsum(each.size_bytes for each in chosen),
    )
