"""`edgekit embed`: a model as a feature extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.bits import Bits, BudgetKb, Compute, Engine, grid_keys, making_keys
from edgekit.cli.compress import as_settings, read_recipe, show_result
from edgekit.cli.console import Bars, note


def embed(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Alias, catalogue name, run folder, checkpoint, or .onnx file.")],
    data: Annotated[str | None, typer.Option(help="Dataset or folder for calibration and verification.")] = None,
    bits: Bits = None,
    budget_kb: BudgetKb = None,
    engine: Engine = None,
    compute: Compute = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one key of the recipe.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder.  [default: runs/MODEL-DATA-features-SCHEME]")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Width multiplier.")] = None,
    input_size: Annotated[int | None, typer.Option(help="Square input, in pixels.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Most points of precision at 1 that may be lost.  [default: 1.0]")
    ] = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Random weights, for tests and benchmarks.")] = False,
    float_io: Annotated[bool, typer.Option("--float-io", help="Float input and output in the TFLite file.")] = False,
    no_bench: Annotated[bool, typer.Option("--no-bench", help="Do not measure latency.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json, one JSON document.")] = False,
) -> None:
    """Export a model up to its penultimate layer, for `edgekit search`: float and quantized, TFLite and ONNX, verified.

    The report has precision at 1, 5 and 10 on the test pictures, of float beside the quantized files.

    Exit code 1 when a bar was missed (precision, agreement with float, an operator left in float).
    """
    from edgekit.embedding import embed as make
    from edgekit.pipeline import CompressRequest

    keys = (
        *grid_keys(bits, budget_kb),
        *making_keys(engine, compute, bits),
        ("verify.max_drop", max_drop),
        ("model.width", width),
        ("model.input_size", input_size),
        ("model.untrained", "true" if untrained else None),
        ("quantize.float_io", "true" if float_io else None),
    )
    request = CompressRequest(
        recipe=read_recipe(model, data, None, as_settings(overrides, keys)),
        out_dir=out,
        measure_latency=not no_bench,
        command=str(context.obj or ""),
    )
    with Bars() as bars:
        result = make(request, bars, note)
    show_result(result, as_json=as_json)
    if not result.passed:
        raise typer.Exit(1)
