"""DenseNet: every layer reads all maps before it (Huang et al. 2016, arXiv:1608.06993, table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import (
    SMALL_IMAGE,
    GlobalAveragePool,
    conv_bn,
    initialize,
    kept_strides,
    make_divisible,
)

BLOCKS = {"densenet121": (6, 12, 24, 16)}
GROWTH = 32
BOTTLENECK = 4
"""Channels of the 1x1 convolution by the growth rate."""


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 1x1, BatchNorm, ReLU, 3x3; the new maps are joined to those that were there."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.squeeze = conv_bn(in_channels, BOTTLENECK * growth, 1, activation=nn.ReLU)
        self.grow = nn.Conv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c + growth, h, w]."""
        return torch.cat([x, self.grow(self.squeeze(torch.relu(self.norm(x))))], 1)


class Transition(nn.Module):
    """BatchNorm, ReLU, 1x1 to half the channels, 2x2 average where the network halves its maps here."""

    def __init__(self, in_channels: int, out_channels: int, *, has_pool: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True) if has_pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c / 2, h / 2, w / 2], odd sizes rounded up."""
        return self.pool(self.conv(torch.relu(self.norm(x))))


class DenseNet(nn.Module):
    """7x7 stem and max-pooling, four dense blocks with transitions between, global pooling, one linear layer.

    The small-image form has a 3x3 stem, and halves its maps only where `kept_strides` says so. A width multiplies the
    growth rate.
    """

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        growth = make_divisible(GROWTH * (1.0 if options.width is None else options.width))
        stem_step, pool_step, *steps = kept_strides(options.input_size)
        kernel_size = 3 if options.input_size <= SMALL_IMAGE else 7
        channels = 2 * growth
        layers: list[nn.Module] = [
            conv_bn(options.in_channels, channels, kernel_size, 2 if stem_step else 1, activation=nn.ReLU)
        ]
        if pool_step:
            layers.append(nn.MaxPool2d(3, 2, padding=1))
        for repeats, step in zip(BLOCKS[options.variant], (*steps, None), strict=True):
            for _ in range(repeats):
                layers.append(DenseLayer(channels, growth))
                channels += growth
            if step is not None:
                layers.append(Transition(channels, channels // 2, has_pool=step))
                channels //= 2
        self.features = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(channels)
        self.pool = GlobalAveragePool()
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(channels, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.classifier(self.dropout(self.pool(torch.relu(self.norm(self.features(x))))))


ARCHITECTURE = Architecture(
    name="densenet",
    title="DenseNet",
    paper="Huang et al. 2016, Densely Connected Convolutional Networks, arXiv:1608.06993",
    year=2016,
    variants={
        "densenet121": Published(
            num_params=7_978_856,
            macs=2_830_000_000,
            source="torchvision (DenseNet121_Weights.IMAGENET1K_V1)",
            macs_tolerance=0.02,
            top1=74.4,
            top5=92.0,
        )
    },
    build=DenseNet,
    takes_width=True,
)
