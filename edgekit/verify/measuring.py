"""What the files of one run answer and hold, measured; classifiers and feature extractors are judged by it alike."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Progress
from edgekit.data.dataset import Source
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.export.activations import fitting_batch_size
from edgekit.export.stored import StoredFile, read_stored
from edgekit.verify.answers import Answers, collect_answers, file_predictor
from edgekit.verify.checks import FileFindings
from edgekit.verify.integers import first_difference
from edgekit.verify.layers import first_divergent, measure_sqnr
from edgekit.verify.subject import Subject

NUM_LAYER_PICTURES = 16
NUM_TORCH_PICTURES = 64
INT8_STEPS = 255


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of the files of a run.

    Args:
        answers: "float", "onnx", "tflite" -> outputs on the test pictures, with the pictures' labels.
        few: The first pictures that were answered, at most 64, for what is compared on few: uint8 [n, h, w, c].
        stored: "onnx", "tflite" -> what the file holds.
        sqnr_db: Layer -> signal to quantization noise of its output, dB.
        findings: What of it is judged.
        unreadable: Pictures that could not be read.
    """

    answers: Answers
    few: npt.NDArray[np.uint8]
    stored: Mapping[str, StoredFile]
    sqnr_db: dict[str, float]
    findings: FileFindings
    unreadable: UnreadableLog


def measure_files(
    subject: Subject, source: Source, num_pictures: int | None, title: str, progress: Progress
) -> Measured:
    """Let the three files of a run answer, look into the quantized ones, and compare these with each other.

    Args:
        subject: The files.
        source: Test pictures, labelled or not.
        num_pictures: So many of them, the first; None for all.
        title: Of the progress bar.
        progress: Shows how far it is.

    Raises:
        DataError: No pictures, or too many unreadable ones.
    """
    log = UnreadableLog()
    indices = np.arange(len(source), dtype=np.int64)[:num_pictures]
    paths = {"float": subject.float_path, "onnx": subject.onnx_path, "tflite": subject.tflite_path}
    predictors = {name: file_predictor(path, subject.spec) for name, path in paths.items()}
    progress.begin(title, len(indices))
    batches = iterate_batches(
        source, subject.spec, batch_size=fitting_batch_size(subject.graph), indices=indices, unreadable=log
    )
    found = collect_answers(predictors, batches, progress)
    progress.end()
    few = read_pictures(source, subject.spec, found.indices[:NUM_TORCH_PICTURES])
    progress.begin("verify layers", 1)
    sqnr = measure_sqnr(subject.graph, subject.spec, subject.tflite_path, few[:NUM_LAYER_PICTURES])
    progress.end()
    stored = {"onnx": read_stored(subject.onnx_path), "tflite": read_stored(subject.tflite_path)}
    return Measured(
        answers=found,
        few=few,
        stored=stored,
        sqnr_db=sqnr,
        findings=_compare(subject, found, stored, sqnr),
        unreadable=log,
    )


def _compare(
    subject: Subject, found: Answers, stored: Mapping[str, StoredFile], sqnr: dict[str, float]
) -> FileFindings:
    """The two quantized files beside each other: their integers, and their outputs in steps of the output's grid."""
    outputs = found.logits
    step = _output_step(subject, stored["tflite"], outputs["float"])
    steps = np.rint(np.abs(outputs["onnx"] - outputs["tflite"]) / step)
    return FileFindings(
        stored=dict(stored),
        difference=first_difference(subject.graph, stored["onnx"], stored["tflite"], weights_only=subject.is_dynamic),
        mean_steps=float(steps.mean()),
        max_steps=int(steps.max()),
        divergent_layer=first_divergent(subject.graph, sqnr),
        weakest_layer=min(sqnr, key=lambda layer: sqnr[layer]) if sqnr else None,
        trained=subject.trained,
        is_dynamic=subject.is_dynamic,
    )


def _output_step(subject: Subject, stored: StoredFile, outputs: npt.NDArray[np.float32]) -> float:
    """Scale of the output's grid; 1 where the file shows none (then nothing is quantized, which fails elsewhere).

    A dynamic scheme has none: there it is that of the int8 grid that would span the float answers.
    """
    if subject.is_dynamic:
        return max(float(np.ptp(outputs)) / INT8_STEPS, float(np.finfo(np.float32).tiny))
    return stored.activations.get(subject.graph.output, (1.0, 0))[0]


def read_pictures(source: Source, spec: PreprocessSpec, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Pictures at these positions, all at once: uint8 [n, h, w, c]."""
    return next(iter(iterate_batches(source, spec, batch_size=len(indices), indices=indices))).pictures
