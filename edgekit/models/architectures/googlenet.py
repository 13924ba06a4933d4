"""GoogLeNet, Inception v1: four sizes of windows side by side (Szegedy et al. 2014, arXiv:1409.4842, table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import (
    SMALL_IMAGE,
    AuxiliaryHead,
    GlobalAveragePool,
    initialize,
    kept_strides,
    make_divisible,
)

INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels: 1x1; 3x3 reduced and full; 5x5 reduced and full; 1x1 behind the pooling."""
POOL_BEFORE = ("4a", "5a")
AUXILIARY = ("4a", "4d")
"""Behind these stand the classifiers that serve training only (section 5)."""


class Inception(nn.Module):
    """1x1, 3x3, 5x5 and a pooling side by side, each reduced by a 1x1, concatenated (figure 2b)."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], *, batch_norm: bool) -> None:
        super().__init__()
        one, reduced3, three, reduced5, five, pooled = channels
        self.branch1 = _conv((in_channels, one), 1, batch_norm=batch_norm)
        self.branch3 = nn.Sequential(
            _conv((in_channels, reduced3), 1, batch_norm=batch_norm),
            _conv((reduced3, three), 3, batch_norm=batch_norm),
        )
        self.branch5 = nn.Sequential(
            _conv((in_channels, reduced5), 1, batch_norm=batch_norm),
            _conv((reduced5, five), 5, batch_norm=batch_norm),
        )
        self.branch_pool = nn.Sequential(
            nn.MaxPool2d(3, 1, padding=1), _conv((in_channels, pooled), 1, batch_norm=batch_norm)
        )
        self.out_channels = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c', h, w]."""
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.branch_pool(x)], 1)


class GoogLeNet(nn.Module):
    """Three convolutions, nine inception modules, global pooling, one linear layer.

    The small-image form has a 3x3 stem, BatchNorm in place of local response normalization, and pools only where
    `kept_strides` does. `heads` hang on the outputs of 4a and 4d; only training calls them.
    """

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        small = options.input_size <= SMALL_IMAGE
        stem_step, *steps = kept_strides(options.input_size)
        kept = iter(steps)
        first, second = make_divisible(64 * width), make_divisible(192 * width)
        layers: list[nn.Module] = [
            _conv((options.in_channels, first), 3 if small else 7, 2 if stem_step else 1, batch_norm=small),
            *_pool(step=next(kept)),
            *([] if small else [_response_norm()]),
            _conv((first, first), 1, batch_norm=small),
            _conv((first, second), 3, batch_norm=small),
            *([] if small else [_response_norm()]),
            *_pool(step=next(kept)),
        ]
        self.stem = nn.Sequential(*layers)
        channels = second
        self.inceptions = nn.ModuleDict()
        self.pools = nn.ModuleDict()
        heads: list[AuxiliaryHead] = []
        for name, sizes in INCEPTIONS.items():
            if name in POOL_BEFORE:
                self.pools[name] = nn.Sequential(*_pool(step=next(kept)))
            block = Inception(channels, tuple(make_divisible(size * width) for size in sizes), batch_norm=small)
            self.inceptions[name] = block
            channels = block.out_channels
            if name in AUXILIARY:
                heads.append(AuxiliaryHead(f"inceptions.{name}", channels, options.num_classes))
        self.pool = GlobalAveragePool()
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(channels, options.num_classes)
        self.heads = nn.ModuleList(heads)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        x = self.stem(x)
        for name, block in self.inceptions.items():
            if name in self.pools:
                x = self.pools[name](x)
            x = block(x)
        return self.classifier(self.dropout(self.pool(x)))


def _conv(channels: tuple[int, int], kernel_size: int, stride: int = 1, *, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(*channels, kernel_size, stride, kernel_size // 2, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(channels[1]))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def _pool(*, step: bool) -> list[nn.Module]:
    return [nn.MaxPool2d(3, 2, padding=1)] if step else []


def _response_norm() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)


ARCHITECTURE = Architecture(
    name="googlenet",
    title="GoogLeNet",
    paper="Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842",
    year=2014,
    variants={
        "googlenet": Published(
            num_params=6_800_000,
            macs=1_550_000_000,
            source="Howard et al. 2017, table 8 (counts, top-1); paper, table 3 (one crop, top-5)",
            # The paper's table 1 counts in units of 1024 parameters.
            tolerance=0.03,
            macs_tolerance=0.03,
            top1=69.8,
            top5=89.9,
        )
    },
    build=GoogLeNet,
    takes_width=True,
)
