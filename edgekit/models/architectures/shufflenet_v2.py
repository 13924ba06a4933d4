"""ShuffleNet V2: channel split, equal widths, one shuffle a unit (Ma et al. 2018, arXiv:1807.11164, table 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import SMALL_IMAGE, ChannelShuffle, GlobalAveragePool, conv_bn, initialize, kept_strides

# stem, stage 2, 3, 4, last 1x1
CHANNELS = {
    "shufflenet_v2_x0_5": (24, 48, 96, 192, 1024),
    "shufflenet_v2_x1_0": (24, 116, 232, 464, 1024),
    "shufflenet_v2_x1_5": (24, 176, 352, 704, 1024),
    "shufflenet_v2_x2_0": (24, 244, 488, 976, 2048),
}
REPEATS = (4, 8, 4)


class ShuffleUnit(nn.Module):
    """Stride 1: split, transform one half, concatenate, shuffle. Stride 2: transform both, concatenate, shuffle."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.stride = stride
        branch_in = in_channels if stride == 2 else half
        self.branch2 = nn.Sequential(
            conv_bn(branch_in, half, 1, activation=nn.ReLU),
            conv_bn(half, half, 3, stride, groups=half, activation=None),
            conv_bn(half, half, 1, activation=nn.ReLU),
        )
        self.branch1: nn.Module = nn.Identity()
        if stride == 2:
            self.branch1 = nn.Sequential(
                conv_bn(in_channels, in_channels, 3, 2, groups=in_channels, activation=None),
                conv_bn(in_channels, half, 1, activation=nn.ReLU),
            )
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c', h / stride, w / stride]."""
        if self.stride == 2:
            return self.shuffle(torch.cat([self.branch1(x), self.branch2(x)], 1))
        kept, changed = x.chunk(2, dim=1)
        return self.shuffle(torch.cat([kept, self.branch2(changed)], 1))


class ShuffleNetV2(nn.Module):
    """Stem, three stages of shuffle units, a 1x1 convolution, global pooling, one linear layer.

    Small images: a stride-1 stem without pooling (up to 32 pixels), or with pooling (up to 64).
    """

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        channels, *stages, last = CHANNELS[options.variant]
        small = options.input_size <= SMALL_IMAGE
        layers: list[nn.Module] = [conv_bn(options.in_channels, channels, 3, 1 if small else 2, activation=nn.ReLU)]
        if sum(kept_strides(options.input_size)) > len(REPEATS):
            layers.append(nn.MaxPool2d(3, 2, 1))
        for stage_channels, repeats in zip(stages, REPEATS, strict=True):
            for repeat in range(repeats):
                layers.append(ShuffleUnit(channels, stage_channels, 2 if repeat == 0 else 1))
                channels = stage_channels
        layers.append(conv_bn(channels, last, 1, activation=nn.ReLU))
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool()
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(last, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.classifier(self.dropout(self.pool(self.features(x))))


def _published(num_params: int, macs: int, top1: float) -> Published:
    return Published(
        num_params=num_params, macs=macs, source="torchvision (parameters), Ma et al. 2018 table 8 (MACs)", top1=top1
    )


ARCHITECTURE = Architecture(
    name="shufflenet_v2",
    title="ShuffleNet V2",
    paper="Ma et al. 2018, ShuffleNet V2: Practical Guidelines, arXiv:1807.11164",
    year=2018,
    variants={
        "shufflenet_v2_x0_5": _published(1_366_792, 41_000_000, 60.3),
        "shufflenet_v2_x1_0": _published(2_278_604, 146_000_000, 69.4),
        "shufflenet_v2_x1_5": _published(3_503_624, 299_000_000, 72.6),
        "shufflenet_v2_x2_0": _published(7_393_996, 591_000_000, 74.9),
    },
    build=ShuffleNetV2,
)
