"""Class folders as the classes of a model: by their names, in whatever order they stand, all of them or some."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.data.dataset import Source
from edgekit.data.folder import FolderSource
from edgekit.verify.answers import same_class


def match_classes(source: Source, labels: Sequence[str]) -> Source:
    """Number a folder's classes as the model does, where it knows each of them by name.

    A folder numbers its classes in the order of their names, and only those that it has pictures of. A sample of a
    dataset has the numbers, but no names for the classes that it has no pictures of.

    Args:
        source: The pictures. Those of the catalogue have all classes, in their own order, and stay as they are.
        labels: Of the model, in output order; empty when it has none.

    Returns:
        The pictures with the model's classes; as they were where a name is none of the model's, or could be several.
    """
    if not isinstance(source, FolderSource) or source.labels is None or source.class_names == tuple(labels):
        return source
    present: list[int] = np.unique(source.labels).tolist()
    names = {number: source.class_names[number] for number in present}
    order = {number: number for number in present}
    if len(source.class_names) != len(labels) or not all(same_class(names[at], labels[at]) for at in present):
        order = _number(names, labels)
    if order is None:
        return source
    own = np.array([order[label] for label in source.labels.tolist()], dtype=np.int64)
    return dataclasses.replace(source, class_names=tuple(labels), labels=own)


def _number(names: Mapping[int, str], labels: Sequence[str]) -> dict[int, int] | None:
    """The model's number of each class; None where names do not tell."""
    order = {number: _find(name, labels) for number, name in names.items()}
    known = {number: found for number, found in order.items() if found is not None}
    return known if len(known) == len(names) == len(set(known.values())) else None


def _find(name: str, labels: Sequence[str]) -> int | None:
    """Number of the only class of that name: letter by letter, or else by `same_class`."""
    for found in (
        [number for number, label in enumerate(labels) if label == name],
        [number for number, label in enumerate(labels) if same_class(name, label)],
    ):
        if len(found) == 1:
            return found[0]
    return None
