"""Options that say which network, shared by the commands that make one."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

Width: TypeAlias = Annotated[float | None, typer.Option(help="Width multiplier.")]
InputSize: TypeAlias = Annotated[int | None, typer.Option(help="Square input, in pixels.")]
SqueezeExcite: TypeAlias = Annotated[
    bool, typer.Option("--se", help="Squeeze-and-excitation in every residual block: resnet18 becomes se_resnet18.")
]


def model_keys(
    width: float | None, input_size: int | None, *, untrained: bool, squeeze_excite: bool
) -> list[tuple[str, float | str | None]]:
    """Recipe keys that these options stand for; None where one was not given."""
    return [
        ("model.width", width),
        ("model.input_size", input_size),
        ("model.untrained", "true" if untrained else None),
        ("model.squeeze_excite", "true" if squeeze_excite else None),
    ]
