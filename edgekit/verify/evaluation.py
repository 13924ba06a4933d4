"""Accuracy of one exported file, measured through its runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.core.errors import DataError, UsageError
from edgekit.core.measurement import Accuracy
from edgekit.core.progress import Progress, Silent
from edgekit.data.dataset import Source
from edgekit.data.opening import open_source
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.evaluate.metrics import accuracy
from edgekit.runtime.card import require_classifier
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.predict import predict_logits
from edgekit.verify.answers import check_classes, collect_answers
from edgekit.verify.matching import match_classes


def evaluate_file(
    path: Path,
    data: str,
    *,
    num_pictures: int | None = None,
    num_threads: int = 2,
    progress: Progress | None = None,
) -> tuple[Accuracy, tuple[str, ...]]:
    """Measure the accuracy of an exported file on a dataset's test pictures, through its runtime.

    Returns:
        The accuracy, and one line per picture that could not be read (the first twenty).

    Raises:
        UsageError: A file that does not say how it wants its pictures, or gives features.
        DataError: Pictures without labels, or of other classes.
    """
    source = open_source(data, "test")
    log = UnreadableLog()
    found = evaluate_on(path, source, num_pictures, progress or Silent(), num_threads=num_threads, unreadable=log)
    return found, tuple(log.reasons)


def evaluate_on(
    path: Path,
    source: Source,
    num_pictures: int | None,
    progress: Progress,
    *,
    num_threads: int = 2,
    unreadable: UnreadableLog | None = None,
) -> Accuracy:
    """The same on pictures that are open already; `num_pictures` None for all. Raises as `evaluate_file`."""
    interpreter = load_interpreter(path, num_threads=num_threads)
    card = interpreter.card
    if card is None:
        raise UsageError(f"{path} carries no edgekit card", hint="evaluate files that edgekit wrote")
    require_classifier(card, path)
    source = match_classes(source, card.labels)
    if source.labels is None:
        raise DataError(f"{source.name} has no labels", hint="accuracy needs a folder of class folders")
    check_classes(source, card.labels, interpreter.output.shape[-1])
    indices = np.arange(len(source), dtype=np.int64)[:num_pictures]
    progress.begin("evaluate", len(indices))
    batches = iterate_batches(source, card.preprocess, batch_size=32, indices=indices, unreadable=unreadable)
    predict = {"file": lambda pictures: predict_logits(interpreter, pictures, card.preprocess)}
    answers = collect_answers(predict, batches, progress)
    progress.end()
    return accuracy(answers.logits["file"], source.labels[answers.indices])
