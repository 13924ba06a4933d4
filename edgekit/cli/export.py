"""`edgekit export`: a float model file, without quantization."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.architecture import InputSize, SqueezeExcite, Width
from edgekit.cli.console import print_json, show


def export(
    model: Annotated[str, typer.Argument(help="Alias, catalogue name, run folder, checkpoint, or .onnx file.")],
    out: Annotated[Path, typer.Option(help="Target file: .onnx or .tflite.")],
    width: Width = None,
    input_size: InputSize = None,
    squeeze_excite: SqueezeExcite = False,
    untrained: Annotated[bool, typer.Option("--untrained", help="Random weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write a model as a float ONNX or TFLite file."""
    from edgekit.core.recipe import ModelSection
    from edgekit.export.writing import export_float

    section = ModelSection(
        name=model, width=width, input_size=input_size, untrained=untrained, squeeze_excite=squeeze_excite
    )
    artifact = export_float(section, out)
    if as_json:
        print_json(artifact)
    else:
        show(f"{artifact.path}: {artifact.size_bytes:,} bytes, float {artifact.format}")
