"""Options that say which network, shared by the commands that make one."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

Width: TypeAlias = Annotated[float | None, typer.Option(help="Width multiplier.")]
InputSize: TypeAlias = Annotated[int | None, typer.Option(help="Square input, in pixels.")]
SqueezeExcite: TypeAlias = Annotated[
    bool, typer.Option("--se", help="Squeeze-and-excitation in every residual block: resnet18 becomes se_resnet18.")
]
