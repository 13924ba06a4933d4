"""Splits decided by a picture's file name alone: stable across runs, machines, and added or removed files."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Literal

_TRAIN_SHARE = 0.8
_VAL_SHARE = 0.1


def hash_split(file_name: str) -> Literal["train", "val", "test"]:
    """Say to which split a picture belongs, from its file name alone: 80 % train, 10 % val, 10 % test.

    Only the name in its folder counts, so a picture keeps its split when it is moved to another class.

    >>> [hash_split(name) for name in ("0001.jpg", "0002.jpg", "cats/0003.jpg")]
    ['train', 'val', 'test']
    """
    position = _hash_position(file_name)
    if position < _TRAIN_SHARE:
        return "train"
    return "val" if position < _TRAIN_SHARE + _VAL_SHARE else "test"


def halve(files: Iterable[str], split: str) -> list[int]:
    """Positions of the files that are for "calibration" or, for any other split, of the others: about half each.

    >>> halve(["0001.jpg", "0002.jpg", "0003.jpg"], "calibration")
    [0]
    """
    is_calibration = split == "calibration"
    return [index for index, file in enumerate(files) if (_hash_position(file) < 0.5) == is_calibration]


def _hash_position(file_name: str) -> float:
    """Where a name falls in [0, 1). Normalized to NFC, because macOS decomposes accents in file names."""
    base_name = unicodedata.normalize("NFC", PurePosixPath(file_name).name)
    digest = hashlib.sha256(base_name.encode("utf-8", errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
