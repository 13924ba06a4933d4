"""Small sets that live in memory as uint8, so that training can slice and augment whole batches at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class MemorySource:
    """Pictures of one size, held in memory. A `PictureSource`.

    Args:
        name: Name for reports, e.g. "fashion_mnist".
        split: "train", "test" or "calibration".
        class_names: Class names in label order; empty when unlabelled.
        pictures: uint8 [n, height, width, channels], channels 3 (RGB) or 1 (gray).
        labels: int64 [n], or None when unlabelled.

    Raises:
        DataError: Pictures or labels of another type, shape or range.
    """

    name: str
    split: str
    class_names: tuple[str, ...]
    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None

    def __post_init__(self) -> None:
        pictures, labels = self.pictures, self.labels
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] not in {1, 3}:
            raise DataError(
                f"{self.name}: expected uint8 pictures [n, height, width, 1 or 3], "
                f"got {pictures.dtype} {list(pictures.shape)}"
            )
        if labels is None:
            return
        if labels.dtype != np.int64 or labels.shape != pictures.shape[:1]:
            raise DataError(
                f"{self.name}: expected {len(pictures)} int64 labels, got {labels.dtype} {list(labels.shape)}"
            )
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise DataError(
                f"{self.name}: labels run from {labels.min()} to {labels.max()}, "
                f"expected 0 to {len(self.class_names) - 1}"
            )

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Return one picture, uint8 [height, width, channels]."""
        return self.pictures[index]

    def take(self, indices: npt.NDArray[np.int64], *, split: str) -> MemorySource:
        """Return the pictures at `indices`, in that order, under another split's name."""
        labels = None if self.labels is None else self.labels[indices]
        return MemorySource(
            name=self.name,
            split=split,
            class_names=self.class_names,
            pictures=self.pictures[indices],
            labels=labels,
        )
