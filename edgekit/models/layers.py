"""Building blocks that several architectures share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALL_IMAGE = 64
"""Inputs up to this many pixels get the small-image stem (CIFAR, Fashion-MNIST, Tiny-ImageNet sizes)."""


def kept_strides(input_size: int) -> tuple[bool, bool, bool, bool, bool]:
    """Which of a network's five stride-2 steps an input can bear, so that the last map is about 4 x 4.

    224-pixel networks halve five times (to 7 x 7). Up to 64 pixels the stem's step is dropped; up to 32 pixels the
    fourth too. (Dropping the second instead, as is usual for CIFAR, leaves twice the multiply-accumulates and half the
    training speed in the thin, large early maps.)

    >>> [sum(kept_strides(size)) for size in (28, 32, 64, 96, 224)]
    [3, 3, 4, 5, 5]
    """
    if input_size <= SMALL_IMAGE // 2:
        return (False, True, True, False, True)
    return (input_size > SMALL_IMAGE, True, True, True, True)


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round a channel count to a multiple of `divisor`, never down by more than 10 % (the MobileNet papers' rule).

    >>> make_divisible(17.6), make_divisible(8.1), make_divisible(12)
    (16, 8, 16)
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU6,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, activation; padding keeps the size at stride 1."""
    padding = (kernel_size - 1) // 2
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


class ChannelShuffle(nn.Module):
    """Mix the channels of `groups` groups (Zhang et al. 2018, ShuffleNet, section 3.1).

    Exporters treat it as one operator (`is_channel_shuffle`).
    """

    is_channel_shuffle = True

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[n, groups * c, h, w] -> the same shape, channels interleaved."""
        n, channels, height, width = x.shape
        size = channels // self.groups
        if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
            grouped = x.reshape(n, self.groups, size, height, width)
            return grouped.transpose(1, 2).reshape(n, channels, height, width)
        # The plain spelling would leave channels-last memory, and the layers around would convert there and back.
        grouped = x.permute(0, 2, 3, 1).view(n, height, width, self.groups, size)
        return grouped.transpose(3, 4).reshape(n, height, width, channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"groups={self.groups}"


class GlobalAveragePool(nn.Module):
    """Mean over the map: [n, c, h, w] -> [n, c]."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool and flatten; spelled so that every exporter sees one pooling operator and no transpose."""
        if self.training and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
            # The same mean, whose gradient stays in channels-last memory (the pooling operator's does not).
            return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)
        return torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)


def initialize(module: nn.Module) -> None:
    """He initialization for convolutions (He et al. 2015), small normal for linear layers, 1 and 0 for BatchNorm."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
