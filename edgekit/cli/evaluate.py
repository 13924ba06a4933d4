"""`edgekit evaluate`: every metric of a model, alone or beside another; or its robustness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import Bars, note, show_document, unreadable_lines
from edgekit.cli.robustness import (
    AttackedOption,
    EpsilonOption,
    EvaluateJob,
    FloatOption,
    QueriesOption,
    ReferenceOption,
    RobustnessFlag,
    RobustnessOptions,
    run_robustness,
)
from edgekit.core.errors import UsageError


def evaluate(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help=".tflite, .onnx, .ekz or .ekb file, run folder, catalogue name, or checkpoint."),
    ],
    data: Annotated[str, typer.Option(help="Dataset, or a folder of class folders.")],
    vs: Annotated[
        list[str] | None,
        typer.Option(
            "--vs",
            metavar="OTHER",
            help="Another model to compare with on the same pictures; for robustness, may be given again.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the page and the JSON document there.")
    ] = None,
    top: Annotated[list[int] | None, typer.Option("--top", help="Also measure top-k; may be given again.")] = None,
    pictures: Annotated[int | None, typer.Option(min=1, help="Only so many, drawn from all classes.")] = None,
    robustness: RobustnessFlag = False,
    float_model: FloatOption = None,
    reference: ReferenceOption = None,
    epsilon: EpsilonOption = None,
    attacked: AttackedOption = None,
    queries: QueriesOption = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure accuracy, per-class scores, ROC and calibration, through the runtime and preprocessing of the board."""
    options = RobustnessOptions(
        float_model=float_model, reference=reference, epsilons=tuple(epsilon or ()), attacked=attacked, queries=queries
    )
    job = EvaluateJob(
        model=model,
        data=data,
        vs=tuple(vs or ()),
        out=out,
        num_pictures=pictures,
        num_threads=threads,
        as_json=as_json,
        command=str(context.obj or ""),
    )
    if not robustness:
        options.refuse()
        _measure_scores(job, tuple(top or ()))
        return
    if top:
        raise UsageError("--top does not go with --robustness, which counts top-1", hint="leave one of them out")
    run_robustness(job, options)


def _measure_scores(job: EvaluateJob, top_k: tuple[int, ...]) -> None:
    from edgekit.report.evaluation_files import write_evaluation
    from edgekit.report.evaluation_text import render_evaluation
    from edgekit.verify.evaluating import EvaluateRequest
    from edgekit.verify.evaluating import evaluate as measure

    if len(job.vs) > 1:
        raise UsageError(
            f"--vs is given {len(job.vs)} times: scores are compared two models at a time",
            hint="leave all but one out, or add --robustness, which takes any number",
        )
    request = EvaluateRequest(
        model=job.model,
        data=job.data,
        vs=job.vs[0] if job.vs else None,
        num_pictures=job.num_pictures,
        num_threads=job.num_threads,
        top_k=top_k,
        command=job.command,
    )
    with Bars() as bars:
        found = measure(request, bars)
    for line in unreadable_lines(found.unreadable, found.num_unreadable):
        note(line)
    files = None if job.out is None else write_evaluation(found.evaluation, job.out)
    html_path = None if files is None else files.html_path
    show_document(found.evaluation, render_evaluation, html_path, as_json=job.as_json)
