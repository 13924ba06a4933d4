"""MobileNet V3: squeeze-and-excitation and hard swish in V2's blocks (Howard et al. 2019, arXiv:1905.02244)."""

from __future__ import annotations

from typing import NamedTuple

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


class Bottleneck(NamedTuple):
    """One row of the paper's tables 1 and 2."""

    kernel_size: int
    expanded: int
    channels: int
    excited: bool
    hard_swish: bool
    stride: int


STAGES = {
    "mobilenet_v3_large": (
        Bottleneck(3, 16, 16, False, False, 1),
        Bottleneck(3, 64, 24, False, False, 2),
        Bottleneck(3, 72, 24, False, False, 1),
        Bottleneck(5, 72, 40, True, False, 2),
        Bottleneck(5, 120, 40, True, False, 1),
        Bottleneck(5, 120, 40, True, False, 1),
        Bottleneck(3, 240, 80, False, True, 2),
        Bottleneck(3, 200, 80, False, True, 1),
        Bottleneck(3, 184, 80, False, True, 1),
        Bottleneck(3, 184, 80, False, True, 1),
        Bottleneck(3, 480, 112, True, True, 1),
        Bottleneck(3, 672, 112, True, True, 1),
        Bottleneck(5, 672, 160, True, True, 2),
        Bottleneck(5, 960, 160, True, True, 1),
        Bottleneck(5, 960, 160, True, True, 1),
    ),
    "mobilenet_v3_small": (
        Bottleneck(3, 16, 16, True, False, 2),
        Bottleneck(3, 72, 24, False, False, 2),
        Bottleneck(3, 88, 24, False, False, 1),
        Bottleneck(5, 96, 40, True, True, 2),
        Bottleneck(5, 240, 40, True, True, 1),
        Bottleneck(5, 240, 40, True, True, 1),
        Bottleneck(5, 120, 48, True, True, 1),
        Bottleneck(5, 144, 48, True, True, 1),
        Bottleneck(5, 288, 96, True, True, 2),
        Bottleneck(5, 576, 96, True, True, 1),
        Bottleneck(5, 576, 96, True, True, 1),
    ),
}
STEM_CHANNELS = 16
HIDDEN = {"mobilenet_v3_large": 1280, "mobilenet_v3_small": 1024}
EXPANSION = 6
"""Of the last 1x1 convolution."""
SQUEEZE = 4
"""Expanded channels by those of the squeezed layer (section 5.3)."""


class ExcitedResidual(nn.Module):
    """Expand 1x1, depthwise, squeeze-and-excitation, project 1x1; shortcut where the shape stays.

    Args:
        in_channels: Inputs.
        row: Sizes, channels already narrowed.
    """

    def __init__(self, in_channels: int, row: Bottleneck) -> None:
        super().__init__()
        activation = nn.Hardswish if row.hard_swish else nn.ReLU
        layers: list[nn.Module] = []
        if row.expanded != in_channels:
            layers.append(conv_bn(in_channels, row.expanded, 1, activation=activation))
        depthwise = conv_bn(
            row.expanded, row.expanded, row.kernel_size, row.stride, groups=row.expanded, activation=activation
        )
        layers.append(depthwise)
        if row.excited:
            layers.append(SqueezeExcite(row.expanded, make_divisible(row.expanded / SQUEEZE), gate=nn.Hardsigmoid))
        layers.append(conv_bn(row.expanded, row.channels, 1, activation=None))
        self.conv = nn.Sequential(*layers)
        self.has_shortcut = row.stride == 1 and in_channels == row.channels

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c', h / stride, w / stride]."""
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNetV3(nn.Module):
    """Stem, bottlenecks, 1x1, global pooling, and the last two linear layers on the pooled vector (figure 5)."""

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        kept = iter(kept_strides(options.input_size))
        channels = make_divisible(STEM_CHANNELS * width)
        stem_stride = 2 if next(kept) else 1
        layers: list[nn.Module] = [conv_bn(options.in_channels, channels, 3, stem_stride, activation=nn.Hardswish)]
        for row in STAGES[options.variant]:
            narrowed = row._replace(
                expanded=make_divisible(row.expanded * width),
                channels=make_divisible(row.channels * width),
                stride=2 if row.stride == 2 and next(kept) else 1,
            )
            layers.append(ExcitedResidual(channels, narrowed))
            channels = narrowed.channels
        layers.append(conv_bn(channels, channels * EXPANSION, 1, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool()
        # As in MobileNet V2, the hidden layer carries a thousand classes and is not narrowed; small pictures have few.
        small = options.input_size <= SMALL_IMAGE
        hidden = make_divisible(HIDDEN[options.variant] * (width / 2 if small else max(1.0, width)))
        self.hidden = nn.Sequential(nn.Linear(channels * EXPANSION, hidden), nn.Hardswish(inplace=True))
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(hidden, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.classifier(self.dropout(self.hidden(self.pool(self.features(x)))))


ARCHITECTURE = Architecture(
    name="mobilenet_v3",
    title="MobileNet V3",
    paper="Howard et al. 2019, Searching for MobileNetV3, arXiv:1905.02244",
    year=2019,
    variants={
        "mobilenet_v3_large": Published(
            num_params=5_483_032,
            macs=219_000_000,
            source="torchvision (parameters), paper, table 3 (MACs, top-1), torchvision (top-5)",
            top1=75.2,
            top5=91.3,
        ),
        "mobilenet_v3_small": Published(
            num_params=2_542_856,
            macs=56_000_000,
            source="torchvision (parameters), paper, table 3 (MACs, top-1), torchvision (top-5)",
            macs_tolerance=0.02,
            top1=67.4,
            top5=87.4,
        ),
    },
    build=MobileNetV3,
    takes_width=True,
)
