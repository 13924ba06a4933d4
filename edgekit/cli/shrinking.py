"""The options of `edgekit compress` that prune and share, and the recipe keys that they stand for."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from edgekit.core.errors import UsageError

LAYER_WISE_SPARSITY = 0.6
"""Share of zeros of `--prune layer-wise` where none is given."""

Prune: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SHARE", help="Zeros among the weights: 0.6, layer-wise, layer-wise:0.7, or 2:4."),
]
PruneChannels: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Share of channels to remove: faster on any runtime."),
]
Share: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="BITS", help="Shared weights: 5, or 8/5 for convolutions and fully connected layers."),
]
Code: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="CODER", help="ekz, or huffman to write the classic coding beside it."),
]
Epochs: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", help="Fine-tuning after each step of pruning and sharing.  [default: 3]"),
]
Resume: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Go on with training or rounding that was interrupted.")
]


def pruning_keys(text: str | None) -> list[tuple[str, str]]:
    """Recipe keys that `--prune` stands for.

    Raises:
        UsageError: Neither a share nor a method.
    """
    if text is None:
        return []
    method, _, share = text.partition(":") if text.startswith("layer-wise") else ("global", "", text)
    if text == "2:4":
        return [("prune.method", "2:4")]
    try:
        sparsity = float(share or LAYER_WISE_SPARSITY)
    except ValueError:
        raise UsageError(
            f"--prune takes a share of zeros, layer-wise, layer-wise:SHARE or 2:4, got {text!r}",
            hint="for example --prune 0.6",
        ) from None
    return [("prune.method", method.replace("-", "_")), ("prune.sparsity", f"{sparsity!r}")]


def sharing_keys(text: str | None) -> list[tuple[str, str]]:
    """Recipe keys that `--share` stands for.

    Raises:
        UsageError: No number of bits, and no two of them.
    """
    if text is None:
        return []
    conv, slash, fc = text.partition("/")
    fc = fc if slash else conv
    if not (conv.isdecimal() and fc.isdecimal()):
        raise UsageError(
            f"--share takes bits, or bits of convolutions/bits of fully connected layers, got {text!r}",
            hint="for example --share 8/5",
        )
    return [("share.conv_bits", conv), ("share.fc_bits", fc)]
