"""`edgekit zoo`: the architectures."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.console import plain_table, print_json, show

_TEN_MILLION = 10_000_000


def zoo(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """List the architectures: parameters, MACs, float size, weights at hand."""
    from edgekit.models.listing import list_models

    models = list_models()
    if as_json:
        print_json({"models": models})
        return
    rows = [
        (
            model.name,
            f"{model.num_params / 1e6:.2f} M",
            f"{model.macs / 1e6:.{0 if model.macs >= _TEN_MILLION else 2}f} M",
            f"{model.float_bytes / 1e6:.1f} MB",
            model.weights or "-",
        )
        for model in models
    ]
    titles = ("name", "parameters", "MACs", "float size", "weights at hand")
    show(plain_table(titles, rows, left=("name", "weights at hand")))
