"""Distributions that learn while they code: one per context, started from a bell curve of the context's width.

Whatever decides a probability here is an integer or the result of single IEEE operations on float64, so that every
machine computes the same tables.
"""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import functools
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.encode.lanes import PROBABILITY_TOTAL, U16, U32

I64: TypeAlias = npt.NDArray[np.int64]

MAX_LEVELS = 256
"""Distinct symbols of one array."""

STEPS_PER_OCTAVE = 4
FIRST_OCTAVE = -4
NUM_CONTEXTS = 48
"""Contexts are widths, in quarter octaves of the magnitude that is expected: 2**-4 up to 2**8."""

CENTRE = 255
SPAN = 2 * CENTRE + 1
"""Symbols are distances from a centre, -255 to 255, kept in columns 0 to 510."""

INCREMENT = 1 << 12
_LEAST_PRIOR, _MOST_PRIOR, _PRIOR_PER_WIDTH = 24, 600, 12
"""Symbols that a bell curve weighs: the wider, the more levels there are to learn."""

MOST_REMEMBERED = 16384
"""Symbols that a context remembers from the tensors before."""


@functools.cache
def _bell_curves() -> I64:
    """Student's t with 7 degrees of freedom at every width: close to what trained weights look like."""
    distance = np.abs(np.arange(SPAN) - CENTRE).astype(np.float64)
    curves = np.empty((NUM_CONTEXTS, SPAN), dtype=np.int64)
    weights = np.empty((NUM_CONTEXTS, 1), dtype=np.int64)
    for context in range(NUM_CONTEXTS):
        octave, quarter = divmod(context, STEPS_PER_OCTAVE)
        mean_magnitude = 2.0 ** (octave + FIRST_OCTAVE) * (1.0 + (quarter + 0.5) / STEPS_PER_OCTAVE)
        weights[context] = min(max(_LEAST_PRIOR, int(_PRIOR_PER_WIDTH * mean_magnitude)), _MOST_PRIOR)
        width = mean_magnitude / 0.84  # E|x| of t(7) is 0.84 of its scale
        total = np.zeros(SPAN, dtype=np.float64)
        for offset in (-0.375, -0.125, 0.125, 0.375):
            ratio = (distance + offset) / width
            base = 1.0 + ratio * ratio / 7.0
            square = base * base
            total = total + 1.0 / (square * square)
        curves[context] = (total * (1 << 16) / (4.0 * width)).astype(np.int64) + 1
    sums: I64 = curves.sum(axis=1, keepdims=True)
    return curves * (weights * INCREMENT) // sums + 1


class Tables:
    """What has been seen in each context, over all arrays of a family so far.

    Args:
        is_flat: Start from a uniform distribution, in one context; otherwise from bell curves, in `NUM_CONTEXTS`.
    """

    def __init__(self, *, is_flat: bool) -> None:
        start = np.full((1, SPAN), INCREMENT // 16, dtype=np.int64) if is_flat else _bell_curves().copy()
        self._weights: I64 = start

    def fade(self) -> None:
        """Let no context weigh more than `MOST_REMEMBERED` symbols, so that the next array can differ."""
        limit = MOST_REMEMBERED * INCREMENT
        total = self._weights.sum(axis=1)
        heavy = np.flatnonzero(total > limit)
        self._weights[heavy] = self._weights[heavy] * limit // total[heavy, None] + 1

    def window(self, window: Window) -> I64:
        """The part of the tables that an array uses, as a view."""
        rows = slice(window.first_context, window.first_context + window.num_contexts)
        begin = CENTRE + window.low
        return self._weights[rows, begin : begin + window.num_levels]

    def save(self) -> I64:
        """Remember the state, for `restore`."""
        return self._weights.copy()

    def restore(self, saved: I64) -> None:
        """Go back to a state from `save`."""
        self._weights = saved.copy()


class Window:
    """Which contexts and levels an array uses.

    Args:
        first_context: First context.
        num_contexts: How many.
        low: Distance of the first level from the centre, -255 to 255.
        num_levels: How many levels, at most `MAX_LEVELS`.
    """

    __slots__ = ("first_context", "low", "num_contexts", "num_levels")

    def __init__(self, first_context: int, num_contexts: int, low: int, num_levels: int) -> None:
        self.first_context = first_context
        self.num_contexts = num_contexts
        self.low = low
        self.num_levels = num_levels


class Adaptive:
    """The distributions of one array while it is coded. Symbols are `context * MAX_LEVELS + level`.

    Args:
        tables: The family's tables; they learn.
        window: What the array uses of them.
        with_slots: Whether a decoder needs it.

    One context more than the array has is for symbols that are known before: its one level takes no space.
    """

    def __init__(self, tables: Tables, window: Window, *, with_slots: bool) -> None:
        self._weights = tables.window(window)
        self._shape = (window.num_contexts, window.num_levels)
        self._with_slots = with_slots
        known = window.num_contexts * MAX_LEVELS
        self._known_slots: U16 = np.full(PROBABILITY_TOTAL, known, dtype=np.uint16)
        contexts = np.arange(window.num_contexts, dtype=np.uint16)[:, None] * np.uint16(MAX_LEVELS)
        self._symbols: U16 = (contexts + np.arange(window.num_levels, dtype=np.uint16)).ravel()
        self.freqs: U32 = np.zeros(known + MAX_LEVELS, dtype=np.uint32)
        self.freqs[known] = PROBABILITY_TOTAL
        self.starts: U32 = np.zeros(known + MAX_LEVELS, dtype=np.uint32)
        self.slots: U16 = np.empty(0, dtype=np.uint16)
        self._refresh()

    def learn(self, symbols: U16) -> None:
        """Count symbols and adapt."""
        contexts, levels = self._shape
        counts = np.bincount(symbols, minlength=(contexts + 1) * MAX_LEVELS).reshape(-1, MAX_LEVELS)
        self._weights += counts[:contexts, :levels] * INCREMENT
        self._refresh()

    def _refresh(self) -> None:
        contexts, levels = self._shape
        freqs = frequencies(self._weights)
        starts = np.cumsum(freqs, axis=1) - freqs
        self.freqs.reshape(-1, MAX_LEVELS)[:contexts, :levels] = freqs
        self.starts.reshape(-1, MAX_LEVELS)[:contexts, :levels] = starts
        if self._with_slots:
            self.slots = np.concatenate([np.repeat(self._symbols, freqs.ravel()), self._known_slots])


def frequencies(weights: I64) -> I64:
    """Frequencies that add up to `PROBABILITY_TOTAL` in each row, none of them 0.

    Args:
        weights: [contexts, levels], positive, each row at most 2**47 in all.

    >>> int(frequencies(np.array([[1, 1, 2]])).sum()) == PROBABILITY_TOTAL
    True
    """
    num_levels = weights.shape[1]
    total = weights.sum(axis=1, keepdims=True)
    freqs = weights * (PROBABILITY_TOTAL - num_levels) // total + 1
    freqs[np.arange(len(freqs)), weights.argmax(axis=1)] += PROBABILITY_TOTAL - freqs.sum(axis=1)
    return freqs
