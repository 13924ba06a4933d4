"""The content of `robustness.json`, versioned: how models stand when pictures change, before and after compression.

`edgekit.verify` measures it, `edgekit.report` draws it; nothing in it is HTML. Wherever there is one value per model,
they are in the order of `Robustness.models`; the first is what the others are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.evaluation import ClassBalance, EvaluatedModel
from edgekit.core.measurement import Accuracy
from edgekit.core.report import ReportDataset

ROBUSTNESS_VERSION = 1

AttackKind: TypeAlias = Literal["fgsm", "pgd", "square"]
FoolingMethod: TypeAlias = Literal["evolved", "optimized"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one model answers changed pictures.

    Args:
        top1: Share of right answers, 0..1; of classes that tie, each takes its chance.
        ci95: 95 % Wilson interval of it.
        flipped: Share of pictures whose answer is another than on the unchanged picture.
        agreement: Share of pictures with the same answer as the first model's on the same changed picture.
    """

    top1: float
    ci95: tuple[float, float]
    flipped: float
    agreement: float


class ChangeLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One amount of a change.

    Args:
        amount: Epsilon as a share of 0..255, severity, degrees, ...: what the sweep says.
        outcomes: One per model.
    """

    amount: float
    outcomes: tuple[Outcome, ...]


class AttackSweep(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures made to be answered wrong, at several epsilons; all models answer the same ones.

    Args:
        kind: fgsm and pgd follow the gradient of the attacked model, square only its answers.
        attacked: Index of the model that the pictures were made against; for the others they are transferred.
        n: Pictures.
        levels: By epsilon, from 0 (the pictures unchanged) up.
    """

    kind: AttackKind
    attacked: int
    n: int
    levels: tuple[ChangeLevel, ...]


class Fooled(msgspec.Struct, frozen=True, kw_only=True):
    """What one model makes of the pictures that fool the attacked one.

    Args:
        num_sure: So many get the same class at more than 99 %.
        num_same: So many get the same class.
        num_unknown: So many are below the model's suggested threshold; None without one.
        confidence: Mean probability of that class; None without a picture.
    """

    num_sure: int
    num_same: int
    num_unknown: int | None
    confidence: float | None


class Fooling(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures of nothing that a model is sure about (Nguyen et al. 2015).

    Args:
        method: From its answers alone (evolved), or by its gradient (optimized).
        attacked: Index of the model that they were made against.
        num_tried: Pictures made.
        num_fooling: Those that the attacked model is more than 99 % sure of.
        fooled: One per model, of those.
    """

    method: FoolingMethod
    attacked: int
    num_tried: int
    num_fooling: int
    fooled: tuple[Fooled, ...]


class MovementSweep(msgspec.Struct, frozen=True, kw_only=True):
    """Translation, rotation or scale in rising amounts.

    Args:
        name: Id.
        title: In words, with the unit of the amounts.
        levels: From the smallest amount.
    """

    name: str
    title: str
    levels: tuple[ChangeLevel, ...]


class CorruptionSweep(msgspec.Struct, frozen=True, kw_only=True):
    """One corruption in its five severities (Hendrycks and Dietterich 2019).

    Args:
        name: Id.
        title: In words.
        family: "noise", "blur", "weather" or "digital".
        levels: Severity 1 to 5.
        error: Corruption error of each model in percent of the reference's (CE); None where that makes no mistake.
        relative_error: The same of what is lost against unchanged pictures (relative CE); None where the reference
            loses nothing.
    """

    name: str
    title: str
    family: str
    levels: tuple[ChangeLevel, ...]
    error: tuple[float | None, ...]
    relative_error: tuple[float | None, ...]


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """What to set so that confidence means something on pictures that have gone bad.

    Chosen on every other picture, measured on the rest; unchanged and corrupted pictures weigh the same.

    Args:
        temperature: Divide logits by it.
        error_plain: Expected calibration error without it.
        error_scaled: Expected calibration error with it.
        target: Share of accepted answers that should be right.
        threshold: Confidence (without temperature, as the agent compares it) below which to answer `unknown`; None when
            no threshold reaches the target.
        accepted_right: Share of the accepted answers that are right; None when none is.
        accepted_plain: Share of unchanged pictures that are accepted; None without a threshold.
        accepted_corrupted: The same of corrupted ones.
    """

    temperature: float
    error_plain: float
    error_scaled: float
    target: float
    threshold: float | None
    accepted_right: float | None
    accepted_plain: float | None
    accepted_corrupted: float | None


class RobustModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model, and what sums up its robustness.

    Args:
        about: What it is.
        plain: Accuracy on the unchanged pictures.
        corrupted: Mean top-1 over all corruptions and severities.
        difference: `corrupted` minus that of the first model; 0 for the first.
        difference_ci95: Its 95 % interval over pictures, each of which both models saw in every corruption.
        mean_error: Mean corruption error (mCE) in percent of the reference's; None where no corruption has one.
        relative_error: Mean relative corruption error, likewise.
        suggestion: Temperature and threshold.
        balanced_accuracy: Mean recall on the unchanged pictures, of the classes that have any; None in older documents.
        balanced_ci95: Its 95 % interval, as `evaluate` has it; None likewise.
    """

    about: EvaluatedModel
    plain: Accuracy
    corrupted: float
    difference: float
    difference_ci95: tuple[float, float]
    mean_error: float | None
    relative_error: float | None
    suggestion: Suggestion
    balanced_accuracy: float | None = None
    balanced_ci95: tuple[float, float] | None = None


class ShownAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one model says to a picture, and how sure it is (0..1)."""

    name: str
    confidence: float


class ShownPicture(msgspec.Struct, frozen=True, kw_only=True):
    """One picture for one finding.

    Args:
        section: "attacks", "fooling", "movements" or "corruptions".
        title: What was done to it, in words.
        amount: How much, in words.
        index: Position in the dataset; None for a picture of nothing.
        label: Right class; None for a picture of nothing.
        original_png: Before the change, PNG in base64; None for a picture of nothing.
        changed_png: After it.
        plain: Answers to the original, one per model; empty without one.
        changed: Answers to the changed picture, one per model.
    """

    section: str
    title: str
    amount: str
    index: int | None
    label: str | None
    original_png: str | None
    changed_png: str
    plain: tuple[ShownAnswer, ...]
    changed: tuple[ShownAnswer, ...]


class RobustnessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much was measured.

    Args:
        num_pictures: Most pictures that are corrupted and moved.
        num_attacked: Most pictures that are attacked.
        epsilons: Of the attacks, shares of 0..255.
        num_steps: Gradient steps of PGD.
        num_queries: Questions that the square attack may ask about a picture.
        num_fooling: Fooling pictures that are tried by each method.
        num_generations: Of their evolution.
        seed: Of all randomness.
    """

    num_pictures: int = 500
    num_attacked: int = 200
    epsilons: tuple[float, ...] = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    num_steps: int = 10
    num_queries: int = 200
    num_fooling: int = 30
    num_generations: int = 500
    seed: int = 0


class Robustness(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `edgekit evaluate --robustness` measured. See docs/robustness.md for the schema.

    Args:
        dataset: What was measured on.
        settings: How much was measured.
        models: The model that the others are compared with, the float one where there is one; then the others.
        has_gradient: Whether the first model's gradient was at hand, for FGSM, PGD and optimized pictures.
        notes: What a reader should know, one sentence each: which model is the float one, what was left out and why.
        reference: What corruption errors are relative to: the name of the first model, or of another evaluation's.
        attacks: By kind and attacked model.
        fooling: By method.
        movements: Translation, rotation, scale.
        corruptions: Family by family.
        shown: Pictures, one per finding.
        environment: Versions, processor.
        command: The command that was given.
        created: ISO 8601 time, with its zone.
        balance: How the pictures are spread over the classes; None in older documents.
        version: Of this schema.
    """

    dataset: ReportDataset
    settings: RobustnessSettings
    models: tuple[RobustModel, ...]
    has_gradient: bool
    notes: tuple[str, ...]
    reference: str
    attacks: tuple[AttackSweep, ...]
    fooling: tuple[Fooling, ...]
    movements: tuple[MovementSweep, ...]
    corruptions: tuple[CorruptionSweep, ...]
    shown: tuple[ShownPicture, ...]
    environment: Mapping[str, str]
    command: str
    created: str
    balance: ClassBalance | None = None
    version: int = ROBUSTNESS_VERSION
