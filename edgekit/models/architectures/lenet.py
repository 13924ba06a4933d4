"""LeNet-300-100 (LeCun et al. 1998) and the LeNet-5 of Caffe, the two small networks of Deep Compression.

Both are as Han et al. (2015, arXiv:1506.02626, section 4.1) pruned them: Caffe's LeNet-5 has wider layers than LeCun's,
no padding, max pooling instead of trained averages, and one rectifier, behind the first linear layer; the poolings are
its only other non-linearities. Linear layers read the flattened picture or map, so parameters grow with its area.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published

HIDDEN = (300, 100)
"""Widths of LeNet-300-100, which names them."""

CONV_CHANNELS = (20, 50)
CONV_HIDDEN = 500
_KERNEL = 5


class LeNet300(nn.Module):
    """Three linear layers on the flattened picture, rectifiers between them."""

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        first, second = HIDDEN
        self.fc1 = nn.Linear(options.in_channels * options.input_size**2, first)
        self.fc2 = nn.Linear(first, second)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(second, options.num_classes)
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        x = self.relu(self.fc1(torch.flatten(x, 1)))
        return self.classifier(self.dropout(self.relu(self.fc2(x))))


class LeNet5(nn.Module):
    """Two convolutions without padding, each halved by max pooling, then two linear layers on the flattened map."""

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        first, second = CONV_CHANNELS
        self.conv1 = nn.Conv2d(options.in_channels, first, _KERNEL)
        self.conv2 = nn.Conv2d(first, second, _KERNEL)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(second * map_size(options.input_size) ** 2, CONV_HIDDEN)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(CONV_HIDDEN, options.num_classes)
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        x = self.pool(self.conv2(self.pool(self.conv1(x))))
        return self.classifier(self.dropout(self.relu(self.fc1(torch.flatten(x, 1)))))


def map_size(input_size: int) -> int:
    """Height and width of LeNet-5's last map; where a pooling meets an odd size, the last row and column fall away.

    >>> [map_size(size) for size in (24, 28, 32, 64)]
    [3, 4, 5, 13]
    """
    for _ in CONV_CHANNELS:
        input_size = (input_size - _KERNEL + 1) // 2
    return input_size


def _initialize(module: nn.Module) -> None:
    """Caffe's "xavier" filler: uniform of variance 1 / fan-in; biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _build(options: BuildOptions) -> nn.Module:
    return LeNet5(options) if options.variant == "lenet5" else LeNet300(options)


def _published(num_params: int, macs: int, table: int) -> Published:
    return Published(
        num_params=num_params,
        macs=macs,
        input_size=28,
        num_classes=10,
        in_channels=1,
        source=f"Han et al. 2015, arXiv:1506.02626, tables 1 and {table} (FLOP, of which two make a MAC)",
        tolerance=0.002,
        macs_tolerance=0.001,
    )


ARCHITECTURE = Architecture(
    name="lenet",
    title="LeNet",
    paper=(
        "LeCun et al. 1998, Gradient-based learning applied to document recognition; as in Han et al. 2015, "
        "Learning both weights and connections for efficient neural networks, arXiv:1506.02626"
    ),
    year=1998,
    variants={
        "lenet_300_100": _published(267_000, 266_000, 3),
        "lenet5": _published(431_000, 2_293_000, 4),
    },
    build=_build,
    max_input_size=256,
)
