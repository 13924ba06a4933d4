"""What a dataset of the catalogue is: its classes, its statistics, its files and the function that reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.catalogue import Catalogue
from edgekit.data.folder import FolderSource
from edgekit.data.memory import MemorySource

Split: TypeAlias = Literal["train", "calibration", "test"]
Source: TypeAlias = MemorySource | FolderSource
"""Every source that edgekit makes itself: a `PictureSource` that can also `take` some of its pictures."""


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file that a dataset consists of.

    Args:
        name: File name, also its name in the cache.
        url: Public address.
        sha256: Of the file at that address, lower-case hex. A download with any other hash is refused.
        other_sha256: Further packings of the same content (another gzip header, say) that are as good on disk.
    """

    name: str
    url: str
    sha256: str
    other_sha256: tuple[str, ...] = ()

    @property
    def known_sha256(self) -> frozenset[str]:
        """Every hash under which this content is known."""
        return frozenset((self.sha256, *self.other_sha256))


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """One dataset of the catalogue.

    Args:
        name: Id, equal to the file name of its module.
        title: One line for listings.
        license: SPDX id, or the terms in a few words.
        class_names: In label order; empty when the folder itself names the classes.
        num_channels: 3 for RGB, 1 for gray.
        native_size: (height, width) in pixels; None when the pictures differ in size.
        mean: Of the training pictures, per channel, on the 0..1 scale.
        std: Of the training pictures, per channel, on the 0..1 scale.
        splits: The splits that `read` knows. Without "calibration" among them, calibration pictures are drawn from
            the training split.
        files: What to download; empty when it has to be brought by the user or is embedded.
        find: Says where it lies on this machine (a file or a folder), without reading or downloading anything; None
            when it does not.
        read: Reads one of `splits`; raises `DataError` when files are missing or damaged.
    """

    name: str
    title: str
    license: str
    class_names: tuple[str, ...]
    num_channels: Literal[1, 3]
    native_size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    splits: tuple[Split, ...] = ("train", "test")
    files: tuple[RemoteFile, ...] = ()
    find: Callable[[], Path | None]
    read: Callable[[Split], Source]


DATASETS = Catalogue("edgekit.data.datasets", "DATASET", Dataset, "dataset")
