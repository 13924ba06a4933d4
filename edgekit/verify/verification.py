"""Verification of one run: measure, then judge."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.measurement import Agreement
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Progress
from edgekit.core.recipe import VerifySection
from edgekit.core.report import AccuracyTable, AgreementTable, Check, Disagreement
from edgekit.data.dataset import Source
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.evaluate.metrics import accuracy, agreement, answers, confusion
from edgekit.export.activations import fitting_batch_size
from edgekit.export.stored import StoredFile, read_stored
from edgekit.verify.answers import Answers, Predictor, collect_answers, file_predictor
from edgekit.verify.checks import Findings, judge
from edgekit.verify.integers import first_difference
from edgekit.verify.layers import first_divergent, measure_sqnr
from edgekit.verify.png import encode_png
from edgekit.verify.subject import Subject

NUM_LAYER_PICTURES = 16
NUM_TORCH_PICTURES = 64
MAX_SHOWN = 24
INT8_STEPS = 255


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What verification found; `agreement` is None for a feature extractor, which gives no answers."""

    checks: tuple[Check, ...]
    accuracy: AccuracyTable
    agreement: AgreementTable | None
    stored: StoredFile
    sqnr_db: dict[str, float]
    first_divergent_layer: str | None
    confusion: tuple[tuple[int, ...], ...] | None
    disagreements: tuple[Disagreement, ...]
    num_pictures: int
    unreadable: tuple[str, ...]
    num_unreadable: int

    @property
    def passed(self) -> bool:
        """Whether every bar was met."""
        return all(check.passed for check in self.checks)


def verify(subject: Subject, source: Source, config: VerifySection, progress: Progress) -> Verification:
    """Compare the exported files with the float model, and with each other.

    Args:
        subject: The files.
        source: Test pictures, labelled or not.
        config: How many pictures, and the bars.
        progress: Shows how far it is.

    Raises:
        DataError: No pictures, or too many unreadable ones.
    """
    indices = np.arange(len(source), dtype=np.int64)[: config.num_pictures]
    log = UnreadableLog()
    predictors = {
        "float": file_predictor(subject.float_path, subject.spec),
        "onnx": file_predictor(subject.onnx_path, subject.spec),
        "tflite": file_predictor(subject.tflite_path, subject.spec),
    }
    progress.begin("verify answers", len(indices))
    batches = iterate_batches(
        source, subject.spec, batch_size=fitting_batch_size(subject.graph), indices=indices, unreadable=log
    )
    found = collect_answers(predictors, batches, progress)
    progress.end()
    if not subject.labels_fit:
        found = msgspec.structs.replace(found, labels=None)
    few = read_pictures(source, subject.spec, found.indices[:NUM_TORCH_PICTURES])
    progress.begin("verify layers", 1)
    sqnr = measure_sqnr(subject.graph, subject.spec, subject.tflite_path, few[:NUM_LAYER_PICTURES])
    progress.end()
    stored = {"onnx": read_stored(subject.onnx_path), "tflite": read_stored(subject.tflite_path)}
    findings = _measure(subject, found, stored, sqnr, _float_agreement(subject, predictors["float"], few))
    logits = found.logits
    return Verification(
        checks=judge(findings[0], max_drop=config.max_drop, max_float_error=config.max_float_error),
        accuracy=AccuracyTable(**{name: findings[0].accuracy.get(name) for name in ("float", "onnx", "tflite")}),
        agreement=findings[1],
        stored=stored["tflite"],
        sqnr_db=sqnr,
        first_divergent_layer=findings[0].divergent_layer,
        confusion=_confusion(logits["tflite"], found.labels),
        disagreements=_disagreements(subject, source, found),
        num_pictures=len(found.indices),
        unreadable=tuple(log.reasons),
        num_unreadable=log.num_pictures,
    )


def _measure(
    subject: Subject,
    found: Answers,
    stored: dict[str, StoredFile],
    sqnr: dict[str, float],
    float_onnx: Agreement | None,
) -> tuple[Findings, AgreementTable]:
    logits = found.logits
    agreements = {name: agreement(logits[name], logits["float"]) for name in ("onnx", "tflite")}
    step = output_step(subject, stored["tflite"], logits["float"])
    steps = np.rint(np.abs(logits["onnx"] - logits["tflite"]) / step)
    findings = Findings(
        float_error=None if float_onnx is None else float_onnx.max_abs_error,
        largest_logit=float(np.abs(logits["float"]).max()),
        accuracy={} if found.labels is None else {name: accuracy(logits[name], found.labels) for name in logits},
        agreement=agreements,
        stored=stored,
        difference=first_difference(subject.graph, stored["onnx"], stored["tflite"], weights_only=subject.is_dynamic),
        mean_steps=float(steps.mean()),
        max_steps=int(steps.max()),
        divergent_layer=first_divergent(subject.graph, sqnr),
        weakest_layer=min(sqnr, key=lambda layer: sqnr[layer]) if sqnr else None,
        trained=subject.trained,
        is_dynamic=subject.is_dynamic,
    )
    table = AgreementTable(
        onnx=agreements["onnx"],
        tflite=agreements["tflite"],
        float_onnx=float_onnx,
        tflite_onnx_max_steps=findings.max_steps,
        tflite_onnx_mean_steps=findings.mean_steps,
    )
    return findings, table


def output_step(subject: Subject, stored: StoredFile, logits: npt.NDArray[np.float32]) -> float:
    """Scale of the output's grid; 1 where the file shows none (then nothing is quantized, which fails elsewhere).

    A dynamic scheme has none: there it is that of the int8 grid that would span the float answers.
    """
    if subject.is_dynamic:
        return max(float(np.ptp(logits)) / INT8_STEPS, float(np.finfo(np.float32).tiny))
    return stored.activations.get(subject.graph.output, (1.0, 0))[0]


def _float_agreement(subject: Subject, predict: Predictor, pictures: npt.NDArray[np.uint8]) -> Agreement | None:
    if subject.torch_logits is None:
        return None
    return agreement(predict(pictures), subject.torch_logits(pictures))


def read_pictures(source: Source, spec: PreprocessSpec, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Pictures at these positions, all at once: uint8 [n, h, w, c]."""
    return next(iter(iterate_batches(source, spec, batch_size=len(indices), indices=indices))).pictures


def _confusion(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64] | None
) -> tuple[tuple[int, ...], ...] | None:
    if labels is None:
        return None
    return tuple(tuple(int(count) for count in row) for row in confusion(logits, labels, logits.shape[1]))


def _disagreements(subject: Subject, source: Source, found: Answers) -> tuple[Disagreement, ...]:
    """The pictures on which TFLite and float answer differently, the most confident float answers first."""
    before, after = found.logits["float"], found.logits["tflite"]
    answer_before, answer_after = answers(before), answers(after)
    probability = _softmax(before)
    rows = np.flatnonzero(answer_before != answer_after)
    rows = rows[np.argsort(-probability[rows].max(axis=1), kind="stable")][:MAX_SHOWN]
    name = _namer(subject.class_names)
    shown: list[Disagreement] = []
    for row in rows:
        index = int(found.indices[row])
        label = None if found.labels is None else name(int(found.labels[row]))
        first, second = int(answer_before[row]), int(answer_after[row])
        shown.append(
            Disagreement(
                index=index,
                png_base64=encode_png(read_pictures(source, subject.spec, found.indices[row : row + 1])[0]),
                label=label,
                float_answer=(name(first), float(probability[row, first])),
                int8_answer=(name(second), float(_softmax(after[row : row + 1])[0, second])),
            )
        )
    return tuple(shown)


def _namer(class_names: tuple[str, ...]) -> Callable[[int], str]:
    return lambda index: class_names[index] if index < len(class_names) else f"class {index}"


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return shifted / shifted.sum(axis=1, keepdims=True)
