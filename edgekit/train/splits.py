"""The pictures of a training run: which to learn from, which to validate on, which to test on at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from edgekit.core.errors import DataError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import Recipe
from edgekit.data.dataset import DATASETS, Dataset, Source
from edgekit.data.folder import FolderSource, open_folder
from edgekit.data.memory import MemorySource
from edgekit.data.opening import find_dataset, open_source
from edgekit.runtime.preprocess import fit_picture

FOLDER_INPUT_SIZE = 224
"""Input of networks for folders, whose pictures have many sizes, unless the recipe says otherwise."""
FOLDER_CROP_FRACTION = 0.875
"""Pictures in files show more than the object: the outer eighth is cut off when testing, as is usual on ImageNet."""
MAX_RESIZED_BYTES = 2 << 30


class Splits(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures of one training run.

    Args:
        dataset: The dataset they belong to.
        train: To learn from; labelled, at least two classes.
        validation: Measured after every epoch; None when there is none.
        test: Measured at the end; None when there is none. May be the same as `validation`.
    """

    dataset: Dataset
    train: Source
    validation: Source | None
    test: Source | None


def open_splits(name_or_path: str) -> Splits:
    """Open the pictures of a dataset or folder for training.

    Datasets of the catalogue are validated on their test pictures: nothing is selected by validation (the last
    epoch's weights are the result), so that does not flatter. Folders are validated on `val`, else on `test`.

    Raises:
        UnknownNameError: Neither a dataset nor a folder.
        DataError: Files are missing or damaged, there are no labels, or one class only.
    """
    dataset = find_dataset(name_or_path)
    train = open_source(name_or_path, "train")
    check_trainable(train)
    if name_or_path in DATASETS.names:
        test = open_source(name_or_path, "test")
        return Splits(dataset=dataset, train=train, validation=test, test=test)
    folder = dataset.find()
    test = _open_part(folder, "test", train.name)
    validation = _open_part(folder, "val", train.name) or test
    return Splits(dataset=dataset, train=train, validation=validation, test=test)


def check_trainable(source: Source) -> None:
    """Raise `DataError` unless the pictures have labels of at least two classes."""
    if source.labels is None:
        raise DataError(
            f"{source.name}: training needs labels, these {len(source)} pictures have none",
            hint="put the pictures of each class into a folder of its own: FOLDER/<class>/<picture>",
        )
    num_used = len(np.unique(source.labels))
    if num_used < 2:
        raise DataError(
            f"{source.name}: training needs at least 2 classes, these {len(source)} pictures show {num_used}",
            hint="add a class folder with pictures of something else",
        )


def make_spec(recipe: Recipe, splits: Splits) -> PreprocessSpec:
    """How a picture of this dataset becomes the network's input."""
    dataset = splits.dataset
    size = recipe.model.input_size or (dataset.native_size or (FOLDER_INPUT_SIZE,))[0]
    in_files = isinstance(splits.train, FolderSource)
    return PreprocessSpec(
        input_size=(size, size),
        num_channels=dataset.num_channels,
        mean=dataset.mean,
        std=dataset.std,
        crop_fraction=FOLDER_CROP_FRACTION if in_files else 1.0,
    )


def fit_in_memory(source: Source, spec: PreprocessSpec) -> MemorySource | None:
    """Pictures in memory at the input's size, resized once; None for files, and for what would take more than 2 GiB."""
    if not isinstance(source, MemorySource):
        return None
    shape = (*spec.input_size, spec.num_channels)
    if source.pictures.shape[1:] == shape:
        return source
    if len(source) * int(np.prod(shape)) > MAX_RESIZED_BYTES:
        return None
    pictures = np.empty((len(source), *shape), np.uint8)
    for index, picture in enumerate(source.pictures):
        pictures[index] = fit_picture(picture, spec)
    return MemorySource(
        name=source.name, split=source.split, class_names=source.class_names, pictures=pictures, labels=source.labels
    )


def _open_part(folder: Path | None, split: Literal["val", "test"], name: str) -> FolderSource | None:
    """One part of the user's folder; None where it has no such part, or one without labels."""
    if folder is None:
        return None
    try:
        source = open_folder(folder, split, name=name)
    except DataError:
        return None
    return source if source.labels is not None else None
