"""AlexNet in one tower (Krizhevsky 2014, arXiv:1404.5997): the 240 MB that SqueezeNet and Deep Compression measure by.

One tower has no grouped convolutions and no local response normalization, unlike the two of 2012; its 61 million
parameters are as many.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import SMALL_IMAGE, hidden_linear, initialize, kept_strides, make_divisible

CHANNELS = (64, 192, 384, 256, 256)
HIDDEN = 4096


class AlexNet(nn.Module):
    """Five convolutions, three max-poolings, three linear layers.

    The small-image form has a padded 3x3 stem and BatchNorm, and keeps the three linear layers.
    """

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        first, second, third, fourth, fifth = (make_divisible(count * width) for count in CHANNELS)
        small = options.input_size <= SMALL_IMAGE
        size, in_channels = options.input_size, options.in_channels
        if small:
            steps = kept_strides(size)
            pools = [nn.MaxPool2d(3, 2, padding=1) if step else nn.Identity() for step in steps[2:]]
            for step in steps:
                size = -(-size // 2) if step else size
            stem = _conv((in_channels, first), 3, stride=2 ** sum(steps[:2]), batch_norm=True)
        else:
            pools = [nn.MaxPool2d(3, 2) for _ in range(3)]
            stem = [nn.Conv2d(in_channels, first, 11, 4, 2), nn.ReLU(inplace=True)]
            size = (size + 2 * 2 - 11) // 4 + 1
            for _ in pools:
                size = (size - 3) // 2 + 1
        self.features = nn.Sequential(
            *stem,
            pools[0],
            *_conv((first, second), 5, batch_norm=small),
            pools[1],
            *_conv((second, third), 3, batch_norm=small),
            *_conv((third, fourth), 3, batch_norm=small),
            *_conv((fourth, fifth), 3, batch_norm=small),
            pools[2],
            nn.Flatten(),
        )
        units = make_divisible(HIDDEN * width)
        self.hidden = nn.Sequential(
            *hidden_linear(fifth * size**2, units, options.dropout), *hidden_linear(units, units, options.dropout)
        )
        self.classifier = nn.Linear(units, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.classifier(self.hidden(self.features(x)))


def _conv(channels: tuple[int, int], kernel_size: int, *, stride: int = 1, batch_norm: bool) -> list[nn.Module]:
    conv = nn.Conv2d(*channels, kernel_size, stride, kernel_size // 2, bias=not batch_norm)
    norms: list[nn.Module] = [nn.BatchNorm2d(channels[1])] if batch_norm else []
    return [conv, *norms, nn.ReLU(inplace=True)]


ARCHITECTURE = Architecture(
    name="alexnet",
    title="AlexNet",
    paper="Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997",
    year=2012,
    variants={
        "alexnet": Published(
            num_params=61_100_840,
            macs=714_000_000,
            source="torchvision (AlexNet_Weights.IMAGENET1K_V1)",
            top1=56.5,
            top5=79.1,
        )
    },
    build=AlexNet,
    takes_width=True,
)
