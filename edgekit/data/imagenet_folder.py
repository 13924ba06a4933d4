"""The two layouts in which ImageNet (ILSVRC 2012) pictures lie about: wnid folders, and a flat labelled sample."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from edgekit.core.errors import DataError
from edgekit.data.folder import FolderSource, FolderSplit, list_pictures, open_folder
from edgekit.data.hash_split import halve

NUM_CLASSES = 1000
_SAMPLE_NAME = re.compile(r"(\d{4})_(n\d{8}_)?(.+)\.\w+")
_SYNSETS_FILE = "LOC_synset_mapping.txt"


def is_sample_folder(folder: Path) -> bool:
    """Say whether every picture directly in a folder is called `NNNN_<wnid>_<name>` with a class index NNNN."""
    if not folder.is_dir():
        return False
    names = [child.name for child in folder.iterdir() if not child.name.startswith(".")]
    matches = [_SAMPLE_NAME.fullmatch(name) for name in names]
    return bool(names) and all(match and match[2] and int(match[1]) < NUM_CLASSES for match in matches)


def open_sample_folder(folder: Path, split: FolderSplit, *, name: str = "imagenet") -> FolderSource:
    """Open a flat folder of pictures called `NNNN_<wnid>_<name>`, where NNNN is the class index (0 to 999).

    Half of the pictures, by the hash of their names, are for calibration, the others for testing. Class names come
    from the file names; a class without a picture is called "class NNNN".

    Raises:
        DataError: Asked for training pictures: there is one picture per class or so.
    """
    if split in {"train", "val"}:
        raise DataError(
            f"{folder}: a sample with one picture per class has no split {split!r}",
            hint="use it for calibration and testing; training needs train/<wnid>/*.JPEG",
        )
    files = list_pictures(folder)
    class_names = [f"class {label:04d}" for label in range(NUM_CLASSES)]
    for file in files:
        label, class_name = _parse_name(file)
        class_names[label] = class_name
    chosen = [files[index] for index in halve(files, split)]
    labels = [_parse_name(file)[0] for file in chosen]
    return FolderSource(
        name=name,
        split=split,
        class_names=tuple(class_names),
        root=folder,
        files=tuple(chosen),
        labels=np.array(labels, dtype=np.int64),
    )


def open_wnid_folder(folder: Path, split: FolderSplit) -> FolderSource:
    """Open `folder/{train,val}/<wnid>/*`; testing uses `val`, because the labels of ImageNet's test set are secret.

    With only `val` at hand, half of it is for calibration and the other half for testing.

    Raises:
        DataError: As `open_folder`.
    """
    source = open_folder(folder, split, name="imagenet")
    words = _read_words(folder / _SYNSETS_FILE)
    return FolderSource(
        name=source.name,
        split=split,
        class_names=tuple(words.get(wnid, wnid) for wnid in source.class_names),
        root=source.root,
        files=source.files,
        labels=source.labels,
    )


def _parse_name(file: str) -> tuple[int, str]:
    match = _SAMPLE_NAME.fullmatch(file)
    if match is None:
        raise DataError(f"{file} is not called NNNN_<wnid>_<name>")
    return int(match[1]), match[3].replace("_", " ")


def _read_words(path: Path) -> dict[str, str]:
    """Read Kaggle's list of class names, lines of `wnid word, synonym, ...`; empty when there is none."""
    if not path.is_file():
        return {}
    entries = [line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines() if " " in line]
    return {wnid: words.split(",")[0].strip() for wnid, words in entries}
