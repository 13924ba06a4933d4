"""The bars: pure rules from what was measured to what passed."""

from __future__ import annotations

import math

import msgspec

from edgekit.core.measurement import Accuracy, Agreement
from edgekit.core.report import Check
from edgekit.export.stored import StoredFile
from edgekit.verify.integers import Difference

MAX_MEAN_STEPS = 1.0
"""Mean difference of the two quantized files' outputs: their runtimes round each layer in their own way."""
MAX_DYNAMIC_MEAN_STEPS = 4.0
"""The same where activations are cut at run time: ONNX Runtime has one grid for all tokens, XNNPACK one for each."""
MIN_UNLABELLED_AGREEMENT = 0.8
"""Without labels accuracy cannot be measured; a file that answers so differently from float is broken."""
USUAL_LOGIT = 32.0
"""Logits of trained classifiers stay below. Those of random weights may be in the hundreds: float32 is coarser."""


class FileFindings(msgspec.Struct, frozen=True, kw_only=True):
    """What verification measured of the two quantized files, before any judgement.

    Args:
        stored: "onnx", "tflite" -> what the file holds.
        difference: First constant or grid on which the two files differ; None if none.
        mean_steps: Mean difference of the two quantized outputs, in steps of the output grid.
        max_steps: Largest.
        divergent_layer: First layer whose SQNR is too low; None if none.
        weakest_layer: Layer with the lowest SQNR; None if none was measured.
        trained: Whether the weights mean anything.
        is_dynamic: Whether activations become integers only inside the kernels.
    """

    stored: dict[str, StoredFile]
    difference: Difference | None
    mean_steps: float
    max_steps: int
    divergent_layer: str | None
    weakest_layer: str | None
    trained: bool
    is_dynamic: bool = False


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What verification measured of a classifier, before any judgement.

    Args:
        files: Of the two quantized files.
        float_error: Largest logit difference of float ONNX and torch; None without a torch model.
        largest_logit: Largest magnitude of a float logit.
        accuracy: "float", "onnx", "tflite" -> accuracy; empty when unlabelled.
        agreement: "onnx", "tflite" -> agreement with float.
    """

    files: FileFindings
    float_error: float | None
    largest_logit: float
    accuracy: dict[str, Accuracy]
    agreement: dict[str, Agreement]


def judge(findings: Findings, *, max_drop: float, max_float_error: float) -> tuple[Check, ...]:
    """Every bar of a classifier, met or not.

    Args:
        findings: What was measured.
        max_drop: Largest loss of top-1 accuracy against float, in points.
        max_float_error: Largest logit difference between torch and float ONNX, for logits of up to `USUAL_LOGIT`;
            in proportion for larger ones.
    """
    checks: list[Check] = []
    if findings.float_error is not None:
        if math.isfinite(findings.largest_logit):
            max_float_error *= max(1.0, findings.largest_logit / USUAL_LOGIT)
        checks.append(
            Check(
                name="float ONNX equals torch",
                passed=findings.float_error <= max_float_error,
                measured=f"largest logit difference {findings.float_error:.2g}",
                bar=f"at most {max_float_error:.2g}",
            )
        )
    checks += judge_files(findings.files)
    checks += [_judge_answers(name, findings, max_drop) for name in findings.agreement]
    return tuple(checks)


def judge_files(findings: FileFindings) -> list[Check]:
    """The bars of any two quantized files: integers throughout, the same ones, and outputs that are alike."""
    difference = findings.difference
    judge_stored = _judge_weights if findings.is_dynamic else _judge_stored
    max_mean_steps = MAX_DYNAMIC_MEAN_STEPS if findings.is_dynamic else MAX_MEAN_STEPS
    is_alike = findings.mean_steps <= max_mean_steps
    return [
        *(judge_stored(name, stored) for name, stored in findings.stored.items()),
        Check(
            name="TFLite and ONNX hold the same integers",
            passed=difference is None,
            measured=_equal_words(findings) if difference is None else difference.what,
            bar="no difference",
            layer=None if difference is None else difference.layer,
        ),
        Check(
            name="TFLite and ONNX answer alike",
            passed=is_alike,
            measured=f"outputs {findings.mean_steps:.2f} steps apart on average, {findings.max_steps} at most",
            bar=f"at most {max_mean_steps:g} on average",
            layer=None if is_alike else suspect(findings),
        ),
    ]


def _judge_stored(name: str, stored: StoredFile) -> Check:
    """Quantization that was silently not applied, or an operator left in float."""
    float_layer = next(iter(stored.float_layers), None)
    is_applied = stored.num_weighted > 0 and float_layer is None
    return Check(
        name=f"{title(name)} is integer throughout",
        passed=is_applied,
        measured=f"{stored.num_weighted} weighted layers, {len(stored.float_layers)} operators in float",
        bar="0 operators in float",
        layer=float_layer,
    )


def _judge_weights(name: str, stored: StoredFile) -> Check:
    """A dynamic scheme that was not applied to some layer."""
    float_layer = next(iter(stored.float_weights), None)
    return Check(
        name=f"{title(name)} has integer weights throughout",
        passed=stored.num_weighted > 0 and float_layer is None,
        measured=f"{stored.num_weighted} weighted layers, {len(stored.float_weights)} with float weights",
        bar="0 with float weights",
        layer=float_layer,
    )


def _equal_words(findings: FileFindings) -> str:
    if findings.is_dynamic:
        return "all weights and their scales equal"
    return "all weights, biases, scales and zero-points equal"


def _judge_answers(name: str, findings: Findings, max_drop: float) -> Check:
    agreement = findings.agreement[name]
    layer = suspect(findings.files)
    if findings.accuracy:
        drop = 100 * (findings.accuracy["float"].top1 - findings.accuracy[name].top1)
        of = f"top-1 on {agreement.n:,} pictures"
        return judge_drop(f"{title(name)} keeps the accuracy", drop, max_drop, of=of, layer=layer)
    # Answers of random weights sit on knife edges: there, only gross failures are told by agreement.
    bar = MIN_UNLABELLED_AGREEMENT if findings.files.trained else 0.0
    passed = agreement.top1 >= bar
    return Check(
        name=f"{title(name)} agrees with float",
        passed=passed,
        measured=f"same answer on {100 * agreement.top1:.1f} % of {agreement.n:,} pictures without labels",
        bar=f"at least {100 * bar:g} %",
        layer=None if passed else layer,
    )


def judge_drop(name: str, drop: float, max_drop: float, *, of: str, layer: str | None) -> Check:
    """The bar on what was lost.

    Args:
        name: Of the check.
        drop: Loss, in points; negative for a gain.
        max_drop: Largest that passes.
        of: What the points are of, and on how many pictures.
        layer: The one to look at first where it does not pass.
    """
    passed = drop <= max_drop
    return Check(
        name=name,
        passed=passed,
        measured=f"{'lost' if drop > 0 else 'gained'} {abs(drop):.2f} points of {of}",
        bar=f"at most {max_drop:g} points lost",
        layer=None if passed else layer,
    )


def suspect(findings: FileFindings) -> str | None:
    """The layer to look at first: where the files differ, or the first that diverges, or the one with most noise."""
    if findings.difference is not None:
        return findings.difference.layer
    return findings.divergent_layer or findings.weakest_layer


def title(name: str) -> str:
    """A format's name as people write it."""
    return {"onnx": "ONNX", "tflite": "TFLite"}.get(name, name)
