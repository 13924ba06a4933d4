"""Layers of other widths than their architecture's: what a pruned network's checkpoint says beside its options."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from torch import nn

from edgekit.core.errors import CheckpointError


class LayerWidth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size of one layer.

    Args:
        layer: Module path of a convolution, a linear layer or a BatchNorm.
        num_inputs: Input channels; those of a BatchNorm.
        num_outputs: Output channels; those of a BatchNorm.
        groups: Groups of a convolution; 1 for other layers.
    """

    layer: str
    num_inputs: int
    num_outputs: int
    groups: int = 1


def resize_layers(module: nn.Module, widths: Iterable[LayerWidth]) -> None:
    """Replace layers by fresh ones of other widths, in place; everything else about them stays.

    Raises:
        CheckpointError: No such layer, one of another kind, or a width that makes no layer.
    """
    for width in widths:
        parent_path, _, name = width.layer.rpartition(".")
        try:
            parent = module.get_submodule(parent_path)
            setattr(parent, name, _resized(parent.get_submodule(name), width))
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(f"layer {width.layer} cannot be given its width: {error}") from error


def _resized(layer: nn.Module, width: LayerWidth) -> nn.Module:
    if min(width.num_inputs, width.num_outputs, width.groups) < 1:
        raise ValueError(f"{width.num_inputs} inputs, {width.num_outputs} outputs, {width.groups} groups")
    made: nn.Module
    if isinstance(layer, nn.Conv2d):
        made = nn.Conv2d(
            width.num_inputs,
            width.num_outputs,
            (layer.kernel_size[0], layer.kernel_size[1]),
            stride=(layer.stride[0], layer.stride[1]),
            padding=layer.padding,  # pyright: ignore[reportArgumentType] - as it was given
            dilation=(layer.dilation[0], layer.dilation[1]),
            groups=width.groups,
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
        )
    elif isinstance(layer, nn.Linear):
        made = nn.Linear(width.num_inputs, width.num_outputs, bias=layer.bias is not None)
    elif isinstance(layer, nn.BatchNorm2d):
        made = nn.BatchNorm2d(width.num_outputs, eps=layer.eps, momentum=layer.momentum, affine=layer.affine)
    else:
        raise TypeError(f"it is a {type(layer).__name__}, expected a convolution, linear layer or BatchNorm")
    return made.to(next(layer.parameters()).device).train(layer.training)


def merge_widths(before: Iterable[LayerWidth], after: Iterable[LayerWidth]) -> tuple[LayerWidth, ...]:
    """The widths of a network that was cut twice: the later ones count.

    >>> first = LayerWidth(layer="fc", num_inputs=8, num_outputs=4)
    >>> [width.num_inputs for width in merge_widths([first], [LayerWidth(layer="fc", num_inputs=6, num_outputs=4)])]
    [6]
    """
    merged = {width.layer: width for width in before} | {width.layer: width for width in after}
    return tuple(merged.values())
