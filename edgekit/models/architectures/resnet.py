"""ResNet: shortcuts around every two or three convolutions (He et al. 2015, arXiv:1512.03385, table 1).

The bottleneck has its stride in the 3x3 convolution, as torchvision and all the weights in use have ("ResNet V1.5").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import (
    SMALL_IMAGE,
    GlobalAveragePool,
    SqueezeExcite,
    conv_bn,
    initialize,
    kept_strides,
    make_divisible,
)

STAGE_CHANNELS = (64, 128, 256, 512)
REPEATS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
BOTTLENECKS = frozenset({"resnet50"})
EXPANSION = 4
"""Output channels of a bottleneck by those of its 3x3 convolution."""
EXCITATION = 16
"""Channels by those of the squeezed layer (Hu et al. 2017, section 6.1: their r)."""


class Residual(nn.Module):
    """relu(shortcut(x) + excite(body(x))): two 3x3 convolutions, or 1x1, 3x3, 1x1.

    Args:
        channels: Inputs, and those of the 3x3 convolution.
        stride: Of the first 3x3 convolution.
        bottleneck: Whether the body is 1x1, 3x3, 1x1 with `EXPANSION` times the outputs.
        excited: Whether a squeeze-and-excitation follows the body (Hu et al. 2017, fig. 3).
    """

    def __init__(self, channels: tuple[int, int], stride: int, *, bottleneck: bool, excited: bool) -> None:
        super().__init__()
        in_channels, inner = channels
        out_channels = inner * EXPANSION if bottleneck else inner
        layers: list[nn.Module] = []
        if bottleneck:
            layers.append(conv_bn(in_channels, inner, 1, activation=nn.ReLU))
            layers.append(conv_bn(inner, inner, 3, stride, activation=nn.ReLU))
            layers.append(conv_bn(inner, out_channels, 1, activation=None))
        else:
            layers.append(conv_bn(in_channels, inner, 3, stride, activation=nn.ReLU))
            layers.append(conv_bn(inner, out_channels, 3, activation=None))
        self.body = nn.Sequential(*layers)
        squeezed = max(1, out_channels // EXCITATION)
        self.excite = SqueezeExcite(out_channels, squeezed) if excited else nn.Identity()
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = conv_bn(in_channels, out_channels, 1, stride, activation=None) if changes else nn.Identity()
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c', h / stride, w / stride]."""
        return torch.relu(self.excite(self.body(x)) + self.shortcut(x))


class ResNet(nn.Module):
    """7x7 stem and max-pooling, four stages of residual blocks, global pooling, one linear layer.

    The small-image form has a 3x3 stem, and strides only where `kept_strides` has them.

    Args:
        options: Sizes; the variant may be that of `se_resnet`, which has the same stages.
        excited: Whether every block gets a squeeze-and-excitation.
    """

    def __init__(self, options: BuildOptions, *, excited: bool = False) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        variant = options.variant.removeprefix("se_")
        stem_step, pool_step, *steps = kept_strides(options.input_size)
        kernel_size = 3 if options.input_size <= SMALL_IMAGE else 7
        channels = make_divisible(STAGE_CHANNELS[0] * width)
        self.stem = conv_bn(options.in_channels, channels, kernel_size, 2 if stem_step else 1, activation=nn.ReLU)
        self.stem_pool = nn.MaxPool2d(3, 2, padding=1) if pool_step else nn.Identity()
        blocks: list[nn.Module] = []
        for stage_channels, repeats, step in zip(STAGE_CHANNELS, REPEATS[variant], (False, *steps), strict=True):
            inner = make_divisible(stage_channels * width)
            for repeat in range(repeats):
                stride = 2 if step and repeat == 0 else 1
                block = Residual((channels, inner), stride, bottleneck=variant in BOTTLENECKS, excited=excited)
                blocks.append(block)
                channels = block.out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = GlobalAveragePool()
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(channels, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.classifier(self.dropout(self.pool(self.blocks(self.stem_pool(self.stem(x))))))


ARCHITECTURE = Architecture(
    name="resnet",
    title="ResNet",
    paper="He et al. 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385",
    year=2015,
    variants={
        "resnet18": Published(
            num_params=11_689_512, macs=1_810_000_000, source="torchvision (IMAGENET1K_V1)", top1=69.8, top5=89.1
        ),
        "resnet34": Published(
            num_params=21_797_672, macs=3_660_000_000, source="torchvision (IMAGENET1K_V1)", top1=73.3, top5=91.4
        ),
        "resnet50": Published(
            num_params=25_557_032, macs=4_090_000_000, source="torchvision (IMAGENET1K_V1)", top1=76.1, top5=92.9
        ),
    },
    build=ResNet,
    takes_width=True,
    takes_squeeze_excite=True,
)
