"""SE-ResNet: a ResNet whose blocks weigh their channels (Hu et al. 2017, arXiv:1709.01507, figure 3)."""

from __future__ import annotations

from functools import partial

from edgekit.models.architecture import Architecture, Published
from edgekit.models.architectures.resnet import ResNet

ARCHITECTURE = Architecture(
    name="se_resnet",
    title="SE-ResNet",
    paper="Hu et al. 2017, Squeeze-and-Excitation Networks, arXiv:1709.01507",
    year=2017,
    variants={
        "se_resnet18": Published(
            num_params=11_778_592, macs=1_820_000_000, source="timm (legacy_seresnet18.in1k)", top1=71.8, top5=90.3
        ),
        "se_resnet34": Published(
            num_params=21_958_868, macs=3_670_000_000, source="timm (legacy_seresnet34.in1k)", top1=74.8, top5=92.1
        ),
        "se_resnet50": Published(
            num_params=28_088_024,
            macs=4_100_000_000,
            source="timm (seresnet50: counts); authors' release (22.37 and 6.36 % error, stride in the 1x1)",
            top1=77.6,
            top5=93.6,
        ),
    },
    build=partial(ResNet, excited=True),
    takes_width=True,
)
