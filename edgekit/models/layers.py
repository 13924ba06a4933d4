"""Building blocks that several architectures share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgekit.models.architecture import ActivationName, BuildOptions

SMALL_IMAGE = 64
"""Inputs up to this many pixels get the small-image stem (CIFAR, Fashion-MNIST, Tiny-ImageNet sizes)."""


def kept_strides(input_size: int) -> tuple[bool, bool, bool, bool, bool]:
    """Which of a network's five stride-2 steps an input can bear, so that the last map is about 4 x 4.

    224-pixel networks halve five times (to 7 x 7). Up to 64 pixels the stem's step is dropped; up to 32 pixels the
    fourth too. (Dropping the second instead, as is usual for CIFAR, leaves twice the multiply-accumulates and half the
    training speed in the thin, large early maps.)

    >>> [sum(kept_strides(size)) for size in (28, 32, 64, 96, 224)]
    [3, 3, 4, 5, 5]
    """
    if input_size <= SMALL_IMAGE // 2:
        return (False, True, True, False, True)
    return (input_size > SMALL_IMAGE, True, True, True, True)


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round a channel count to a multiple of `divisor`, never down by more than 10 % (the MobileNet papers' rule).

    >>> make_divisible(17.6), make_divisible(8.1), make_divisible(12)
    (16, 8, 16)
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU6,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, activation; padding keeps the size at stride 1."""
    padding = (kernel_size - 1) // 2
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME along one axis: zeros before and after, such that `size` pixels become ceil(size / stride).

    At stride 1 the size does not matter.

    >>> same_padding(224, 3, 2), same_padding(15, 3, 2), same_padding(7, 3, 1)
    ((0, 1), (1, 1), (1, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


ACTIVATIONS: Mapping[ActivationName, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


class ConvMaker:
    """Makes the convolutions of one network, in the order of its data, by the conventions of its options.

    Without any it makes what `conv_bn` makes. It follows the size of the map, which decides what SAME pads.

    Args:
        options: Of the network; the map starts at `input_size`.
        activation: The architecture's own.
    """

    def __init__(self, options: BuildOptions, activation: ActivationName) -> None:
        self._options = options
        self._activation = ACTIVATIONS[options.activation or activation]
        self._size = options.input_size

    def make(
        self, channels: tuple[int, int], kernel_size: int, stride: int = 1, *, groups: int = 1, activated: bool = True
    ) -> nn.Sequential:
        """Convolution with BatchNorm or a bias, and the activation; uneven padding is a layer of its own before it.

        Args:
            channels: Inputs and outputs.
            kernel_size: Side of the window.
            stride: Step of the window.
            groups: Of the convolution.
            activated: False for a linear bottleneck.
        """
        before = after = (kernel_size - 1) // 2
        if self._options.padding == "same":
            before, after = same_padding(self._size, kernel_size, stride)
        self._size = -(-self._size // stride)
        layers: list[nn.Module] = []
        if before != after:
            layers.append(nn.ZeroPad2d((before, after, before, after)))
            before = 0
        has_norm = self._options.batch_norm
        layers.append(nn.Conv2d(*channels, kernel_size, stride, before, groups=groups, bias=not has_norm))
        if has_norm:
            layers.append(nn.BatchNorm2d(channels[1]))
        if activated:
            layers.append(self._activation(inplace=True))
        return nn.Sequential(*layers)


class SqueezeExcite(nn.Module):
    """Weigh every channel by what all channels hold on average (Hu et al. 2017, arXiv:1709.01507, eq. 2 to 4).

    The two layers are 1x1 convolutions on the pooled map, which every exporter reads without a reshape.

    Args:
        channels: Of the map.
        squeezed: Of the hidden layer.
        gate: The paper's sigmoid, or MobileNet V3's hard one.
    """

    def __init__(self, channels: int, squeezed: int, *, gate: type[nn.Sigmoid | nn.Hardsigmoid] = nn.Sigmoid) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.ReLU(inplace=True)
        self.excite = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> the same shape."""
        return x * self.gate(self.excite(self.activation(self.squeeze(self.pool(x)))))


def hidden_linear(in_features: int, out_features: int, dropout: float) -> list[nn.Module]:
    """Linear layer, ReLU, dropout: the hidden layers of the early networks."""
    return [nn.Linear(in_features, out_features), nn.ReLU(inplace=True), nn.Dropout(dropout)]


class ChannelShuffle(nn.Module):
    """Mix the channels of `groups` groups (Zhang et al. 2018, ShuffleNet, section 3.1).

    Exporters treat it as one operator (`is_channel_shuffle`).
    """

    is_channel_shuffle = True

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[n, groups * c, h, w] -> the same shape, channels interleaved."""
        n, channels, height, width = x.shape
        size = channels // self.groups
        if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
            grouped = x.reshape(n, self.groups, size, height, width)
            return grouped.transpose(1, 2).reshape(n, channels, height, width)
        # The plain spelling would leave channels-last memory, and the layers around would convert there and back.
        grouped = x.permute(0, 2, 3, 1).view(n, height, width, self.groups, size)
        return grouped.transpose(3, 4).reshape(n, height, width, channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"groups={self.groups}"


class SelfAttention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    Exporters treat it as one operator. It has no weights: linear layers before and after it have.

    Args:
        num_heads: Heads; the channels are divided among them.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, 3 * channels], query, key and value side by side -> [n, tokens, channels]."""
        n, tokens, _ = x.shape
        query, key, value = x.reshape(n, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        return attended.transpose(1, 2).reshape(n, tokens, -1)

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"num_heads={self.num_heads}"


class GlobalAveragePool(nn.Module):
    """Mean over the map: [n, c, h, w] -> [n, c]."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool and flatten; spelled so that every exporter sees one pooling operator and no transpose."""
        if self.training and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
            # The same mean, whose gradient stays in channels-last memory (the pooling operator's does not).
            return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)
        return torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)


class AuxiliaryHead(nn.Module):
    """A classifier on an inner layer that helps training and is no part of the network that answers.

    The network's forward() does not call it; training does, with what the layer at `tap` gives. Its weights are in the
    checkpoint, so that training resumes, and are not counted.

    Args:
        tap: Path of the layer in the network.
        in_channels: Of that layer's output.
        num_classes: Outputs.
    """

    def __init__(self, tap: str, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.tap, self.in_channels = tap, in_channels
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.conv = nn.Conv2d(in_channels, 128, 1)
        self.hidden = nn.Linear(128 * 4 * 4, 1024)
        self.dropout = nn.Dropout(0.7)
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        x = torch.flatten(torch.relu(self.conv(self.pool(x))), 1)
        return self.classifier(self.dropout(torch.relu(self.hidden(x))))


def initialize(module: nn.Module) -> None:
    """He initialization for convolutions (He et al. 2015), small normal for linear layers, 1 and 0 for BatchNorm."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
