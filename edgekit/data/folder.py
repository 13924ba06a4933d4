"""Any folder of pictures as a source: class folders, split by sub-folders or by a hash of the file name; or flat."""

from __future__ import annotations

import hashlib
import logging
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError
from edgekit.runtime.preprocess import read_picture

FolderSplit: TypeAlias = Literal["train", "val", "calibration", "test"]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
_TRAIN_SHARE = 0.8
_VAL_SHARE = 0.1
_VAL_NAMES = ("val", "valid", "validation")
_SPLIT_NAMES = frozenset({"train", "test", *_VAL_NAMES})
_LAYOUT_HINT = "expected FOLDER/<class>/<picture>, FOLDER/train/<class>/<picture>, or pictures directly in it"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderSource:
    """Picture files, read one by one when asked for. A `PictureSource`.

    Args:
        name: Name for reports.
        split: "train", "val", "test" or "calibration".
        class_names: Class names in label order; empty when unlabelled.
        root: Folder that `files` are relative to.
        files: Paths of the pictures, with forward slashes. Strings, because a million `Path` objects take 0.5 GB.
        labels: int64 [n], or None when unlabelled.
    """

    name: str
    split: str
    class_names: tuple[str, ...]
    root: Path
    files: tuple[str, ...]
    labels: npt.NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> Path:
        """Path of one picture."""
        return self.root / self.files[index]

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Decode one picture: uint8 [height, width, channels], channels 3 (RGB) or 1 (gray).

        Raises:
            DataError: It is unreadable; the message names it.
        """
        return read_picture(self.path(index))

    def take(self, indices: npt.NDArray[np.int64], *, split: str) -> FolderSource:
        """Return the pictures at `indices`, in that order, under another split's name."""
        return FolderSource(
            name=self.name,
            split=split,
            class_names=self.class_names,
            root=self.root,
            files=tuple(self.files[index] for index in indices),
            labels=None if self.labels is None else self.labels[indices],
        )


def open_folder(folder: Path, split: FolderSplit, *, name: str | None = None) -> FolderSource:
    """Open one split of a folder of pictures.

    - `folder/{train,val,test}/<class>/...`: as it says. "test" is `val` where there is no labelled `test`, and with
      only `train` given, that is split by hash. Classes are those of `train`.
    - `folder/<class>/...`: split by the hash of the file name, see `hash_split`.
    - Pictures directly in `folder`: unlabelled. Half of them, by the hash, are for calibration, the others for
      testing; a half without any picture is replaced by all.

    "calibration" is the training pictures of a labelled folder (whoever opens it draws some of them). Classes are
    sorted by name; pictures may lie deeper inside a class folder; hidden files and folders are skipped.

    Args:
        folder: The folder.
        split: Which part.
        name: Name for reports; None for the folder's own.

    Raises:
        DataError: No folder, no pictures, no labels or one class only for training, a test class that training does
            not know, or no picture in the split.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder" if folder.exists() else f"no folder {folder}", hint=_LAYOUT_HINT)
    name = name or folder.resolve().name
    parts = {child.name for child in _sub_folders(folder)} & _SPLIT_NAMES
    if parts - {"train"}:
        source = _open_split_folders(folder, split, name)
    else:
        source = _open_hash_split(folder / "train" if parts else folder, split, name)
    if not len(source):
        raise DataError(f"{folder}: no pictures in split {split!r}", hint=_LAYOUT_HINT)
    if split == "train":
        _require_classes(folder, source)
    return source


def hash_split(file_name: str) -> Literal["train", "val", "test"]:
    """Say to which split a picture belongs, from its file name alone: 80 % train, 10 % val, 10 % test.

    The same on every machine and in every run, and adding or removing other files moves nothing. Only the name in its
    folder counts, so a picture keeps its split when it is moved to another class.

    >>> [hash_split(name) for name in ("0001.jpg", "0002.jpg", "0003.jpg")]
    ['train', 'val', 'test']
    """
    position = _hash_position(file_name)
    if position < _TRAIN_SHARE:
        return "train"
    return "val" if position < _TRAIN_SHARE + _VAL_SHARE else "test"


def list_pictures(folder: Path) -> list[str]:
    """Paths of all picture files below a folder, relative, with forward slashes, sorted; hidden ones are skipped."""
    found: list[str] = []
    for directory, children, files in os.walk(folder):
        children[:] = [child for child in children if not child.startswith(".")]
        relative = Path(directory).relative_to(folder)
        found += [(relative / file).as_posix() for file in files if _is_picture(file)]
    return sorted(found)


def _is_picture(file_name: str) -> bool:
    return not file_name.startswith(".") and PurePosixPath(file_name).suffix.lower() in PICTURE_SUFFIXES


def _hash_position(file_name: str) -> float:
    """Where a name falls in [0, 1). Normalized to NFC, because macOS decomposes accents in file names."""
    base_name = unicodedata.normalize("NFC", PurePosixPath(file_name).name)
    digest = hashlib.sha256(base_name.encode("utf-8", errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _list_classes(folder: Path) -> dict[str, list[str]]:
    """Pictures of every class folder, by class, in sorted order; class folders without pictures are left out."""
    classes: dict[str, list[str]] = {}
    for child in _sub_folders(folder):
        pictures = [f"{child.name}/{path}" for path in list_pictures(child)]
        if pictures:
            classes[child.name] = pictures
        else:
            _LOG.warning("%s holds no pictures and is no class", child)
    return classes


def _labelled(root: Path, split: str, name: str, classes: dict[str, list[str]]) -> FolderSource:
    sizes = [len(pictures) for pictures in classes.values()]
    return FolderSource(
        name=name,
        split=split,
        class_names=tuple(classes),
        root=root,
        files=tuple(path for pictures in classes.values() for path in pictures),
        labels=np.repeat(np.arange(len(classes), dtype=np.int64), sizes),
    )


def _unlabelled(root: Path, split: str, name: str, pictures: Iterable[str]) -> FolderSource:
    return FolderSource(name=name, split=split, class_names=(), root=root, files=tuple(pictures), labels=None)


def _open_split_folders(folder: Path, split: FolderSplit, name: str) -> FolderSource:
    """Open one of `folder/{train,val,test}`."""
    train_classes = _list_classes(folder / "train") if (folder / "train").is_dir() else {}
    if split in {"train", "calibration"}:
        if not (folder / "train").is_dir():
            raise DataError(f"{folder}: no sub-folder train for split {split!r}", hint=_LAYOUT_HINT)
        if not train_classes:
            return _unlabelled(folder / "train", split, name, list_pictures(folder / "train"))
        return _labelled(folder / "train", split, name, train_classes)
    wanted = _VAL_NAMES if split == "val" else ("test", *_VAL_NAMES)
    present = [folder / part for part in wanted if (folder / part).is_dir()]
    if not present:
        raise DataError(f"{folder}: no sub-folder {' or '.join(wanted)} for split {split!r}", hint=_LAYOUT_HINT)
    for root in present:
        classes = _list_classes(root)
        if classes:
            return _relabelled(_labelled(root, split, name, classes), tuple(train_classes))
    return _unlabelled(present[0], split, name, list_pictures(present[0]))


def _relabelled(source: FolderSource, class_names: tuple[str, ...]) -> FolderSource:
    """Give a test source the label order of the training classes (its own where there are none)."""
    if not class_names or source.labels is None:
        return source
    unknown = [class_name for class_name in source.class_names if class_name not in class_names]
    if unknown:
        raise DataError(
            f"{source.root}: class {unknown[0]!r} is not among the {len(class_names)} classes of train",
            hint="the class folders of train and test must have the same names",
        )
    order = np.array([class_names.index(class_name) for class_name in source.class_names], dtype=np.int64)
    return FolderSource(
        name=source.name,
        split=source.split,
        class_names=class_names,
        root=source.root,
        files=source.files,
        labels=order[source.labels],
    )


def _open_hash_split(folder: Path, split: FolderSplit, name: str) -> FolderSource:
    """Open class folders, or a flat folder, of which the hash of the file name says what is for which split."""
    classes = _list_classes(folder)
    if not classes:
        return _open_flat(folder, split, name)
    everything = _labelled(folder, split, name, classes)
    part = "train" if split == "calibration" else split
    chosen = [index for index, file in enumerate(everything.files) if hash_split(file) == part]
    return everything.take(np.array(chosen, dtype=np.int64), split=split)


def _open_flat(folder: Path, split: FolderSplit, name: str) -> FolderSource:
    """Open pictures that lie directly in a folder."""
    pictures = sorted(child.name for child in folder.iterdir() if _is_picture(child.name) and child.is_file())
    if not pictures:
        raise DataError(f"{folder} holds no pictures", hint=_LAYOUT_HINT)
    if split in {"train", "val"}:
        raise DataError(
            f"{folder}: {len(pictures)} pictures without labels cannot be used for split {split!r}", hint=_LAYOUT_HINT
        )
    return _unlabelled(folder, split, name, half_of(pictures, split) or pictures)


def half_of(files: list[str], split: str) -> list[str]:
    """Choose, by the hash of their names, the files for "calibration" or, for any other split, the others."""
    return [file for file in files if (_hash_position(file) < 0.5) == (split == "calibration")]


def _require_classes(folder: Path, source: FolderSource) -> None:
    if source.labels is None:
        raise DataError(f"{folder}: training needs class folders, got pictures without labels", hint=_LAYOUT_HINT)
    used = np.unique(source.labels)
    if len(used) < 2:
        names = ", ".join(source.class_names[label] for label in used)
        raise DataError(f"{folder}: training needs at least 2 classes, got {len(used)} ({names})", hint=_LAYOUT_HINT)
