"""VGG: nothing but 3x3 convolutions, deep (Simonyan and Zisserman 2014, arXiv:1409.1556, table 1, columns D and E)."""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import (
    SMALL_IMAGE,
    GlobalAveragePool,
    hidden_linear,
    initialize,
    kept_strides,
    make_divisible,
)

STAGE_CHANNELS = (64, 128, 256, 512, 512)
REPEATS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
HIDDEN = 4096


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each with a max-pooling behind it, then three linear layers.

    The small-image form carries BatchNorm, pools only where `kept_strides` does, and ends in the mean of the last map
    and one linear layer: 119 of the 134 million weights that remain without the thousand classes are the two hidden
    layers, which have nothing to see in a map of 4 x 4.
    """

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        small = options.input_size <= SMALL_IMAGE
        size, channels = options.input_size, options.in_channels
        layers: list[nn.Module] = []
        stages = zip(STAGE_CHANNELS, REPEATS[options.variant], kept_strides(size), strict=True)
        for stage_channels, repeats, has_pool in stages:
            out_channels = make_divisible(stage_channels * width)
            for _ in range(repeats):
                layers += _conv(channels, out_channels, batch_norm=small)
                channels = out_channels
            if has_pool:
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=small))
                size //= 2
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool() if small else nn.Flatten()
        hidden: list[nn.Module] = []
        if not small:
            units = make_divisible(HIDDEN * width)
            hidden += hidden_linear(channels * size**2, units, options.dropout)
            hidden += hidden_linear(units, units, options.dropout)
            channels = units
        self.hidden = nn.Sequential(*hidden)
        self.dropout = nn.Dropout(options.dropout if small else 0.0)
        self.classifier = nn.Linear(channels, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.classifier(self.dropout(self.hidden(self.pool(self.features(x)))))


def _conv(in_channels: int, out_channels: int, *, batch_norm: bool) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=not batch_norm)
    norms: list[nn.Module] = [nn.BatchNorm2d(out_channels)] if batch_norm else []
    return [conv, *norms, nn.ReLU(inplace=True)]


ARCHITECTURE = Architecture(
    name="vgg",
    title="VGG",
    paper="Simonyan and Zisserman 2014, Very Deep Convolutional Networks, arXiv:1409.1556",
    year=2014,
    variants={
        "vgg16": Published(
            num_params=138_357_544,
            macs=15_300_000_000,
            source="Howard et al. 2017, table 8 (MACs, top-1); torchvision (VGG16_Weights: parameters, top-5)",
            top1=71.5,
            top5=90.4,
        ),
        "vgg19": Published(
            num_params=143_667_240,
            macs=19_630_000_000,
            source="torchvision (VGG19_Weights.IMAGENET1K_V1)",
            top1=72.4,
            top5=90.9,
        ),
    },
    build=VGG,
    takes_width=True,
)
