"""`edgekit import`: trained weights of others, as a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import print_json, show


def import_model(
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help="squeezenet-dc or mobilenet-tflite.")],
    file: Annotated[Path, typer.Argument(help="File to read.")],
    out: Annotated[Path | None, typer.Option(help="Run folder.  [default: runs/FORMAT]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Read trained weights of others into a run folder: checkpoint and float ONNX."""
    from edgekit.export.imported import import_run

    imported = import_run(format_name, file, out or Path("runs") / format_name)
    if as_json:
        print_json(imported)
        return
    show(f"{imported.card.options.variant}, {imported.num_params:,} parameters, {imported.num_zeros:,} of them zero")
    show(f"{imported.run_dir}: checkpoint.safetensors, float.onnx; next: edgekit compress {imported.run_dir}")
