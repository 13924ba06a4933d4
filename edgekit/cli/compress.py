"""`edgekit compress`: the main job."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.console import Bars, note, print_json, show

if TYPE_CHECKING:
    from edgekit.core.recipe import Recipe


def compress(
    model: Annotated[str, typer.Argument(help="Alias, catalogue name, run folder, checkpoint, or .onnx file.")],
    bits: Annotated[str | None, typer.Option(help="Grid of the weights, in bits.  [default: 8]")] = None,
    data: Annotated[str | None, typer.Option(help="Dataset or folder for calibration and verification.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe (TOML) to start from.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one key of the recipe.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.  [default: runs/MODEL-DATA-SCHEME]")] = None,
    width: Annotated[float | None, typer.Option(help="Width multiplier.")] = None,
    input_size: Annotated[int | None, typer.Option(help="Square input, in pixels.")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Most top-1 points that may be lost.  [default: 1.0]")] = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Random weights, for tests and benchmarks.")] = False,
    float_io: Annotated[bool, typer.Option("--float-io", help="Float input and output in the TFLite file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Quantize a model, write TFLite and ONNX, check both against float, and report.

    Exit code 1 when a bar was missed (accuracy, agreement, an operator left in float).
    """
    from edgekit.pipeline import compress as run
    from edgekit.pipeline import request_from_recipe

    settings = [*(overrides or [])]
    for key, value in (
        ("quantize.scheme", None if bits is None else _scheme_id(bits)),
        ("verify.max_drop", max_drop),
        ("model.width", width),
        ("model.input_size", input_size),
        ("model.untrained", "true" if untrained else None),
        ("quantize.float_io", "true" if float_io else None),
    ):
        settings += [] if value is None else [f"{key}={value}"]
    resolved = read_recipe(model, data, recipe, settings)
    request = request_from_recipe(resolved, out_dir=out, command=shlex.join(["edgekit", *sys.argv[1:]]))
    result = run(request, Bars())
    for line in result.unreadable:
        note(f"left out: {line}")
    if as_json:
        print_json(result.report)
    else:
        from edgekit.report.text import render_summary

        show(render_summary(result.report))
        show(f"\n{result.run_dir}: report.html, model.tflite, model.onnx")
    if not result.passed:
        raise typer.Exit(1)


def _scheme_id(bits: str) -> str:
    from edgekit.quantize.schemes import scheme_from_bits

    return scheme_from_bits(bits).id


def read_recipe(model: str, data: str | None, recipe: Path | None, settings: list[str]) -> Recipe:
    """The recipe of a file, or the defaults, with the command's arguments and overrides applied."""
    from edgekit.core.recipe import DataSection, ModelSection, Recipe, load_recipe, override_recipe

    if recipe is not None:
        names = [f"model.name={model}", *([] if data is None else [f"data.name={data}"])]
        return load_recipe(recipe, [*names, *settings])
    return override_recipe(Recipe(model=ModelSection(name=model), data=DataSection(name=data or "")), settings)
