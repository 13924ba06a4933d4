"""What an architecture file offers: `ARCHITECTURE = Architecture(...)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec
from torch import nn

Padding: TypeAlias = Literal["symmetric", "same"]
ActivationName: TypeAlias = Literal["relu", "relu6"]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What the source says of a variant, at which size, and how exactly it says it.

    Args:
        num_params: Parameters; None where the source gives none.
        macs: Multiply-accumulates of one picture at `input_size`; None where the source gives none.
        input_size: Pixels.
        num_classes: Outputs.
        in_channels: 3 for RGB, 1 for gray.
        source: Paper and table, or library.
        tolerance: Relative rounding of the source's parameter count; 0 when it is exact.
        macs_tolerance: Relative rounding of the source's multiply-accumulates, which none gives exactly.
        top1: Published ImageNet top-1 in percent, None where there is none.
        top5: The same of the five best answers.
    """

    num_params: int | None
    macs: int | None
    input_size: int = 224
    num_classes: int = 1000
    in_channels: int = 3
    source: str
    tolerance: float = 0.0
    macs_tolerance: float = 0.015
    top1: float | None = None
    top5: float | None = None


class BuildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Size of one network, and the conventions of the framework that its weights come from.

    Args:
        variant: Variant name, as `Architecture.variants` lists it.
        width: Width multiplier; None for the variant's own.
        depth: Number of blocks; None for the variant's own.
        num_classes: Outputs.
        in_channels: 3 for RGB, 1 for gray.
        input_size: Square input in pixels; decides whether the small-image stem is used.
        dropout: Before the classifier.
        padding: "symmetric" as PyTorch pads, or "same" as TensorFlow does: the odd pixel at the bottom and right, which
            at stride 2 and an even size moves every window by one pixel.
        activation: Of the hidden layers; None for the architecture's own.
        batch_norm: False for convolutions with a bias in its place, as files hold them that were folded.
        squeeze_excite: A squeeze-and-excitation in every residual block (Hu et al. 2017). Of a ResNet, the same network
            as the variant "se_resnet...".
    """

    variant: str
    width: float | None = None
    num_classes: int = 1000
    in_channels: int = 3
    input_size: int = 224
    dropout: float = 0.0
    padding: Padding = "symmetric"
    activation: ActivationName | None = None
    batch_norm: bool = True
    depth: int | None = None
    squeeze_excite: bool = False


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """One family of networks.

    Args:
        name: File name, the prefix of every variant name.
        title: Name as papers write it.
        paper: Reference.
        year: Of the paper.
        variants: Variant name -> published figures.
        build: Makes the network.
        takes_width: Whether `width` is free; otherwise only the variants exist.
        max_input_size: Largest input in pixels that makes a sensible network.
        takes_depth: Whether `depth` is free.
        takes_conventions: Whether `padding`, `activation` and `batch_norm` are free.
        takes_squeeze_excite: Whether `squeeze_excite` is free: it has residual blocks without one of their own.
    """

    name: str
    title: str
    paper: str
    year: int
    variants: dict[str, Published]
    build: Callable[[BuildOptions], nn.Module]
    takes_width: bool = False
    takes_depth: bool = False
    max_input_size: int = 1024
    takes_conventions: bool = False
    takes_squeeze_excite: bool = False
