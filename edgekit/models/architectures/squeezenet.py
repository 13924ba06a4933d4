"""SqueezeNet: AlexNet's accuracy with 50x fewer parameters (Iandola et al. 2016, arXiv:1602.07360, table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import SMALL_IMAGE, GlobalAveragePool, make_divisible

# (squeeze, expand) of fire2..fire9; expand counts each of the 1x1 and 3x3 halves
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
POOL_BEFORE = {"squeezenet1_0": (0, 3, 7), "squeezenet1_1": (0, 2, 4)}


class Fire(nn.Module):
    """Squeeze 1x1, then expand 1x1 beside 3x3, concatenated. BatchNorm only in the small-image form."""

    def __init__(self, in_channels: int, squeeze: int, expand: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.squeeze = _conv(in_channels, squeeze, 1, batch_norm=batch_norm)
        self.expand1x1 = _conv(squeeze, expand, 1, batch_norm=batch_norm)
        self.expand3x3 = _conv(squeeze, expand, 3, batch_norm=batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, 2 * expand, h, w]."""
        x = self.squeeze(x)
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1)


def _conv(in_channels: int, out_channels: int, kernel_size: int, *, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=not batch_norm)
    ]
    if batch_norm:
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class SqueezeNet(nn.Module):
    """Stem, eight fire modules, a 1x1 convolution as classifier, global pooling.

    The small-image form has a padded 3x3 stem, with stride 1 up to 32 pixels, and carries BatchNorm, without which it
    trains far slower at this size; BatchNorm is folded on export.
    """

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        small = options.input_size <= SMALL_IMAGE
        pools = POOL_BEFORE[options.variant]
        stem_channels = 96 if options.variant == "squeezenet1_0" else 64
        stem_channels = make_divisible(stem_channels * width) if options.width else stem_channels
        layers: list[nn.Module] = []
        if small:
            stride = 1 if options.input_size <= SMALL_IMAGE // 2 else 2
            stem = nn.Conv2d(options.in_channels, stem_channels, 3, stride, 1, bias=False)
            layers += [stem, nn.BatchNorm2d(stem_channels), nn.ReLU(inplace=True)]
        else:
            kernel_size = 7 if options.variant == "squeezenet1_0" else 3
            layers += [nn.Conv2d(options.in_channels, stem_channels, kernel_size, 2), nn.ReLU(inplace=True)]
        channels = stem_channels
        for index, (squeeze, expand) in enumerate(FIRES):
            if index in pools:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            squeeze, expand = (make_divisible(squeeze * width), make_divisible(expand * width))
            layers.append(Fire(channels, squeeze, expand, batch_norm=small))
            channels = 2 * expand
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Conv2d(channels, options.num_classes, 1)
        # The published network averages rectified class maps; the small form learns faster without.
        self.rectify = nn.Identity() if small else nn.ReLU(inplace=True)
        self.pool = GlobalAveragePool()
        self._initialize()

    def _initialize(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.classifier.weight, 0, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.pool(self.rectify(self.classifier(self.dropout(self.features(x)))))


ARCHITECTURE = Architecture(
    name="squeezenet",
    title="SqueezeNet",
    paper="Iandola et al. 2016, SqueezeNet, arXiv:1602.07360",
    year=2016,
    variants={
        "squeezenet1_0": Published(
            num_params=1_248_424, macs=819_000_000, source="torchvision (IMAGENET1K_V1)", top1=58.1, top5=80.4
        ),
        "squeezenet1_1": Published(
            num_params=1_235_496, macs=349_000_000, source="torchvision (IMAGENET1K_V1)", top1=58.2, top5=80.6
        ),
    },
    build=SqueezeNet,
    takes_width=True,
)
