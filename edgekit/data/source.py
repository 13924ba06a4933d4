"""Where pictures come from: the one interface that training, calibration and evaluation read."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt


class PictureSource(Protocol):
    """A set of pictures, labelled or not. Implementations: `MemorySource`, `FolderSource`."""

    @property
    def name(self) -> str:
        """Name for reports, e.g. "fashion_mnist"."""
        ...

    @property
    def split(self) -> str:
        """ "train", "test" or "calibration"."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in label order; empty when unlabelled."""
        ...

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Label of every picture, shape [n]; None when unlabelled."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Decode one picture: uint8 [height, width, channels], channels 3 (RGB) or 1 (gray).

        Raises:
            DataError: The picture cannot be read; the message names it.
        """
        ...


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures ready for normalization.

    Args:
        pictures: uint8 [n, height, width, channels], fitted to the model's input size.
        labels: int64 [n], or None when unlabelled.
        indices: int64 [n], positions in the source (unreadable pictures are left out).
    """

    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None
    indices: npt.NDArray[np.int64]
