"""From a name or a path to pictures: the one way in for every command."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from edgekit.core.errors import DataError, UnknownNameError
from edgekit.data.aliases import read_aliases
from edgekit.data.dataset import DATASETS, Dataset, Source, Split
from edgekit.data.datasets.imagenet import IMAGENET_MEAN, IMAGENET_STD
from edgekit.data.drawing import draw_order
from edgekit.data.folder import FolderSource, open_folder
from edgekit.data.imagenet_folder import is_sample_folder, open_sample_folder

NUM_CALIBRATION_PICTURES = 2048
_CALIBRATION_SEED = 0


class DatasetListing(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `edgekit data list`.

    Args:
        name: What `--data` takes.
        title: One line.
        license: SPDX id, or the terms in a few words; None for the user's own folders.
        path: Where it lies on this machine; None when it does not.
        is_downloadable: Whether it can be fetched when it is not there.
    """

    name: str
    title: str
    license: str | None
    path: str | None
    is_downloadable: bool


def find_dataset(name_or_path: str) -> Dataset:
    """Find what a name stands for: a dataset of the catalogue, one that the user added, or a folder of pictures.

    A folder is described by ImageNet's mean and standard deviation, in RGB, with neither size nor class names, which
    only its pictures tell.

    Raises:
        UnknownNameError: Neither a name nor a folder; the message carries the nearest name.
        DataError: A path to something that is no folder, or to nothing.
    """
    if name_or_path in DATASETS.names:
        return DATASETS.load(name_or_path)
    aliases = read_aliases()
    if name_or_path in aliases:
        return _describe_folder(Path(aliases[name_or_path]), name_or_path)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return _describe_folder(path, path.resolve().name)
    if path.exists():
        raise DataError(f"{path} is no folder of pictures", hint="unpack archives first")
    if os.sep in name_or_path or name_or_path.startswith((".", "~")):
        raise DataError(f"no folder {path}", hint="name a folder of pictures, or a dataset of `edgekit data list`")
    raise UnknownNameError("dataset", name_or_path, [*DATASETS.names, *aliases])


def open_source(name_or_path: str, split: Split) -> Source:
    """Open one split of a dataset.

    The calibration split is at most 2,048 pictures, the same ones every time, in an order that mixes the classes (so
    that its first 256 are a fair draw, too). They are training pictures, unless the dataset keeps calibration
    pictures of its own.

    Raises:
        UnknownNameError: Neither a name nor a folder; the message carries the nearest name.
        DataError: Files are missing or damaged, or the dataset has no such split.
    """
    dataset = find_dataset(name_or_path)
    if split != "calibration":
        return _read_split(dataset, split)
    source = _read_split(dataset, split if split in dataset.splits else "train")
    order = draw_order(len(source), seed=_CALIBRATION_SEED)
    return source.take(order[:NUM_CALIBRATION_PICTURES], split=split)


def open_at_hand(names: Iterable[str | None], split: Split) -> Iterator[tuple[str, Source]]:
    """Open one split of those among some datasets that lie on this machine and have it; nothing is downloaded.

    Args:
        names: Datasets or folders, the most wanted first; None, unknown ones and damaged ones are passed over.
        split: Which pictures.

    Yields:
        A name as it was given, and its pictures.
    """
    for name in names:
        if name is None:
            continue
        try:
            dataset = find_dataset(name)
            if dataset.find() is None:
                continue
            source = _read_split(dataset, split)
        except (DataError, UnknownNameError):
            continue
        yield name, source


def list_datasets() -> list[DatasetListing]:
    """List the catalogue and the user's own datasets, each with the place where it lies on this machine."""
    entries = [DATASETS.load(name) for name in DATASETS.names]
    listings = [_list_dataset(dataset, dataset.license) for dataset in entries]
    own = [_describe_folder(Path(path), name) for name, path in sorted(read_aliases().items())]
    return listings + [_list_dataset(dataset, None) for dataset in own]


def _list_dataset(dataset: Dataset, license_name: str | None) -> DatasetListing:
    path = dataset.find()
    return DatasetListing(
        name=dataset.name,
        title=dataset.title,
        license=license_name,
        path=None if path is None else str(path),
        is_downloadable=bool(dataset.files),
    )


def _read_split(dataset: Dataset, split: Split) -> Source:
    if split not in dataset.splits:
        known = ", ".join(dataset.splits)
        raise DataError(f"{dataset.name} has no split {split!r}; it has {known}", hint="choose another dataset")
    return dataset.read(split)


def _describe_folder(folder: Path, name: str) -> Dataset:
    return Dataset(
        name=name,
        title=f"folder {folder}",
        license="the user's own",
        class_names=(),
        num_channels=3,
        native_size=None,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        splits=("train", "calibration", "test"),
        find=functools.partial(_find_folder, folder),
        read=functools.partial(_read_folder, folder, name),
    )


def _find_folder(folder: Path) -> Path | None:
    return folder if folder.is_dir() else None


def _read_folder(folder: Path, name: str, split: Split) -> FolderSource:
    if is_sample_folder(folder):
        return open_sample_folder(folder, split, name=name)
    return open_folder(folder, split, name=name)
