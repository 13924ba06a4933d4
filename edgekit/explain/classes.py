"""From the class that a user names to its index."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from edgekit.core.errors import UsageError
from edgekit.verify.answers import same_class

_MOST_LISTED = 12


def class_name(labels: Sequence[str], index: int) -> str:
    """Name of a class; "class 3" where the model carries none."""
    return labels[index] if index < len(labels) else f"class {index}"


def find_class(wanted: str, labels: Sequence[str], num_classes: int) -> int:
    """Index of a class by its name (upper and lower case and synonyms apart), or by its number.

    >>> find_class("Tench", ("goldfish, Carassius auratus", "tench, Tinca tinca"), 2)
    1

    Args:
        wanted: Name, or number from 0.
        labels: Names in output order; empty when the model carries none.
        num_classes: Outputs of the model.

    Raises:
        UsageError: No such class, or several of that name.
    """
    for matches in (
        [index for index, label in enumerate(labels) if label == wanted],
        [index for index, label in enumerate(labels) if same_class(label, wanted)],
        [index for index, label in enumerate(labels) if wanted.casefold() in _synonyms(label)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            numbers = ", ".join(map(str, matches))
            raise UsageError(f"{len(matches)} classes are called {wanted!r}: {numbers}", hint="give the number")
    if wanted.isdecimal() and int(wanted) < num_classes:
        return int(wanted)
    raise UsageError(
        f"no class {wanted!r} among the model's {num_classes}", hint=_suggestion(wanted, labels, num_classes)
    )


def _synonyms(label: str) -> set[str]:
    """The names in a label such as ImageNet's "tench, Tinca tinca"."""
    return {name.strip().casefold() for name in label.split(",")}


def _suggestion(wanted: str, labels: Sequence[str], num_classes: int) -> str:
    by_name = {label.casefold(): label for label in labels}
    near = difflib.get_close_matches(wanted.casefold(), by_name, n=1, cutoff=0.5)
    if near:
        return f"did you mean {by_name[near[0]]!r}?"
    if labels and len(labels) <= _MOST_LISTED:
        return f"choose one of: {', '.join(labels)}"
    return f"give its name, or its number from 0 to {num_classes - 1}"
