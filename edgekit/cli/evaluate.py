"""`edgekit evaluate`: accuracy of an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import Bars, model_file, note, print_json, show


def evaluate(
    file: Annotated[Path, typer.Argument(help=".tflite, .onnx or .ekz file, or a run folder.")],
    data: Annotated[str, typer.Option(help="Dataset, or a folder of class folders.")],
    pictures: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure accuracy through the file's own runtime, with the preprocessing of the board."""
    from edgekit.verify.evaluation import evaluate_file

    path = model_file(file)
    with Bars() as bars:
        measured, unreadable = evaluate_file(path, data, num_pictures=pictures, num_threads=threads, progress=bars)
    for line in unreadable:
        note(f"left out: {line}")
    if as_json:
        print_json({"file": path, "data": data, "accuracy": measured})
        return
    low, high = measured.ci95
    top5 = "" if measured.top5 is None else f", top-5 {measured.top5:.2%}"
    show(
        f"{path}: top-1 {measured.top1:.2%} (95 %: {low:.2%} to {high:.2%}){top5} on {measured.n:,} pictures of {data}"
    )
