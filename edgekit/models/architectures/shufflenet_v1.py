"""ShuffleNet V1: grouped pointwise convolutions and channel shuffle (Zhang et al. 2018, arXiv:1707.01083, table 1)."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import (
    SMALL_IMAGE,
    ChannelShuffle,
    GlobalAveragePool,
    SqueezeExcite,
    conv_bn,
    initialize,
    kept_strides,
)

STAGE2_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
REPEATS = (4, 8, 4)
EXCITATION = 16
"""Channels by those of a squeezed layer (Hu et al. 2017, section 6.1)."""


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; residual add, or average pool and concatenation at stride 2.

    Args:
        channels: Inputs and outputs.
        stride: Of the depthwise layer.
        groups: Of the pointwise layers.
        first: Whether it is the network's first unit.
        excited: Whether the branch ends in a squeeze-and-excitation (Hu et al. 2017, fig. 3).
    """

    def __init__(
        self, channels: tuple[int, int], stride: int, groups: int, *, first: bool, excited: bool = False
    ) -> None:
        super().__init__()
        in_channels, out_channels = channels
        self.stride = stride
        bottleneck = _round_up(out_channels // 4, groups)
        branch_channels = out_channels - in_channels if stride == 2 else out_channels
        # The very first pointwise layer sees only 24 channels: the paper leaves it ungrouped.
        self.compress = conv_bn(in_channels, bottleneck, 1, groups=1 if first else groups, activation=nn.ReLU)
        self.shuffle = ChannelShuffle(groups) if groups > 1 else nn.Identity()
        self.depthwise = conv_bn(bottleneck, bottleneck, 3, stride, groups=bottleneck, activation=None)
        self.expand = conv_bn(bottleneck, branch_channels, 1, groups=groups, activation=None)
        squeezed = max(1, branch_channels // EXCITATION)
        self.excite = SqueezeExcite(branch_channels, squeezed) if excited else nn.Identity()
        self.pool = nn.AvgPool2d(3, 2, 1) if stride == 2 else nn.Identity()
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c', h / stride, w / stride]."""
        branch = self.excite(self.expand(self.depthwise(self.shuffle(self.compress(x)))))
        if self.stride == 2:
            # x is not negative (it left a ReLU), so ReLU(cat(pool(x), branch)) needs it on one side only: then it
            # joins the convolution, and both sides of the concatenation share one grid.
            return torch.cat([self.pool(x), self.activation(branch)], 1)
        return self.activation(x + branch)


def _round_up(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple


def parse_variant(variant: str) -> tuple[float, int]:
    """Scale and groups of a variant name.

    >>> parse_variant("shufflenet_v1_x0_25_g8")
    (0.25, 8)
    """
    match = re.fullmatch(r"shufflenet_v1_x(\d+)_(\d+)_g(\d)", variant)
    if match is None:
        raise ValueError(variant)
    whole, fraction, groups = match.groups()
    return float(f"{whole}.{fraction}"), int(groups)


class ShuffleNetV1(nn.Module):
    """Stem, three stages of shuffle units, global pooling, one linear layer.

    Small images: a stride-1 stem without pooling (up to 32 pixels), or with pooling (up to 64).
    """

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        scale, groups = parse_variant(options.variant)
        scale *= 1.0 if options.width is None else options.width
        channels = _round_up(round(24 * scale), groups)
        small = options.input_size <= SMALL_IMAGE
        layers: list[nn.Module] = [conv_bn(options.in_channels, channels, 3, 1 if small else 2, activation=nn.ReLU)]
        if sum(kept_strides(options.input_size)) > len(REPEATS):
            layers.append(nn.MaxPool2d(3, 2, 1))
        for stage, repeats in enumerate(REPEATS):
            out_channels = _round_up(round(STAGE2_CHANNELS[groups] * scale) * 2**stage, groups)
            for repeat in range(repeats):
                stride = 2 if repeat == 0 else 1
                is_first = stage == 0 and repeat == 0
                layers.append(
                    ShuffleUnit(
                        (channels, out_channels), stride, groups, first=is_first, excited=options.squeeze_excite
                    )
                )
                channels = out_channels
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool()
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(channels, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.classifier(self.dropout(self.pool(self.features(x))))


def _published(
    macs: int,
    top1: float,
    macs_tolerance: float = 0.015,
    num_params: int | None = None,
    tables: str = "tables 1 and 2",
) -> Published:
    """The paper gives no parameters; the authors' release does, in steps of 100,000."""
    source = f"Zhang et al. 2018, {tables}"
    return Published(
        num_params=num_params,
        macs=macs,
        source=source if num_params is None else f"{source}; authors' release (parameters)",
        tolerance=0.0 if num_params is None else 0.03,
        macs_tolerance=macs_tolerance,
        top1=top1,
    )


ARCHITECTURE = Architecture(
    name="shufflenet_v1",
    title="ShuffleNet V1",
    paper="Zhang et al. 2018, ShuffleNet, arXiv:1707.01083",
    year=2017,
    # The paper does not say how it rounds channels at scales other than 1: the wider tolerances.
    variants={
        "shufflenet_v1_x0_25_g3": _published(13_000_000, 45.0, 0.16),
        "shufflenet_v1_x0_25_g8": _published(13_000_000, 47.3, 0.05),
        "shufflenet_v1_x0_5_g3": _published(38_000_000, 56.8, num_params=700_000),
        "shufflenet_v1_x0_5_g8": _published(38_000_000, 57.7, 0.07, num_params=1_000_000),
        "shufflenet_v1_x1_0_g1": _published(143_000_000, 66.4),
        "shufflenet_v1_x1_0_g2": _published(140_000_000, 67.3),
        "shufflenet_v1_x1_0_g3": _published(137_000_000, 67.4, num_params=1_900_000),
        "shufflenet_v1_x1_0_g4": _published(133_000_000, 67.2),
        "shufflenet_v1_x1_0_g8": _published(137_000_000, 67.6, num_params=2_400_000),
        "shufflenet_v1_x1_5_g3": _published(292_000_000, 71.5, 0.03, 3_400_000, "table 5"),
        "shufflenet_v1_x2_0_g3": _published(524_000_000, 73.7, num_params=5_400_000, tables="table 5"),
    },
    build=ShuffleNetV1,
    takes_width=True,
    takes_squeeze_excite=True,
)
