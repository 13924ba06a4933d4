"""`edgekit explain`: what a model looks at in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import Bars, show_document


def explain(
    context: typer.Context,
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.")],
    model: Annotated[
        str,
        typer.Option(help="Run folder, .onnx, .tflite, .ekz or .ekb file, catalogue name, or checkpoint."),
    ],
    label: Annotated[
        str | None, typer.Option("--label", metavar="CLASS", help="Class, by name or number; else the answer.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Write explain.html and explain.json there.")
    ] = Path("explained"),
    layer: Annotated[
        list[str] | None, typer.Option("--layer", metavar="NAME", help="Layer to look at; may be given again.")
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels shown per layer.")] = 6,
    window: Annotated[int | None, typer.Option(help="Pixels of the square that covers the picture.")] = None,
    stride: Annotated[int | None, typer.Option(help="Pixels from one square to the next.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what an answer hangs on: occlusion of the file, Grad-CAM, gradients and layers of its float model."""
    from edgekit.explain.explaining import explain as look
    from edgekit.explain.study import ExplainRequest
    from edgekit.report.explanation_files import write_explanation
    from edgekit.report.explanation_text import render_explanation

    request = ExplainRequest(
        pictures=tuple(pictures),
        model=model,
        label=label,
        layers=tuple(layer or ()),
        num_channels=channels,
        window=window,
        stride=stride,
        num_threads=threads,
        command=str(context.obj or ""),
    )
    with Bars() as bars:
        found = look(request, bars)
    files = write_explanation(found.explanation, found.maps, out)
    show_document(found.explanation, render_explanation, files.html_path, as_json=as_json)
