"""What each file answers on the same pictures, in one streaming pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Progress
from edgekit.core.report import ReportDataset
from edgekit.data.source import Batch, PictureSource
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.predict import predict_logits

Logits = npt.NDArray[np.float32]
Predictor = Callable[[npt.NDArray[np.uint8]], Logits]
"""uint8 pictures [n, h, w, c] -> logits [n, classes]."""


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Logits of several models on the same pictures.

    Args:
        logits: Name of the model -> float32 [n, classes].
        labels: int64 [n]; None when unlabelled.
        indices: int64 [n], positions in the source.
    """

    logits: Mapping[str, Logits]
    labels: npt.NDArray[np.int64] | None
    indices: npt.NDArray[np.int64]


def file_predictor(path: Path, spec: PreprocessSpec, *, num_threads: int = 2) -> Predictor:
    """A predictor that runs a model file in its runtime, with the preprocessing of the board."""
    interpreter = load_interpreter(path, num_threads=num_threads)
    return lambda pictures: predict_logits(interpreter, pictures, spec)


def check_classes(source: PictureSource, labels: Sequence[str], num_classes: int) -> None:
    """Refuse pictures whose labels mean something else than the model's outputs.

    Args:
        source: The pictures. Classes without one are not compared: a sample cannot name them.
        labels: Of the model, in output order; empty when it has none.
        num_classes: Outputs of the model.

    Raises:
        DataError: Another number of classes, or other names (see `same_class`).
    """
    hint = "give the pictures it was trained for, or a flat folder of unlabelled pictures"
    if len(source.class_names) != num_classes:
        raise DataError(f"{source.name} has {len(source.class_names)} classes, the model {num_classes}", hint=hint)
    present = range(num_classes) if source.labels is None else np.unique(source.labels).tolist()
    for index in present if labels else ():
        name, label = source.class_names[index], labels[index]
        if not same_class(name, label):
            raise DataError(
                f"the classes of {source.name} are not the model's: class {index} is {name!r}, the model's {label!r}",
                hint=hint,
            )


def same_class(name: str, label: str) -> bool:
    """Whether two names mean one class: upper and lower case, further synonyms and what stands in brackets apart.

    >>> same_class("Tench, Tinca tinca", "tench"), same_class("crane", "crane (bird)"), same_class("cat", "dog")
    (True, True, False)
    """
    first, second = (words.partition(",")[0].partition(" (")[0].strip().casefold() for words in (name, label))
    return first == second


def describe_labelled(source: PictureSource, num_answered: int, num_wanted: int) -> ReportDataset:
    """Labelled pictures as the report names them: how many were answered, and how many could not be read."""
    return ReportDataset(
        name=source.name,
        split=source.split,
        n=num_answered,
        labelled=True,
        class_names=source.class_names,
        num_left_out=num_wanted - num_answered,
    )


def collect_answers(predictors: Mapping[str, Predictor], batches: Iterable[Batch], progress: Progress) -> Answers:
    """Run every predictor on every batch.

    Raises:
        DataError: There is no picture at all.
    """
    logits: dict[str, list[Logits]] = {name: [] for name in predictors}
    labels: list[npt.NDArray[np.int64]] = []
    indices: list[npt.NDArray[np.int64]] = []
    for batch in batches:
        for name, predict in predictors.items():
            logits[name].append(predict(batch.pictures))
        if batch.labels is not None:
            labels.append(batch.labels)
        indices.append(batch.indices)
        progress.advance(len(batch.indices))
    if not indices:
        raise DataError("no picture to verify on", hint="give a dataset with test pictures by --data")
    return Answers(
        logits={name: np.concatenate(parts) for name, parts in logits.items()},
        labels=np.concatenate(labels) if labels else None,
        indices=np.concatenate(indices),
    )
