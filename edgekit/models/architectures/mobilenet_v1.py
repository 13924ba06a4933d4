"""MobileNet V1: depthwise separable convolutions (Howard et al. 2017, arXiv:1704.04861, table 1)."""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import ConvMaker, GlobalAveragePool, initialize, kept_strides, make_divisible

# (output channels, stride) of the 13 separable blocks
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


class MobileNetV1(nn.Module):
    """Stem, 13 depthwise separable blocks, global pooling, one linear layer."""

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        kept = iter(kept_strides(options.input_size))
        channels = make_divisible(32 * width)
        convs = ConvMaker(options, "relu")
        layers: list[nn.Module] = [convs.make((options.in_channels, channels), 3, 2 if next(kept) else 1)]
        for out_channels, stride in BLOCKS:
            if stride == 2 and not next(kept):
                stride = 1
            out_channels = make_divisible(out_channels * width)
            depthwise = convs.make((channels, channels), 3, stride, groups=channels)
            pointwise = convs.make((channels, out_channels), 1)
            layers.append(nn.Sequential(depthwise, pointwise))
            channels = out_channels
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool()
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(channels, options.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        return self.classifier(self.dropout(self.pool(self.features(x))))


SOURCE = "Howard et al. 2017, tables 6 and 7"

ARCHITECTURE = Architecture(
    name="mobilenet_v1",
    title="MobileNet V1",
    paper="Howard et al. 2017, MobileNets, arXiv:1704.04861",
    year=2017,
    variants={
        "mobilenet_v1": Published(num_params=4_200_000, macs=569_000_000, source=SOURCE, tolerance=0.02, top1=70.6),
        "mobilenet_v1_w0.75": Published(
            num_params=2_600_000, macs=325_000_000, source=SOURCE, tolerance=0.02, top1=68.4
        ),
        "mobilenet_v1_w0.5": Published(
            num_params=1_300_000, macs=149_000_000, source=SOURCE, tolerance=0.03, top1=63.7
        ),
        "mobilenet_v1_w0.25": Published(num_params=500_000, macs=41_000_000, source=SOURCE, tolerance=0.07, top1=50.6),
    },
    build=MobileNetV1,
    takes_width=True,
    takes_conventions=True,
)
