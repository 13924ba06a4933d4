"""Corruptions and movements: what pictures go through without anybody's intent, and what to set in view of it."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.progress import Progress
from edgekit.core.robustness import (
    CorruptionSweep,
    MovementSweep,
    Robustness,
    RobustnessSettings,
    ShownPicture,
    Suggestion,
)
from edgekit.evaluate.confidence import choose_threshold, expected_error, fit_temperature
from edgekit.evaluate.corruption_error import corruption_error, relative_corruption_error
from edgekit.evaluate.metrics import accuracy, top_k_credit
from edgekit.evaluate.probabilities import to_probabilities
from edgekit.perturb.corruption import SEVERITIES, corrupt, list_corruptions
from edgekit.perturb.movements import MOVEMENTS
from edgekit.verify.answers import Logits
from edgekit.verify.trial import Change, Trial, judge_level, show_one

SHOWN_SEVERITY = 3
_UNITS = {"translation": "of the side", "rotation": "degrees", "scale": "times as large"}
TARGET = 0.95
"""Share of accepted answers that should be right."""


class Corrupted(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the corruptions.

    Args:
        sweeps: One per corruption; errors are set by `compare_errors`.
        scores: Mean share of right answers of each picture, float64 [models, n].
        sample: Answers of each model to one severity of every corruption of every picture, float32 [m, classes].
        sample_rows: Which picture each row of the sample is of, int64 [m].
        shown: One picture per corruption.
    """

    sweeps: tuple[CorruptionSweep, ...]
    scores: npt.NDArray[np.float64]
    sample: tuple[Logits, ...]
    sample_rows: npt.NDArray[np.int64]
    shown: tuple[ShownPicture, ...]


def run_corruptions(trial: Trial, progress: Progress) -> Corrupted:
    """Every corruption in every severity; the severities of one share their randomness.

    Raises:
        DataError: Pictures too small to be corrupted.
    """
    every = list_corruptions()
    rows = np.arange(len(trial.pictures))
    progress.begin("corruptions", len(every) * len(SEVERITIES))
    scores = np.zeros((len(trial.contenders), len(rows)))
    sample: list[list[Logits]] = [[] for _ in trial.contenders]
    sample_rows: list[npt.NDArray[np.int64]] = []
    sweeps, shown = [], []
    for number, corruption in enumerate(every):
        levels = []
        for severity in SEVERITIES:
            changed = corrupt(corruption, trial.pictures, severity, trial.rng(corruption.name))
            change = Change(
                section="corruptions",
                title=corruption.title,
                amount=severity,
                words=f"severity {severity}",
                pictures=changed,
                asked=trial.ask(changed),
            )
            levels.append(judge_level(trial, change))
            taken = rows[(rows + number) % len(SEVERITIES) == severity - 1]
            sample_rows.append(taken)
            for index, logits in enumerate(change.asked):
                scores[index] += top_k_credit(logits, trial.labels, 1)
                sample[index].append(logits[taken])
            if severity == SHOWN_SEVERITY:
                shown.append(show_one(trial, change))
            progress.advance()
        sweeps.append(
            CorruptionSweep(
                name=corruption.name,
                title=corruption.title,
                family=corruption.family,
                levels=tuple(levels),
                error=(),
                relative_error=(),
            )
        )
    progress.end()
    return Corrupted(
        sweeps=tuple(sweeps),
        scores=scores / (len(every) * len(SEVERITIES)),
        sample=tuple(np.concatenate(parts) for parts in sample),
        sample_rows=np.concatenate(sample_rows),
        shown=tuple(shown),
    )


def compare_errors(
    trial: Trial, sweeps: tuple[CorruptionSweep, ...], reference: Robustness | None
) -> tuple[CorruptionSweep, ...]:
    """Put corruption errors into the sweeps, relative to the first model or to that of another evaluation."""
    plain = [1 - accuracy(logits, trial.labels).top1 for logits in trial.plain]
    base_plain = plain[0] if reference is None else 1 - reference.models[0].plain.top1
    bases = {sweep.name: sweep for sweep in (sweeps if reference is None else reference.corruptions)}
    compared = []
    for sweep in sweeps:
        base = _errors(bases[sweep.name], 0)
        errors = [_errors(sweep, index) for index in range(len(trial.contenders))]
        compared.append(
            msgspec.structs.replace(
                sweep,
                error=tuple(corruption_error(each, base) for each in errors),
                relative_error=tuple(
                    relative_corruption_error(each, own, base, base_plain)
                    for each, own in zip(errors, plain, strict=True)
                ),
            )
        )
    return tuple(compared)


def _errors(sweep: CorruptionSweep, index: int) -> list[float]:
    return [1 - level.outcomes[index].top1 for level in sweep.levels]


def run_movements(trial: Trial, progress: Progress) -> tuple[tuple[MovementSweep, ...], tuple[ShownPicture, ...]]:
    """Every movement in every amount, and a picture of each, three quarters up its amounts."""
    progress.begin("movements", sum(len(movement.amounts) for movement in MOVEMENTS))
    sweeps, shown = [], []
    for movement in MOVEMENTS:
        levels = []
        for amount in movement.amounts:
            moved = movement.move(trial.pictures, amount, trial.rng(movement.name))
            change = Change(
                section="movements",
                title=movement.title.partition(",")[0],
                amount=amount,
                words=f"{amount:g} {_UNITS[movement.name]}",
                pictures=moved,
                asked=trial.ask(moved),
            )
            levels.append(judge_level(trial, change))
            if amount == movement.amounts[len(movement.amounts) * 3 // 4]:
                shown.append(show_one(trial, change))
            progress.advance()
        sweeps.append(MovementSweep(name=movement.name, title=movement.title, levels=tuple(levels)))
    progress.end()
    return tuple(sweeps), tuple(shown)


def suggest(trial: Trial, corrupted: Corrupted, index: int) -> Suggestion:
    """Temperature and threshold of one model: chosen on every other picture, measured on the rest.

    Args:
        trial: Models and pictures.
        corrupted: What came of the corruptions.
        index: Of the model.
    """
    rows = np.concatenate([np.arange(len(trial.labels)), corrupted.sample_rows])
    logits = np.concatenate([trial.plain[index], corrupted.sample[index]])
    is_plain = np.arange(len(rows)) < len(trial.labels)
    labels = trial.labels[rows]
    weights = np.where(is_plain, 1.0, len(trial.labels) / len(corrupted.sample_rows))
    chosen = rows % 2 == 0
    measured = ~chosen if (~chosen).any() else chosen  # one picture is all there is
    temperature = fit_temperature(logits[chosen], labels[chosen], weights[chosen])
    confidence = to_probabilities(logits).max(axis=1)
    scaled = to_probabilities(logits / np.float32(temperature)).max(axis=1)
    credit = top_k_credit(logits, labels, 1)
    threshold = choose_threshold(confidence[chosen], credit[chosen], weights[chosen], TARGET)
    accepted = measured & (confidence >= (np.inf if threshold is None else threshold))
    total = weights[accepted].sum()
    return Suggestion(
        temperature=temperature,
        error_plain=expected_error(confidence[measured], credit[measured], weights[measured]),
        error_scaled=expected_error(scaled[measured], credit[measured], weights[measured]),
        target=TARGET,
        threshold=threshold,
        accepted_right=float(weights[accepted] @ credit[accepted] / total) if total > 0 else None,
        accepted_plain=None if threshold is None else float(accepted[measured & is_plain].mean()),
        accepted_corrupted=None if threshold is None else float(accepted[measured & ~is_plain].mean()),
    )


def is_comparable(settings: RobustnessSettings, reference: Robustness) -> bool:
    """Whether another evaluation corrupted as many pictures in the same way."""
    return (settings.num_pictures, settings.seed) == (reference.settings.num_pictures, reference.settings.seed)
