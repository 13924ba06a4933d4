"""Robustness measurements as `edgekit evaluate --robustness` makes them, with figures from nowhere."""

from __future__ import annotations

import numpy as np

from edgekit.core.measurement import Accuracy, wilson_interval
from edgekit.core.report import ReportDataset
from edgekit.core.robustness import (
    AttackKind,
    AttackSweep,
    ChangeLevel,
    CorruptionSweep,
    Fooled,
    Fooling,
    MovementSweep,
    Outcome,
    RobustModel,
    Robustness,
    RobustnessSettings,
    ShownAnswer,
    ShownPicture,
    Suggestion,
)
from edgekit.perturb.corruption import list_corruptions
from edgekit.perturb.movements import MOVEMENTS
from edgekit.verify.png import encode_png
from evaluations import NAMES, about

NUM = 200


def outcome(share: float) -> Outcome:
    return Outcome(top1=share, ci95=wilson_interval(share * NUM, NUM), flipped=1 - share, agreement=0.9)


def level(amount: float, num_models: int, share: float) -> ChangeLevel:
    return ChangeLevel(
        amount=amount, outcomes=tuple(outcome(max(0.0, share - 0.02 * index)) for index in range(num_models))
    )


def suggestion(threshold: float | None) -> Suggestion:
    return Suggestion(
        temperature=1.5,
        error_plain=0.08,
        error_scaled=0.03,
        target=0.95,
        threshold=threshold,
        accepted_right=None if threshold is None else 0.951,
        accepted_plain=None if threshold is None else 0.8,
        accepted_corrupted=None if threshold is None else 0.5,
    )


def robust_model(name: str, index: int, *, difference: float, threshold: float | None) -> RobustModel:
    return RobustModel(
        about=about(name),
        plain=Accuracy(top1=0.9 - 0.01 * index, top5=None, n=NUM, ci95=(0.85, 0.94)),
        corrupted=0.7 + difference,
        difference=difference,
        difference_ci95=(difference - 0.01, difference + 0.01) if index else (0.0, 0.0),
        mean_error=100.0 - 300 * difference,
        relative_error=None if index else 100.0,
        suggestion=suggestion(threshold),
    )


def shown(section: str, num_models: int, class_names: tuple[str, ...]) -> ShownPicture:
    picture = encode_png(np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8))
    answers = tuple(ShownAnswer(name=class_names[index % 2], confidence=0.8) for index in range(num_models))
    is_made = section == "fooling"
    return ShownPicture(
        section=section,
        title=f"one of {section}",
        amount="" if is_made else "epsilon 8/255",
        index=None if is_made else 17,
        label=None if is_made else class_names[0],
        original_png=None if is_made else picture,
        changed_png=picture,
        plain=() if is_made else answers,
        changed=answers,
    )


def attacks(num_models: int, *, has_gradient: bool) -> tuple[AttackSweep, ...]:
    kinds: list[tuple[AttackKind, int]] = [("fgsm", 0), ("pgd", 0)] if has_gradient else []
    for index in range(num_models):
        kinds.append(("square", index))  # noqa: PERF401 - so that the checker keeps the literal's type
    amounts = (0.0, 1 / 255, 8 / 255, 1.0)
    return tuple(
        AttackSweep(
            kind=kind,
            attacked=attacked,
            n=50,
            levels=tuple(level(amount, num_models, max(0.05, 0.9 - 15 * amount)) for amount in amounts),
        )
        for kind, attacked in kinds
    )


def build_robustness(
    *models: str,
    difference: float = -0.03,
    has_gradient: bool = True,
    threshold: float | None = 0.71234,
    class_names: tuple[str, ...] = NAMES,
    notes: tuple[str, ...] = (),
) -> Robustness:
    """A measurement of as many models as are named."""
    num = len(models)
    return Robustness(
        dataset=ReportDataset(
            name="animals", split="test", n=NUM, labelled=True, class_names=class_names, num_left_out=0
        ),
        settings=RobustnessSettings(num_pictures=NUM, num_attacked=50),
        models=tuple(
            robust_model(name, index, difference=difference if index else 0.0, threshold=threshold)
            for index, name in enumerate(models)
        ),
        has_gradient=has_gradient,
        notes=notes,
        reference=models[0],
        attacks=attacks(num, has_gradient=has_gradient),
        fooling=(
            Fooling(
                method="evolved",
                attacked=0,
                num_tried=20,
                num_fooling=15,
                fooled=tuple(
                    Fooled(num_sure=15 - index, num_same=15, num_unknown=0, confidence=0.99) for index in range(num)
                ),
            ),
        ),
        movements=tuple(
            MovementSweep(
                name=movement.name,
                title=movement.title,
                levels=tuple(level(amount, num, 0.8) for amount in movement.amounts),
            )
            for movement in MOVEMENTS
        ),
        corruptions=tuple(
            CorruptionSweep(
                name=one.name,
                title=one.title,
                family=one.family,
                levels=tuple(level(severity, num, 0.9 - 0.1 * severity) for severity in range(1, 6)),
                error=(100.0, *(104.5 for _ in models[1:])),
                relative_error=(100.0, *(None for _ in models[1:])),
            )
            for one in list_corruptions()
        ),
        shown=tuple(shown(section, num, class_names) for section in ("attacks", "fooling", "movements", "corruptions")),
        environment={"numpy": "2.4.6"},
        command=f"edgekit evaluate {models[-1]} --data animals --robustness",
        created="2025-01-31T12:05:09+00:00",
    )
