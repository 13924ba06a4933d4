"""MobileNet V2: inverted residuals with linear bottlenecks (Sandler et al. 2018, arXiv:1801.04381, table 2)."""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import (
    SMALL_IMAGE,
    ConvMaker,
    GlobalAveragePool,
    SqueezeExcite,
    initialize,
    kept_strides,
    make_divisible,
)

# (expansion, output channels, repeats, stride of the first)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST_CHANNELS = 1280


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1 without activation; shortcut where the shape stays.

    A squeeze-and-excitation stands behind the depthwise layer, where the channels are many, with a hidden layer of a
    quarter of the block's inputs, as in MnasNet (Tan et al. 2018, arXiv:1807.11626, section 4.2).

    Args:
        convs: Makes the convolutions.
        channels: Inputs and outputs.
        block: Stride of the depthwise layer, and expansion.
        excited: Whether the block has a squeeze-and-excitation.
    """

    def __init__(
        self, convs: ConvMaker, channels: tuple[int, int], block: tuple[int, int], *, excited: bool = False
    ) -> None:
        super().__init__()
        in_channels, out_channels = channels
        stride, expansion = block
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(convs.make((in_channels, hidden), 1))
        layers.append(convs.make((hidden, hidden), 3, stride, groups=hidden))
        if excited:
            layers.append(SqueezeExcite(hidden, max(1, in_channels // 4)))
        layers.append(convs.make((hidden, out_channels), 1, activated=False))
        self.conv = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c', h / stride, w / stride]."""
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """Stem, 17 inverted residuals, 1x1 to 1280 channels, global pooling, one linear layer."""

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        kept = iter(kept_strides(options.input_size))
        channels = make_divisible(32 * width)
        convs = ConvMaker(options, "relu6")
        layers: list[nn.Module] = [convs.make((options.in_channels, channels), 3, 2 if next(kept) else 1)]
        for expansion, stage_channels, repeats, first_stride in STAGES:
            stride = 2 if first_stride == 2 and next(kept) else 1
            out_channels = make_divisible(stage_channels * width)
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                block = (step, expansion)
                layers.append(InvertedResidual(convs, (channels, out_channels), block, excited=options.squeeze_excite))
                channels = out_channels
        # The paper never narrows the last layer: it carries a thousand classes. Small pictures have few.
        small = options.input_size <= SMALL_IMAGE
        last = make_divisible(LAST_CHANNELS * (width / 2 if small else max(1.0, width)))
        layers.append(convs.make((channels, last), 1))
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool()
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(last, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.classifier(self.dropout(self.pool(self.features(x))))


ARCHITECTURE = Architecture(
    name="mobilenet_v2",
    title="MobileNet V2",
    paper="Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381",
    year=2018,
    variants={
        "mobilenet_v2": Published(
            num_params=3_504_872, macs=300_000_000, source="torchvision (parameters), paper table 4 (MACs)", top1=72.0
        ),
        "mobilenet_v2_w0.5": Published(
            num_params=1_968_680, macs=97_000_000, source="torchvision's rounding; paper's model card (MACs)", top1=65.4
        ),
    },
    build=MobileNetV2,
    takes_width=True,
    takes_conventions=True,
    takes_squeeze_excite=True,
)
