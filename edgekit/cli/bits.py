"""The options of `edgekit compress` that choose grids, and the recipe keys that they stand for."""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

import typer

from edgekit.core.errors import UnknownNameError, UsageError

MIXED = "mixed"
MIXED_SCHEME = "static_wimixed_ai8"
ENGINES = ("edgekit", "nncf")
COMPUTE = ("int8", "int4")
QAT_EPOCHS = 3
"""Epochs of `--qat` where none are given."""
BYTES_PER_KB = 1000
PARETO_POINTS = 7
"""Sizes that `--pareto` makes and measures."""

Bits: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="N", help="Grid of the weights: 4 to 8, or mixed for bits per layer.  [default: 8]"),
]
BudgetKb: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="KB", help="Most kB (1,000 bytes) of the .ekz; bits per layer follow."),
]
Pareto: TypeAlias = Annotated[
    bool, typer.Option("--pareto", help="Sweep bits per layer; size against accuracy in the report.")
]
Qat: TypeAlias = Annotated[bool, typer.Option("--qat", help="Train on the small grids after rounding.")]
Engine: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who quantizes: edgekit, or nncf.  [default: edgekit]")
]
Compute: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TYPE", help="Weight tensors in the TFLite file: int8, or int4.  [default: int8]"),
]


def grid_keys(bits: str | None, budget_kb: float | None, *, pareto: bool = False) -> list[tuple[str, str]]:
    """Recipe keys that `--bits` and `--budget-kb` stand for. A budget and a sweep without `--bits` mean `mixed`.

    Raises:
        UsageError: No number of bits that there is, a budget that is none, or a budget beside a number of bits.
    """
    if budget_kb is not None and not (math.isfinite(budget_kb) and budget_kb > 0):
        raise UsageError(
            f"--budget-kb takes a size above 0 in kB of {BYTES_PER_KB:,} bytes, got {budget_kb:g}",
            hint="for example --budget-kb 300",
        )
    if bits is None:
        bits = MIXED if budget_kb is not None or pareto else None
    if bits is None:
        return []
    if bits == MIXED:
        budget = [] if budget_kb is None else [("quantize.budget_kb", f"{budget_kb!r}")]
        sweep = [("quantize.pareto", str(PARETO_POINTS))] if pareto else []
        return [("quantize.scheme", MIXED_SCHEME), *budget, *sweep]
    scheme = _fixed_scheme(bits)
    for option, is_given in (("--budget-kb", budget_kb is not None), ("--pareto", pareto)):
        if is_given:
            raise UsageError(
                f"{option} chooses the bits of every layer, and --bits {bits} gives all of them the same",
                hint=f"leave out --bits {bits}, or say --bits {MIXED}",
            )
    return [("quantize.scheme", scheme)]


def _fixed_scheme(bits: str) -> str:
    from edgekit.quantize.schemes import WEIGHT_BITS, scheme_from_bits

    try:
        return scheme_from_bits(bits).id
    except UsageError as error:
        raise UsageError(
            f"--bits takes a whole number from {WEIGHT_BITS[0]} to {WEIGHT_BITS[-1]}, or {MIXED}, got {bits!r}",
            hint=error.hint,
        ) from None


def making_keys(engine: str | None, compute: str | None, bits: str | None) -> list[tuple[str, str]]:
    """Recipe keys that `--engine` and `--compute` stand for.

    Args:
        engine: Who quantizes.
        compute: Type of the weight tensors.
        bits: What `--bits` says: int4 tensors need layers of 4 bits; None where the recipe says it.

    Raises:
        UnknownNameError: No such engine or type.
        UsageError: int4, and no layer can have 4 bits.
    """
    keys = [*_named("engine", engine, ENGINES), *_named("compute", compute, COMPUTE)]
    if compute == "int4" and bits is not None and bits != MIXED and _fixed_scheme(bits) != _fixed_scheme("4"):
        raise UsageError(
            f"--compute int4 needs layers of 4 bits, and --bits {bits} makes none", hint="--bits 4 --compute int4"
        )
    return keys


def training_keys(epochs: int | None, *, qat: bool) -> list[tuple[str, str]]:
    """Recipe keys that `--epochs` and `--qat` stand for.

    Raises:
        UsageError: Training on small grids for no epoch.
    """
    keys = [] if epochs is None else [("prune.epochs", str(epochs)), ("share.epochs", str(epochs))]
    if not qat:
        return keys
    if epochs is not None and epochs < 1:
        raise UsageError(f"--qat trains for at least 1 epoch, got --epochs {epochs}", hint="leave out --qat")
    return [*keys, ("qat.epochs", str(QAT_EPOCHS if epochs is None else epochs))]


def _named(key: str, name: str | None, known: tuple[str, ...]) -> list[tuple[str, str]]:
    if name is None:
        return []
    if name not in known:
        raise UnknownNameError(key, name, known)
    return [(f"quantize.{key}", name)]
