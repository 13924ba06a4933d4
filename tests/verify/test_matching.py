"""Class folders as the classes of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.data.folder import FolderSource
from edgekit.data.memory import MemorySource
from edgekit.verify.matching import match_classes

LABELS = ("zebra", "crane (bird)", "ant, emmet", "crane")


def folder(*names: str) -> FolderSource:
    """Two pictures of each class."""
    return FolderSource(
        name="pets",
        split="test",
        class_names=names,
        root=Path("pets"),
        files=tuple(f"{name}/{number}.png" for name in names for number in range(2)),
        labels=np.repeat(np.arange(len(names), dtype=np.int64), 2),
    )


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (("ant", "crane", "zebra"), [2, 2, 3, 3, 0, 0]),
        (("Zebra",), [0, 0]),
        (("crane (bird)", "crane"), [1, 1, 3, 3]),
        (("zebra", "crane"), [0, 0, 3, 3]),
    ],
)
def test_class_folders_get_the_models_numbers_by_name(names: tuple[str, ...], numbers: list[int]) -> None:
    source = folder(*names)

    matched = match_classes(source, LABELS)

    assert isinstance(matched, FolderSource)
    assert matched.labels is not None
    assert (matched.class_names, matched.labels.tolist(), matched.files) == (LABELS, numbers, source.files)


def test_class_without_pictures_has_the_models_name() -> None:
    source = folder("zebra", "crane", "class 0002", "class 0003").take(np.array([0, 2, 3]), split="test")

    matched = match_classes(source, LABELS)

    assert matched.labels is not None
    assert (matched.class_names, matched.labels.tolist()) == (LABELS, [0, 1, 1])


@pytest.mark.parametrize(
    "names",
    [("ant", "wasp"), ("Crane",), ("ant", "Ant, worker"), LABELS],
    ids=["unknown", "ambiguous", "two of one", "as they are"],
)
def test_folder_stays_as_it_is_where_names_do_not_tell(names: tuple[str, ...]) -> None:
    source = folder(*names)

    assert match_classes(source, LABELS) is source
    assert match_classes(source, ()) is source


def test_dataset_of_the_catalogue_keeps_its_own_numbers() -> None:
    source = MemorySource(
        name="three",
        split="test",
        class_names=("crane", "zebra"),
        pictures=np.zeros((2, 4, 4, 1), np.uint8),
        labels=np.array([0, 1]),
    )

    assert match_classes(source, LABELS) is source
