"""Any folder of pictures as a source: class folders, split by sub-folders or by a hash of the file name; or flat."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError
from edgekit.data.hash_split import halve, hash_split
from edgekit.runtime.reading import PICTURE_SUFFIXES, read_picture

FolderSplit: TypeAlias = Literal["train", "val", "calibration", "test"]

_PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
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

    - `folder/{train,val,test}/<class>/...` (or `training`, `valid`, `validation`, `testing`, in any case): as it
      says. "test" is `val` where there is no labelled `test`. With only `train` given, that is split by hash; without
      `train`, half of the test pictures, by the hash of their names, are for calibration. Classes are those of
      `train`.
    - `folder/<class>/...`: split by the hash of the file name, see `hash_split`.
    - Pictures directly in `folder`: unlabelled. Half of them are for calibration, the others for testing; a half
      without any picture is replaced by all.

    "calibration" is the training pictures where there are any (whoever opens it draws some of them). Classes are
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
    parts = _find_parts(folder)
    if parts.keys() - {"train"}:
        source = _open_part(folder, parts, split, name)
    else:
        source = _open_hash_split(parts.get("train", folder), split, name)
    if not len(source):
        raise DataError(f"{folder}: no pictures in split {split!r}", hint=_LAYOUT_HINT)
    if split == "train":
        _require_classes(folder, source)
    return source


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
            _LOG.warning("%s holds no pictures", child)
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


def _find_parts(folder: Path) -> dict[str, Path]:
    """Sub-folders that are splits, not classes: "train", "val" and "test", each where there is one."""
    parts: dict[str, Path] = {}
    for child in _sub_folders(folder):
        part = _PART_NAMES.get(child.name.lower())
        if part is not None:
            parts.setdefault(part, child)
    return parts


def _open_part(folder: Path, parts: dict[str, Path], split: FolderSplit, name: str) -> FolderSource:
    """Open one of `folder/{train,val,test}`, of which there are others than `train` alone."""
    train_classes = _list_classes(parts["train"]) if "train" in parts else {}
    if split == "train" or (split == "calibration" and "train" in parts):
        if "train" not in parts:
            raise DataError(f"{folder}: no sub-folder train for split 'train'", hint=_LAYOUT_HINT)
        return _labelled_or_not(parts["train"], split, name, train_classes)
    wanted = ("val",) if split == "val" else ("test", "val")
    present = [parts[part] for part in wanted if part in parts]
    if not present:
        raise DataError(f"{folder}: no sub-folder {' or '.join(wanted)} for split {split!r}", hint=_LAYOUT_HINT)
    listed = [(root, _list_classes(root)) for root in present]
    root, classes = next((entry for entry in listed if entry[1]), listed[0])
    source = _relabelled(_labelled_or_not(root, split, name, classes), tuple(train_classes))
    if "train" in parts or split == "val":
        return source
    return source.take(np.array(halve(source.files, split), dtype=np.int64), split=split)


def _labelled_or_not(root: Path, split: str, name: str, classes: dict[str, list[str]]) -> FolderSource:
    """Label pictures by their class folders; without any, take all pictures below `root` unlabelled."""
    return _labelled(root, split, name, classes) if classes else _unlabelled(root, split, name, list_pictures(root))


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
    if not chosen:
        raise DataError(
            f"{folder}: none of its {len(everything)} pictures falls into split {split!r}, "
            "which the hash of the file name decides (80 % train, 10 % val, 10 % test)",
            hint="add pictures, or sort them into sub-folders train, val and test yourself",
        )
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
    return _unlabelled(folder, split, name, [pictures[index] for index in halve(pictures, split)] or pictures)


def _require_classes(folder: Path, source: FolderSource) -> None:
    if source.labels is None:
        raise DataError(f"{folder}: training needs class folders, got pictures without labels", hint=_LAYOUT_HINT)
    used = np.unique(source.labels)
    if len(used) < 2:
        names = ", ".join(source.class_names[label] for label in used)
        raise DataError(f"{folder}: training needs at least 2 classes, got {len(used)} ({names})", hint=_LAYOUT_HINT)
