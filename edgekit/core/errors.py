"""The one error tree. Children are named by who must act.

Every error says what happened in one line (what, where, expected, got) and, in `hint`, what to do about it.
The command line prints both and exits with `exit_code`; a traceback appears only with `--debug`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgekitError(Exception):
    """Base of every error that edgekit raises on purpose.

    Args:
        message: One line: what, where, expected, got.
        hint: One line: what the user can do about it; None when there is nothing to add.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EdgekitError):
    """The caller asked for something that cannot be (a bad flag value, a folder that is no run)."""


class UnknownNameError(UsageError):
    """A name that is in no catalogue. The nearest name, if any is near, is the hint."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        choices = sorted(known)
        near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        listing = ", ".join(choices)
        super().__init__(
            f"unknown {kind} {name!r}; known: {listing}",
            hint=f"did you mean {near[0]!r}?" if near else "choose one of these",
        )
        self.name = name
        self.suggestion = near[0] if near else None


class RecipeError(UsageError):
    """A recipe or an override that does not fit the schema."""


class DataError(EdgekitError):
    """Pictures or labels that are missing, unreadable or unusable."""


class CheckpointError(EdgekitError):
    """Weights that do not belong to the architecture, or a damaged checkpoint."""


class UnsupportedOpError(EdgekitError):
    """A graph holds an operation (or a use of one) that a stage cannot handle. Names the node."""


class GraphError(EdgekitError):
    """A model file that is no valid graph for us: dynamic sizes, several inputs, broken edges."""


class QuantizationError(EdgekitError):
    """Quantization cannot be done right (NaN activations, no calibration pictures, bits out of range)."""


class IntegrityError(EdgekitError):
    """Bytes that are not what they claim to be: wrong hash, truncated, foreign format."""


class TrainingError(EdgekitError):
    """Training cannot go on: the loss is not finite, or the checkpoint does not fit the recipe."""


class BarNotMetError(EdgekitError):
    """A stated bar was missed: verification, `--max-drop`, a health gate. Exit code 1."""

    exit_code = 1


class BudgetError(BarNotMetError):
    """A budget (bytes, or points of accuracy) below anything that can be reached. Exit code 1.

    Args:
        message: One line: what, where, expected, got.
        nearest: What can be reached, in the unit of the budget.
        hint: One line: what the user can do about it.
    """

    def __init__(self, message: str, *, nearest: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.nearest = nearest


class MissingDependencyError(EdgekitError):
    """The environment lacks a runtime or an extra. The hint says what to install. Exit code 3."""

    exit_code = 3


class OutputError(EdgekitError):
    """Output cannot be written: disk full, no permission. Exit code 3."""

    exit_code = 3


class BoardError(EdgekitError):
    """A board that cannot be reached, lets nobody in, or cannot take what it is to get. Exit code 3."""

    exit_code = 3
