"""`edgekit classify`: pictures through a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import model_file, plain_table, print_json, show


def classify(
    file: Annotated[Path, typer.Argument(help=".tflite, .onnx or .ekz file, or a run folder.")],
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.")],
    labels: Annotated[Path | None, typer.Option(help="Class names, one a line; for files that carry none.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Answers shown per picture.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what is in pictures."""
    from edgekit.runtime.classify import Classifier
    from edgekit.runtime.reading import read_picture

    path = model_file(file)
    classifier = Classifier.open(path, num_threads=threads, labels=labels)
    answers = {str(picture): classifier.classify(read_picture(picture), top_k=top) for picture in pictures}
    if as_json:
        print_json({"model": path, "predictions": answers})
        return
    rows: list[tuple[str, ...]] = []
    for picture, answer in answers.items():
        others = ", ".join(f"{label} {share:.1%}" for label, share in answer.top[1:])
        rows.append((Path(picture).name, answer.label, f"{answer.confidence:.1%}", others))
    show(plain_table(("picture", "answer", "confidence", "then"), rows, left=("picture", "answer", "then")))
