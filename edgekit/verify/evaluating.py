"""Every metric of one model, or of two on the same pictures, through their runtimes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.environment import date_of_now, describe_environment
from edgekit.core.errors import DataError
from edgekit.core.evaluation import Evaluated, Evaluation
from edgekit.core.progress import Progress, Silent
from edgekit.data.dataset import Source
from edgekit.data.drawing import draw_order
from edgekit.data.opening import open_source
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.evaluate.balance import measure_balance
from edgekit.evaluate.comparison import compare_answers
from edgekit.evaluate.scoring import choose_k, score_model
from edgekit.verify.answers import Answers, Logits, check_classes, collect_answers, describe_labelled
from edgekit.verify.contenders import Contender, open_contender
from edgekit.verify.matching import match_classes

_NAME = "model"


class EvaluateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to evaluate, and on what.

    Args:
        model: What `open_contender` takes.
        data: Dataset, or a folder of class folders; its test pictures are taken.
        vs: A model to stand beside it, as `model`; None for none.
        num_pictures: So many, drawn from all classes, the same every time; None for all.
        num_threads: Threads of the runtime.
        top_k: Further k to measure besides 1 and 5.
        command: For the report.
    """

    model: str
    data: str
    vs: str | None = None
    num_pictures: int | None = None
    num_threads: int = 2
    top_k: tuple[int, ...] = ()
    command: str = ""


class Evaluating(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Args:
        evaluation: The metrics.
        unreadable: One line per picture that could not be read (the first twenty).
        num_unreadable: How many could not be read.
    """

    evaluation: Evaluation
    unreadable: tuple[str, ...] = ()
    num_unreadable: int = 0


def evaluate(request: EvaluateRequest, progress: Progress | None = None) -> Evaluating:
    """Let the models answer, and measure.

    Raises:
        UsageError: A model that cannot be asked, or a k that is none.
        DataError: Pictures without labels, or of other classes; answers that are not finite.
    """
    source = open_source(request.data, "test")
    names = [request.model, *([] if request.vs is None else [request.vs])]
    contenders = [open_contender(name, num_threads=request.num_threads) for name in names]
    source = match_classes(source, contenders[0].labels)
    if source.labels is None:
        raise DataError(f"{source.name} has no labels", hint="accuracy needs a folder of class folders")
    for contender in contenders:
        check_classes(source, contender.labels, contender.num_classes)
    choose_k(request.top_k, len(source.class_names))  # before the pictures are read
    log = UnreadableLog()
    # Folders are in the order of their classes: the first so many would be of a few classes only.
    wanted = np.sort(draw_order(len(source), seed=0)[: request.num_pictures])
    logs = [log, *(UnreadableLog() for _ in contenders[1:])]  # the same pictures: named once
    asked = [_ask(one, source, wanted, each, progress or Silent()) for one, each in zip(contenders, logs, strict=True)]
    indices, logits = _shared_answers(asked)
    labels = source.labels[indices]
    scored = [
        Evaluated(
            about=contender.about,
            scores=score_model(values, labels, source.class_names, top_k=request.top_k),
        )
        for contender, values in zip(contenders, logits, strict=True)
    ]
    evaluation = Evaluation(
        dataset=describe_labelled(source, len(indices), len(wanted)),
        balance=measure_balance(labels, source.class_names),
        model=scored[0],
        other=scored[1] if len(scored) > 1 else None,
        comparison=compare_answers(logits[0], logits[1], labels) if len(scored) > 1 else None,
        environment=describe_environment(),
        command=request.command,
        created=date_of_now(),
    )
    return Evaluating(evaluation=evaluation, unreadable=tuple(log.reasons), num_unreadable=log.num_pictures)


def _ask(
    contender: Contender, source: Source, wanted: npt.NDArray[np.int64], log: UnreadableLog, progress: Progress
) -> Answers:
    progress.begin("evaluate", len(wanted))
    batches = iterate_batches(source, contender.spec, batch_size=32, indices=wanted, unreadable=log)
    answers = collect_answers({_NAME: contender.predict}, batches, progress)
    progress.end()
    return answers


def _shared_answers(asked: Sequence[Answers]) -> tuple[npt.NDArray[np.int64], list[Logits]]:
    """The pictures that all models answered, as positions in the source, and the answers for them."""
    indices = functools.reduce(np.intersect1d, [answers.indices for answers in asked])
    return indices, [answers.logits[_NAME][np.isin(answers.indices, indices)] for answers in asked]
