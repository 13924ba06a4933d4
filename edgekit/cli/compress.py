"""`edgekit compress`: the main job."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.architecture import InputSize, SqueezeExcite, Width, model_keys
from edgekit.cli.bits import (
    Bits,
    BudgetKb,
    Compute,
    Engine,
    Pareto,
    Qat,
    grid_keys,
    making_keys,
    training_keys,
)
from edgekit.cli.console import Bars, note, print_document, show, unreadable_lines
from edgekit.cli.shrinking import (
    Code,
    Epochs,
    Prune,
    PruneChannels,
    Resume,
    Share,
    pruning_keys,
    sharing_keys,
)

if TYPE_CHECKING:
    from edgekit.core.recipe import Recipe
    from edgekit.pipeline import Compressed


def compress(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(help="Alias, catalogue name, run folder, checkpoint, or .onnx file.  [default: the recipe's]"),
    ] = None,
    bits: Bits = None,
    budget_kb: BudgetKb = None,
    data: Annotated[str | None, typer.Option(help="Dataset or folder for calibration and verification.")] = None,
    prune: Prune = None,
    prune_channels: PruneChannels = None,
    share: Share = None,
    code: Code = None,
    epochs: Epochs = None,
    qat: Qat = False,
    pareto: Pareto = False,
    engine: Engine = None,
    compute: Compute = None,
    resume: Resume = False,
    recipe: Annotated[Path | None, typer.Option(help="Recipe (TOML) to start from.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one key of the recipe.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.  [default: runs/MODEL-DATA-SCHEME]")] = None,
    width: Width = None,
    input_size: InputSize = None,
    squeeze_excite: SqueezeExcite = False,
    max_drop: Annotated[float | None, typer.Option(help="Most top-1 points that may be lost.  [default: 1.0]")] = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Random weights, for tests and benchmarks.")] = False,
    float_io: Annotated[bool, typer.Option("--float-io", help="Float input and output in the TFLite file.")] = False,
    no_bench: Annotated[bool, typer.Option("--no-bench", help="Do not measure latency.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json, one JSON document.")] = False,
) -> None:
    """Prune and share a model where asked, quantize it, write TFLite and ONNX, check both against float, and report.

    Zeros save download size, removed channels save time: the report measures both.

    Exit code 1 when a bar was missed (accuracy, agreement, an operator left in float).
    """
    from edgekit import pipeline

    keys = (
        *pruning_keys(prune),
        *sharing_keys(share),
        *grid_keys(bits, budget_kb, pareto=pareto),
        *making_keys(engine, compute, bits),
        *training_keys(epochs, qat=qat),
        *model_keys(width, input_size, untrained=untrained, squeeze_excite=squeeze_excite),
        ("prune.channels", prune_channels),
        ("code.method", code),
        ("verify.max_drop", max_drop),
        ("quantize.float_io", "true" if float_io else None),
    )
    request = pipeline.CompressRequest(
        recipe=read_recipe(model, data, recipe, as_settings(overrides, keys)),
        out_dir=out,
        measure_latency=not no_bench,
        resume=resume,
        command=str(context.obj or ""),
    )
    with Bars() as bars:
        result = pipeline.compress(request, bars, note)
    show_result(result, as_json=as_json)
    if not result.passed:
        raise typer.Exit(1)


def as_settings(overrides: list[str] | None, keys: Iterable[tuple[str, object]]) -> list[str]:
    """Recipe overrides as `--set` takes them: those given, then those that options stand for; None sets nothing."""
    return [*(overrides or []), *(f"{key}={value}" for key, value in keys if value is not None)]


def show_result(result: Compressed, *, as_json: bool) -> None:
    """Print what a run made: its report, and the pictures that were left out."""
    for line in unreadable_lines(result.unreadable, result.num_unreadable):
        note(line)
    if as_json:
        print_document((result.run_dir / "report.json").read_bytes())
    else:
        from edgekit.report.text import render_summary

        show(render_summary(result.report))
        show(f"\n{result.run_dir}: report.html, model.tflite, model.onnx, model.ekz")


def read_recipe(model: str | None, data: str | None, recipe: Path | None, settings: list[str]) -> Recipe:
    """The recipe of a file, or the defaults, with the command's arguments and overrides applied.

    Raises:
        UsageError: Neither a model nor a recipe.
        RecipeError: No such recipe, or one that does not fit the schema.
    """
    from msgspec.structs import replace

    from edgekit.core.errors import UsageError
    from edgekit.core.recipe import DataSection, ModelSection, Recipe
    from edgekit.core.recipe_files import load_recipe, override_recipe

    if recipe is None:
        if model is None:
            raise UsageError("no model named", hint="for example: edgekit compress mobilenet --bits 8")
        plain = Recipe(model=ModelSection(name=model), data=DataSection(name=data or ""))
        if any(setting.startswith(("prune.", "share.", "qat.")) for setting in settings):
            plain = _as_trained(plain)
        return override_recipe(plain, settings)
    loaded = load_recipe(recipe, settings)
    # Replaced as values, not as overrides: a folder may be called "1e5" or "true".
    if model is not None:
        loaded = replace(loaded, model=replace(loaded.model, name=model))
    return loaded if data is None else replace(loaded, data=replace(loaded.data, name=data))


def _as_trained(recipe: Recipe) -> Recipe:
    """The recipe with the training settings that made the model, where they are known: fine-tuning uses them."""
    from msgspec.structs import replace

    from edgekit.core.recipe_files import load_recipe
    from edgekit.train.shipped import recipe_of

    path = recipe_of(recipe.model.name)
    if path is None:
        return recipe
    trained = load_recipe(path)
    return replace(recipe, train=trained.train, augment=trained.augment)
