"""`edgekit evaluate`: every metric of a model, alone or beside another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import Bars, note, print_document, show, unreadable_lines


def evaluate(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help=".tflite, .onnx, .ekz or .ekb file, run folder, catalogue name, or checkpoint."),
    ],
    data: Annotated[str, typer.Option(help="Dataset, or a folder of class folders.")],
    vs: Annotated[
        str | None, typer.Option("--vs", metavar="OTHER", help="Another model to compare with on the same pictures.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write evaluate.html and evaluate.json there.")
    ] = None,
    top: Annotated[list[int] | None, typer.Option("--top", help="Also measure top-k; may be given again.")] = None,
    pictures: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure accuracy, per-class scores, ROC and calibration, through the runtime and preprocessing of the board."""
    from edgekit.report.evaluation_files import write_evaluation
    from edgekit.report.evaluation_text import render_evaluation
    from edgekit.report.files import encode_report, without_surrogates
    from edgekit.verify.evaluating import EvaluateRequest
    from edgekit.verify.evaluating import evaluate as measure

    request = EvaluateRequest(
        model=model,
        data=data,
        vs=vs,
        num_pictures=pictures,
        num_threads=threads,
        top_k=tuple(top or ()),
        command=str(context.obj or ""),
    )
    with Bars() as bars:
        found = measure(request, bars)
    for line in unreadable_lines(found.unreadable, found.num_unreadable):
        note(line)
    files = None if out is None else write_evaluation(found.evaluation, out)
    if as_json:
        print_document(encode_report(without_surrogates(found.evaluation)).encode())
        return
    show(render_evaluation(found.evaluation))
    if files is not None:
        show(f"\n{files.html_path}")
