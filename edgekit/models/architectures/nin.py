"""Network in Network: 1x1 convolutions, and class maps instead of linear layers (Lin et al. 2013, arXiv:1312.4400).

The ImageNet form is that of Caffe's model zoo: the authors' own, of which the paper gives no table.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import SMALL_IMAGE, GlobalAveragePool, initialize, kept_strides, make_divisible

CHANNELS = (96, 256, 384, 1024)
"""Of the four blocks; the last one's 1x1 convolutions go from 1024 to 1024 to the classes."""


class NetworkInNetwork(nn.Module):
    """Four blocks of one wide convolution and two of 1x1, max-pooling between, the mean of one map per class.

    The small-image form has a padded 3x3 stem and BatchNorm, as those of the other families, and leaves the class maps
    unrectified, which learns faster.
    """

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        first, second, third, last = (make_divisible(count * width) for count in CHANNELS)
        small = options.input_size <= SMALL_IMAGE
        steps = kept_strides(options.input_size)
        if small:
            pools = [nn.MaxPool2d(3, 2, padding=1) if step else nn.Identity() for step in steps[2:]]
            stem = nn.Conv2d(options.in_channels, first, 3, 2 ** sum(steps[:2]), 1, bias=False)
        else:
            pools = [nn.MaxPool2d(3, 2, ceil_mode=True) for _ in range(3)]
            stem = nn.Conv2d(options.in_channels, first, 11, 4)
        layers = [*_block(stem, first, batch_norm=small), pools[0]]
        wide = nn.Conv2d(first, second, 5, padding=2, bias=not small)
        layers += [*_block(wide, second, batch_norm=small), pools[1]]
        wide = nn.Conv2d(second, third, 3, padding=1, bias=not small)
        layers += [*_block(wide, third, batch_norm=small), pools[2]]
        layers.append(nn.Dropout(options.dropout))
        wide = nn.Conv2d(third, last, 3, padding=1, bias=not small)
        layers += _block(wide, last, batch_norm=small, num_inner=1)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(last, options.num_classes, 1)
        self.rectify = nn.Identity() if small else nn.ReLU(inplace=True)
        self.pool = GlobalAveragePool()
        initialize(self)
        # One map per class: at He's scale the logits of a thousand maps start far from each other.
        nn.init.normal_(self.classifier.weight, 0, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.pool(self.rectify(self.classifier(self.features(x))))


def _block(wide: nn.Conv2d, channels: int, *, batch_norm: bool, num_inner: int = 2) -> list[nn.Module]:
    """A wide convolution and the 1x1 ones behind it, each rectified."""
    layers: list[nn.Module] = []
    for conv in (wide, *(nn.Conv2d(channels, channels, 1, bias=not batch_norm) for _ in range(num_inner))):
        layers.append(conv)
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU(inplace=True))
    return layers


ARCHITECTURE = Architecture(
    name="nin",
    title="Network in Network",
    paper="Lin et al. 2013, Network In Network, arXiv:1312.4400",
    year=2013,
    variants={
        "nin": Published(
            num_params=7_600_000,
            macs=1_100_000_000,
            source="Caffe model zoo (29 MiB, top-1 59.36 %); Gschwend 2016, ZynqNet, arXiv:2005.06892 (MACs)",
            tolerance=0.005,
            top1=59.4,
        )
    },
    build=NetworkInNetwork,
    takes_width=True,
)
