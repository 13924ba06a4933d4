"""ZFNet: AlexNet with a finer stem, found by looking at what layers see (Zeiler and Fergus 2013, arXiv:1311.2901).

Sizes are those of figure 3; contrast normalization is AlexNet's local response normalization (Krizhevsky et al. 2012,
section 3.3: k = 2, n = 5, alpha = 1e-4, beta = 0.75).
"""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import SMALL_IMAGE, hidden_linear, initialize, kept_strides, make_divisible

CHANNELS = (96, 256, 384, 384, 256)
HIDDEN = 4096


class ZFNet(nn.Module):
    """Five convolutions, three max-poolings, three linear layers.

    The small-image form has padded 3x3 convolutions and BatchNorm in place of local response normalization.
    """

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        first, second, third, fourth, fifth = (make_divisible(count * width) for count in CHANNELS)
        small = options.input_size <= SMALL_IMAGE
        stem, size = _small_stem(options, (first, second)) if small else _stem(options, (first, second))
        self.features = nn.Sequential(
            *stem,
            *_conv((second, third), batch_norm=small),
            *_conv((third, fourth), batch_norm=small),
            *_conv((fourth, fifth), batch_norm=small),
            nn.MaxPool2d(3, 2, padding=1 if small else 0),
            nn.Flatten(),
        )
        size = (size + 1) // 2 if small else (size - 3) // 2 + 1
        units = make_divisible(HIDDEN * width)
        self.hidden = nn.Sequential(
            *hidden_linear(fifth * size**2, units, options.dropout), *hidden_linear(units, units, options.dropout)
        )
        self.classifier = nn.Linear(units, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.classifier(self.hidden(self.features(x)))


def _stem(options: BuildOptions, channels: tuple[int, int]) -> tuple[list[nn.Module], int]:
    """The first two layers, and the size of the map behind them (13 at 224)."""
    first, second = channels
    layers: list[nn.Module] = [
        nn.Conv2d(options.in_channels, first, 7, 2, 1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _response_norm(),
        nn.Conv2d(first, second, 5, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _response_norm(),
    ]
    size = _pooled((options.input_size + 2 - 7) // 2 + 1)
    return layers, _pooled((size - 5) // 2 + 1)


def _response_norm() -> nn.Module:
    size = 5
    # AlexNet's alpha is for the sum of the squares, torch's for their mean.
    return nn.LocalResponseNorm(size, alpha=size * 1e-4, beta=0.75, k=2.0)


def _pooled(size: int) -> int:
    return -((size - 3) // -2) + 1


def _small_stem(options: BuildOptions, channels: tuple[int, int]) -> tuple[list[nn.Module], int]:
    steps = kept_strides(options.input_size)[:4]
    layers: list[nn.Module] = []
    in_channels, size = options.in_channels, options.input_size
    for out_channels, step, pool_step in zip(channels, steps[::2], steps[1::2], strict=True):
        layers += _conv((in_channels, out_channels), stride=2 if step else 1, batch_norm=True)
        if pool_step:
            layers.append(nn.MaxPool2d(3, 2, padding=1))
        in_channels = out_channels
    for step in steps:
        size = -(-size // 2) if step else size
    return layers, size


def _conv(channels: tuple[int, int], *, stride: int = 1, batch_norm: bool) -> list[nn.Module]:
    conv = nn.Conv2d(*channels, 3, stride, 1, bias=not batch_norm)
    norms: list[nn.Module] = [nn.BatchNorm2d(channels[1])] if batch_norm else []
    return [conv, *norms, nn.ReLU(inplace=True)]


ARCHITECTURE = Architecture(
    name="zfnet",
    title="ZFNet",
    paper="Zeiler and Fergus 2013, Visualizing and Understanding Convolutional Networks, arXiv:1311.2901",
    year=2013,
    variants={
        "zfnet": Published(
            num_params=None,
            macs=None,
            source="paper, table 2 (one network as in figure 3; no counts)",
            top1=61.6,
            top5=83.5,
        )
    },
    build=ZFNet,
    takes_width=True,
)
