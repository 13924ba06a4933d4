"""Training batches from picture files: read ahead by threads, cropped at random, never all in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekit.core.errors import DataError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.data.dataset import Source
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.runtime.preprocess import fit_picture
from edgekit.train.augment import Mixed
from edgekit.train.feed import BatchMaker, epoch_generator

CROP_SCALE = (0.35, 1.0)
"""Share of the picture's area that a random crop keeps. ImageNet's usual 0.08 is for networks with spare capacity."""
CROP_RATIO = (3 / 4, 4 / 3)
_NUM_TRIES = 10


class StreamFeed:
    """Batches read from files, in a new order every epoch, each picture cropped at random.

    Args:
        source: Labelled pictures.
        maker: Augments and normalizes.
        batch_size: Pictures per batch.
        seed: Of order, crops and augmentation.

    Attributes:
        unreadable: Names and counts the pictures that could not be read, over all epochs.
    """

    def __init__(self, source: Source, maker: BatchMaker, batch_size: int, seed: int) -> None:
        if source.labels is None:
            raise DataError(f"{source.name} has no labels", hint="training needs a folder of class folders")
        self.source = source
        self.maker = maker
        self.spec = maker.spec
        self.batch_size = batch_size
        self.seed = seed
        self.num_pictures = len(source)
        self.unreadable = UnreadableLog()

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Mixed]]:
        """Batches of one epoch; the last, smaller one is left out unless it is the only one (BatchNorm)."""
        generator = epoch_generator(self.seed, epoch)
        order = torch.randperm(self.num_pictures, generator=generator).numpy()
        cropped = _RandomCrops(self.source, self.maker.spec, (self.seed, epoch))
        batches = iterate_batches(
            cropped,
            self.maker.spec,
            batch_size=self.batch_size,
            indices=order,
            unreadable=self.unreadable,
            fit=_keep,
        )
        for number, batch in enumerate(batches):
            if len(batch.pictures) < self.batch_size and number > 0:
                return
            if batch.labels is None:
                raise DataError(f"{self.source.name} has no labels")
            pictures = torch.from_numpy(batch.pictures).to(self.maker.device, non_blocking=True)
            labels = torch.from_numpy(batch.labels).to(self.maker.device, non_blocking=True)
            yield self.maker.make(pictures, labels, generator)


class _RandomCrops:
    """A `PictureSource` whose pictures are random crops at the input's size.

    Which crop depends on seed, epoch and picture alone: threads may read in any order, a resumed run sees the same.
    """

    def __init__(self, source: Source, spec: PreprocessSpec, key: tuple[int, int]) -> None:
        self.name, self.split = source.name, source.split
        self.class_names, self.labels = source.class_names, source.labels
        self._source, self._spec, self._key = source, spec, key

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Read and crop one picture. Raises `DataError` when it is unreadable."""
        generator = np.random.default_rng((*self._key, index))
        return crop_at_random(self._source.read(index), self._spec, generator)


def _keep(picture: npt.NDArray[np.uint8], _: PreprocessSpec) -> npt.NDArray[np.uint8]:
    return picture


def crop_at_random(
    picture: npt.NDArray[np.uint8], spec: PreprocessSpec, generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Cut a window of random area, aspect ratio and place, and resize it to the input (Szegedy et al. 2015, section 6).

    Args:
        picture: uint8 [height, width, 3 or 1].
        spec: Says size and number of channels.
        generator: Source of randomness.

    Returns:
        uint8 [*spec.input_size, spec.num_channels].
    """
    top, left, tall, wide = _draw_window(picture.shape[0], picture.shape[1], generator)
    window = picture[top : top + tall, left : left + wide]
    height, width = spec.input_size
    shrinks = tall > height and wide > width
    resized = cv2.resize(window, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    # OpenCV drops a channel dimension of 1. What is left for fit_picture is gray to RGB, or the reverse.
    exact = spec if spec.crop_fraction == 1.0 else _without_crop(spec)
    return fit_picture(np.reshape(resized, (height, width, picture.shape[2])).astype(np.uint8, copy=False), exact)


def _without_crop(spec: PreprocessSpec) -> PreprocessSpec:
    return PreprocessSpec(
        input_size=spec.input_size, num_channels=spec.num_channels, mean=spec.mean, std=spec.std, crop_fraction=1.0
    )


def _draw_window(height: int, width: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height, width, as torchvision's RandomResizedCrop draws them; the whole picture if nothing fits."""
    for _ in range(_NUM_TRIES):
        area = height * width * generator.uniform(*CROP_SCALE)
        ratio = math.exp(generator.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            return int(generator.integers(height - tall + 1)), int(generator.integers(width - wide + 1)), tall, wide
    return 0, 0, height, width
