"""Verification of a feature extractor: the same bars as a classifier's, with features for answers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from edgekit.core.features import Closeness, FeaturesReport, PrecisionAtK
from edgekit.core.progress import Progress
from edgekit.core.recipe import VerifySection
from edgekit.core.report import AccuracyTable, Check
from edgekit.data.dataset import Source
from edgekit.evaluate.retrieval import closeness, precision_at_k
from edgekit.export.features import FeatureCut
from edgekit.verify.answers import Logits, file_predictor
from edgekit.verify.checks import FileFindings, judge_drop, judge_files, suspect, title
from edgekit.verify.measuring import Measured, measure_files
from edgekit.verify.subject import Subject
from edgekit.verify.verification import Verification

MIN_MEAN_COSINE = 0.9
"""Without labels nothing says what is found; features that point elsewhere than float's by more are broken."""


class FeatureVerification(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, in the form of a classifier's verification, and what only features have."""

    verification: Verification
    section: FeaturesReport


def verify_features(
    subject: Subject, cut: FeatureCut, float_tflite: Path, source: Source, config: VerifySection, progress: Progress
) -> FeatureVerification:
    """Compare the files of an extractor with the float model and with each other.

    Args:
        subject: The files; its graph is the cut one.
        cut: What was cut away.
        float_tflite: The float TFLite file.
        source: Test pictures, labelled or not. Their classes need not be the model's: any labels say what is alike.
        config: How many pictures, and the bars; `max_drop` is of precision at 1.
        progress: Shows how far it is.

    Raises:
        DataError: No pictures, or too many unreadable ones.
        GraphError: Features that are not finite.
    """
    measured = measure_files(subject, source, config.num_pictures, "verify features", progress)
    findings = measured.findings
    section = _describe(subject, cut, measured, float_tflite, progress)
    verification = Verification(
        checks=(
            *_judge_float(section, config),
            *judge_files(findings),
            *(_judge_file(name, section, findings, config) for name in ("onnx", "tflite")),
        ),
        accuracy=AccuracyTable(float=None, onnx=None, tflite=None),
        agreement=None,
        stored=measured.stored["tflite"],
        sqnr_db=measured.sqnr_db,
        first_divergent_layer=findings.divergent_layer,
        confusion=None,
        disagreements=(),
        num_pictures=len(measured.answers.indices),
        unreadable=tuple(measured.unreadable.reasons),
        num_unreadable=measured.unreadable.num_pictures,
    )
    return FeatureVerification(verification=verification, section=section)


def _describe(
    subject: Subject, cut: FeatureCut, measured: Measured, float_tflite: Path, progress: Progress
) -> FeaturesReport:
    """The section on features. Of float TFLite, and of torch, a few pictures tell."""
    found, few = measured.answers, measured.few
    values = found.logits
    some = values["float"][: len(few)]
    progress.begin("precision at k", len(values))
    precision: dict[str, tuple[PrecisionAtK, ...]] = {}
    if found.labels is not None:
        for name, features in values.items():
            precision[name] = precision_at_k(features, found.labels)
            progress.advance()
    progress.end()
    return FeaturesReport(
        layer=cut.layer,
        num_features=cut.num_features,
        float_tflite_bytes=float_tflite.stat().st_size,
        float_onnx_error=None if subject.torch_logits is None else _largest_gap(subject.torch_logits(few), some),
        float_tflite_error=_largest_gap(file_predictor(float_tflite, subject.spec)(few), some),
        largest_feature=float(np.abs(values["float"]).max()),
        onnx=closeness(values["onnx"], values["float"]),
        tflite=closeness(values["tflite"], values["float"]),
        tflite_onnx_max_steps=measured.findings.max_steps,
        tflite_onnx_mean_steps=measured.findings.mean_steps,
        precision=precision,
    )


def _largest_gap(features: Logits, reference: Logits) -> float:
    return float(np.abs(features.astype(np.float64) - reference).max())


def _judge_float(section: FeaturesReport, config: VerifySection) -> tuple[Check, ...]:
    """Float files against what they were made from. Features have no scale of their own: the bar is of the largest."""
    bar = config.max_float_error * max(1.0, section.largest_feature)
    pairs = (
        ("float ONNX equals torch", section.float_onnx_error),
        ("float TFLite equals float ONNX", section.float_tflite_error),
    )
    return tuple(
        Check(
            name=name,
            passed=error <= bar,
            measured=f"features differ by {error:.2g} at most, the largest is {section.largest_feature:.3g}",
            bar=f"at most {bar:.2g}",
        )
        for name, error in pairs
        if error is not None
    )


def _judge_file(name: str, section: FeaturesReport, findings: FileFindings, config: VerifySection) -> Check:
    """A quantized file: by what it finds, where labels say what is alike, else by the direction of its features."""
    near: Closeness = getattr(section, name)
    # Random weights describe next to nothing: what is left of it after rounding says little.
    if section.precision.get(name) and findings.trained:
        drop = 100 * (section.precision["float"][0].share - section.precision[name][0].share)
        of, layer = f"precision at 1, {near.n:,} pictures", suspect(findings)
        return judge_drop(f"{title(name)} finds what float finds", drop, config.max_drop, of=of, layer=layer)
    bar = MIN_MEAN_COSINE if findings.trained else 0.0
    passed = near.mean >= bar
    return Check(
        name=f"{title(name)} features point where float's do",
        passed=passed,
        measured=f"mean cosine {near.mean:.4f}, least {near.least:.4f} of {near.n:,} pictures",
        bar=f"a mean of at least {bar:g}",
        layer=None if passed else suspect(findings),
    )
