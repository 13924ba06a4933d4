"""Verification of a feature extractor: the same bars as a classifier's, with features for answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.features import Closeness, FeaturesReport, PrecisionAtK
from edgekit.core.progress import Progress
from edgekit.core.recipe import VerifySection
from edgekit.core.report import AccuracyTable, Check
from edgekit.data.dataset import Source
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.evaluate.retrieval import closeness, precision_at_k
from edgekit.export.activations import fitting_batch_size
from edgekit.export.features import FeatureCut
from edgekit.export.stored import StoredFile, read_stored
from edgekit.verify.answers import Answers, Logits, collect_answers, file_predictor
from edgekit.verify.checks import Findings, judge
from edgekit.verify.integers import first_difference
from edgekit.verify.layers import first_divergent, measure_sqnr
from edgekit.verify.subject import Subject
from edgekit.verify.verification import NUM_LAYER_PICTURES, NUM_TORCH_PICTURES, Verification, output_step, read_pictures

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
    log = UnreadableLog()
    found = _ask(subject, source, config, log, progress)
    few = read_pictures(source, subject.spec, found.indices[:NUM_TORCH_PICTURES])
    progress.begin("verify layers", 1)
    sqnr = measure_sqnr(subject.graph, subject.spec, subject.tflite_path, few[:NUM_LAYER_PICTURES])
    progress.end()
    stored = {"onnx": read_stored(subject.onnx_path), "tflite": read_stored(subject.tflite_path)}
    findings = _find(subject, found.logits, stored, sqnr)
    section = _measure(subject, cut, found, findings, (float_tflite, few), progress)
    verification = Verification(
        checks=(
            *_judge_float(section, config),
            *judge(findings, max_drop=config.max_drop, max_float_error=config.max_float_error),
            *(_judge_file(name, section, findings, config) for name in ("onnx", "tflite")),
        ),
        accuracy=AccuracyTable(float=None, onnx=None, tflite=None),
        agreement=None,
        stored=stored["tflite"],
        sqnr_db=sqnr,
        first_divergent_layer=findings.divergent_layer,
        confusion=None,
        disagreements=(),
        num_pictures=len(found.indices),
        unreadable=tuple(log.reasons),
        num_unreadable=log.num_pictures,
    )
    return FeatureVerification(verification=verification, section=section)


def _ask(subject: Subject, source: Source, config: VerifySection, log: UnreadableLog, progress: Progress) -> Answers:
    """Features of all three files on the test pictures."""
    indices = np.arange(len(source), dtype=np.int64)[: config.num_pictures]
    paths = {"float": subject.float_path, "onnx": subject.onnx_path, "tflite": subject.tflite_path}
    predictors = {name: file_predictor(path, subject.spec) for name, path in paths.items()}
    progress.begin("verify features", len(indices))
    batches = iterate_batches(
        source, subject.spec, batch_size=fitting_batch_size(subject.graph), indices=indices, unreadable=log
    )
    found = collect_answers(predictors, batches, progress)
    progress.end()
    return found


def _find(
    subject: Subject, values: Mapping[str, Logits], stored: dict[str, StoredFile], sqnr: dict[str, float]
) -> Findings:
    """What is judged as a classifier's files are: integers throughout, the same ones, the same outputs."""
    step = output_step(subject, stored["tflite"], values["float"])
    steps = np.rint(np.abs(values["onnx"] - values["tflite"]) / step)
    return Findings(
        float_error=None,
        largest_logit=0.0,  # features are no logits, and the bar for float is judged by itself
        accuracy={},
        agreement={},
        stored=stored,
        difference=first_difference(subject.graph, stored["onnx"], stored["tflite"], weights_only=subject.is_dynamic),
        mean_steps=float(steps.mean()),
        max_steps=int(steps.max()),
        divergent_layer=first_divergent(subject.graph, sqnr),
        weakest_layer=min(sqnr, key=lambda layer: sqnr[layer]) if sqnr else None,
        trained=subject.trained,
        is_dynamic=subject.is_dynamic,
    )


def _measure(
    subject: Subject,
    cut: FeatureCut,
    found: Answers,
    findings: Findings,
    float_tflite: tuple[Path, npt.NDArray[np.uint8]],
    progress: Progress,
) -> FeaturesReport:
    """The section on features. Of float TFLite, and of torch, a few pictures tell."""
    values = found.logits
    path, few = float_tflite
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
        float_tflite_bytes=path.stat().st_size,
        float_onnx_error=None if subject.torch_logits is None else _largest_gap(subject.torch_logits(few), some),
        float_tflite_error=_largest_gap(file_predictor(path, subject.spec)(few), some),
        largest_feature=float(np.abs(values["float"]).max()),
        onnx=closeness(values["onnx"], values["float"]),
        tflite=closeness(values["tflite"], values["float"]),
        tflite_onnx_max_steps=findings.max_steps,
        tflite_onnx_mean_steps=findings.mean_steps,
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


def _judge_file(name: str, section: FeaturesReport, findings: Findings, config: VerifySection) -> Check:
    """A quantized file: by what it finds, where labels say what is alike, else by the direction of its features."""
    title = {"onnx": "ONNX", "tflite": "TFLite"}[name]
    near: Closeness = getattr(section, name)
    suspect = findings.divergent_layer or findings.weakest_layer
    # Random weights describe next to nothing: what is left of it after rounding says little.
    if section.precision.get(name) and findings.trained:
        drop = 100 * (section.precision["float"][0].share - section.precision[name][0].share)
        passed = drop <= config.max_drop
        return Check(
            name=f"{title} finds what float finds",
            passed=passed,
            measured=f"{'lost' if drop > 0 else 'gained'} {abs(drop):.2f} points of precision at 1, {near.n} pictures",
            bar=f"at most {config.max_drop:g} points lost",
            layer=None if passed else suspect,
        )
    bar = MIN_MEAN_COSINE if findings.trained else 0.0
    passed = near.mean >= bar
    return Check(
        name=f"{title} features point where float's do",
        passed=passed,
        measured=f"mean cosine {near.mean:.4f}, least {near.least:.4f} of {near.n} pictures",
        bar=f"a mean of at least {bar:g}",
        layer=None if passed else suspect,
    )
