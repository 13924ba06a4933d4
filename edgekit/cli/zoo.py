"""`edgekit zoo`: the architectures."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.console import note, plain_table, print_json, show

if TYPE_CHECKING:
    from edgekit.models.listing import ZooEntry

_TEN_MILLION = 10_000_000


class Table(str, enum.Enum):
    """What the columns are about."""

    WEIGHTS = "weights"
    SIZE = "size"


def zoo(
    table: Annotated[
        Table, typer.Option(help="weights: what is at hand. size: every system by year, with published accuracy.")
    ] = Table.WEIGHTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the architectures: parameters, MACs, float size, weights at hand.

    `--table size`: sizes of packed files that begin with "~" are of random weights; trained ones code in fewer bits.
    """
    from edgekit.models.listing import list_models, list_systems

    models = list_systems() if table == Table.SIZE else list_models()
    if as_json:
        print_json({"models": models})
    elif table == Table.SIZE:
        _show_sizes(models)
    else:
        rows = [(model.name, *_counts(model), model.weights or "-") for model in models]
        titles = ("name", "parameters", "MACs", "float size", "weights at hand")
        show(plain_table(titles, rows, left=("name", "weights at hand")))


def _counts(model: ZooEntry) -> tuple[str, str, str]:
    return (
        f"{model.num_params / 1e6:.2f} M",
        f"{model.macs / 1e6:.{0 if model.macs >= _TEN_MILLION else 2}f} M",
        f"{model.float_bytes / 1e6:.1f} MB",
    )


def _show_sizes(models: list[ZooEntry]) -> None:
    rows: list[tuple[str, ...]] = []
    for model in models:
        published = model.published
        accuracy = (None, None) if published is None else (published.top1, published.top5)
        percent = ["-" if value is None else f"{value:.1f} %" for value in accuracy]
        source = "-" if published is None else published.source
        rows.append((model.name, str(model.year or "-"), *_counts(model), *_packed(model), *percent, source))
    titles = ("system", "year", "parameters", "MACs", "float size", "8-bit .ekz", "6-bit .ekz", "top-1", "top-5")
    show(plain_table((*titles, "published by"), rows, left=("system", "published by")))
    note("~ with random weights; trained ones code in fewer bits")


def _packed(model: ZooEntry) -> tuple[str, str]:
    size = model.packed
    if size is None:
        return "-", "-"
    mark = "" if size.trained else "~"
    return f"{mark}{size.bits8_bytes / 1e6:.2f} MB", f"{mark}{size.bits6_bytes / 1e6:.2f} MB"
