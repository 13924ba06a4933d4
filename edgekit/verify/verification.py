"""Verification of one run: measure, then judge."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.measurement import Agreement
from edgekit.core.progress import Progress
from edgekit.core.recipe import VerifySection
from edgekit.core.report import AccuracyTable, AgreementTable, Check, Disagreement
from edgekit.data.dataset import Source
from edgekit.evaluate.metrics import accuracy, agreement, answers, confusion
from edgekit.evaluate.probabilities import to_probabilities
from edgekit.export.stored import StoredFile
from edgekit.verify.answers import Answers
from edgekit.verify.checks import Findings, judge
from edgekit.verify.measuring import Measured, measure_files, read_pictures
from edgekit.verify.png import encode_png
from edgekit.verify.subject import Subject

MAX_SHOWN = 24


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
    measured = measure_files(subject, source, config.num_pictures, "verify answers", progress)
    found = measured.answers
    if not subject.labels_fit:
        found = msgspec.structs.replace(found, labels=None)
    logits = found.logits
    float_onnx = _float_agreement(subject, measured)
    findings = Findings(
        files=measured.findings,
        float_error=None if float_onnx is None else float_onnx.max_abs_error,
        largest_logit=float(np.abs(logits["float"]).max()),
        accuracy={} if found.labels is None else {name: accuracy(logits[name], found.labels) for name in logits},
        agreement={name: agreement(logits[name], logits["float"]) for name in ("onnx", "tflite")},
    )
    return Verification(
        checks=judge(findings, max_drop=config.max_drop, max_float_error=config.max_float_error),
        accuracy=AccuracyTable(**{name: findings.accuracy.get(name) for name in ("float", "onnx", "tflite")}),
        agreement=_agreement_table(findings, float_onnx),
        stored=measured.stored["tflite"],
        sqnr_db=measured.sqnr_db,
        first_divergent_layer=findings.files.divergent_layer,
        confusion=_confusion(logits["tflite"], found.labels),
        disagreements=_disagreements(subject, source, found),
        num_pictures=len(found.indices),
        unreadable=tuple(measured.unreadable.reasons),
        num_unreadable=measured.unreadable.num_pictures,
    )


def _float_agreement(subject: Subject, measured: Measured) -> Agreement | None:
    """Of float ONNX with the torch model, on a few pictures; None without a torch model."""
    if subject.torch_logits is None:
        return None
    few = measured.few
    return agreement(measured.answers.logits["float"][: len(few)], subject.torch_logits(few))


def _agreement_table(findings: Findings, float_onnx: Agreement | None) -> AgreementTable:
    return AgreementTable(
        onnx=findings.agreement["onnx"],
        tflite=findings.agreement["tflite"],
        float_onnx=float_onnx,
        tflite_onnx_max_steps=findings.files.max_steps,
        tflite_onnx_mean_steps=findings.files.mean_steps,
    )


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
    probability = to_probabilities(before)
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
                int8_answer=(name(second), float(to_probabilities(after[row : row + 1])[0, second])),
            )
        )
    return tuple(shown)


def _namer(class_names: tuple[str, ...]) -> Callable[[int], str]:
    return lambda index: class_names[index] if index < len(class_names) else f"class {index}"
