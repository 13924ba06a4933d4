"""Batches for training: from memory by whole-batch indexing, from folders by streaming."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from edgekit.core.errors import DataError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import AugmentSection
from edgekit.data.memory import MemorySource
from edgekit.train.augment import Mixed, crop_and_flip, erase, mix, rand_augment


class Feed(Protocol):
    """Gives the batches of one epoch, in an order that depends on seed and epoch alone."""

    num_pictures: int
    spec: PreprocessSpec

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Mixed]]:
        """Normalized float [n, c, h, w] in channels-last memory, and targets."""
        ...


class BatchMaker:
    """From uint8 pictures to an augmented, normalized batch on the training device."""

    def __init__(self, spec: PreprocessSpec, augment: AugmentSection, device: torch.device) -> None:
        self.spec = spec
        self.augment = augment
        self.device = device
        # x = (u / 255 - mean) / std as one multiply-add, for one row of pixels
        std = torch.tensor(spec.std, device=device).repeat(spec.input_size[1])
        self.gain = 1 / (255 * std)
        self.offset = -torch.tensor(spec.mean, device=device).repeat(spec.input_size[1]) / std

    def normalize(self, pictures: Tensor) -> Tensor:
        """[n, c, h, w], 0..255, in channels-last memory -> normalized float32, likewise."""
        # By rows of width * channels values: with a mean per channel, the innermost loop would have three steps.
        rows = pictures.permute(0, 2, 3, 1).flatten(2).float()
        normalized = torch.addcmul(self.offset, rows, self.gain)
        return normalized.unflatten(2, (pictures.shape[3], pictures.shape[1])).permute(0, 3, 1, 2)

    def make(self, pictures: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Mixed]:
        """Augment uint8 [n, h, w, c] pictures; return normalized float [n, c, h, w] and targets."""
        config = self.augment
        if config.crop_padding or config.flip:
            pictures = crop_and_flip(pictures, config.crop_padding, flip=config.flip, generator=generator)
        # a permuted NHWC tensor *is* channels-last memory: no copy
        batch = pictures.permute(0, 3, 1, 2)
        if config.rand_ops:
            # Sampling gives plain NCHW memory, in which the network's first layers would run slower.
            batch = rand_augment(batch.float(), config, generator).contiguous(memory_format=torch.channels_last)
        batch = self.normalize(batch)
        if config.erase:
            batch = erase(batch, config.erase, generator)
        if config.mixup or config.cutmix:
            return mix(batch, labels, config, generator)
        return batch, Mixed(labels, labels, 1.0)


class MemoryFeed:
    """All pictures as one uint8 tensor on the training device; shuffled every epoch."""

    def __init__(self, source: MemorySource, maker: BatchMaker, batch_size: int, seed: int) -> None:
        if source.labels is None:
            raise DataError(f"{source.name} has no labels", hint="training needs a folder of class folders")
        # Copied, because arrays from files may be read-only, which torch cannot hold.
        self.pictures = torch.from_numpy(source.pictures.copy()).to(maker.device)
        self.labels = torch.from_numpy(source.labels.copy()).to(maker.device)
        self.maker = maker
        self.spec = maker.spec
        self.batch_size = batch_size
        self.seed = seed
        self.num_pictures = len(source)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Mixed]]:
        """Batches of one epoch; the last, smaller one is left out unless it is the only one (BatchNorm)."""
        generator = epoch_generator(self.seed, epoch)
        order = torch.randperm(self.num_pictures, generator=generator).to(self.maker.device)
        stop = max(self.num_pictures - self.num_pictures % self.batch_size, min(self.num_pictures, self.batch_size))
        for start in range(0, stop, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self.maker.make(self.pictures[chosen], self.labels[chosen], generator)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Randomness of one epoch: a function of seed and epoch, so a resumed run continues exactly."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)
