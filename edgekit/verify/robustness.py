"""Robustness before and after compression: attacks, fooling pictures, movements, corruptions; through the runtimes."""

from __future__ import annotations

import msgspec
import numpy as np

from edgekit.core.environment import date_of_now, describe_environment
from edgekit.core.errors import DataError, UsageError
from edgekit.core.progress import Progress, Silent
from edgekit.core.robustness import RobustModel, Robustness, RobustnessSettings
from edgekit.data.dataset import Source
from edgekit.data.drawing import draw_order
from edgekit.data.opening import open_source
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.evaluate.balance import measure_balance
from edgekit.evaluate.corruption_error import mean_known, paired_difference
from edgekit.evaluate.scoring import score_model
from edgekit.perturb.ball import count_levels
from edgekit.verify.answers import check_classes, describe_labelled
from edgekit.verify.attacking import run_attacks, run_fooling
from edgekit.verify.lineup import Lineup, LineupRequest, open_lineup
from edgekit.verify.matching import match_classes
from edgekit.verify.stress import Corrupted, compare_errors, is_comparable, run_corruptions, run_movements, suggest
from edgekit.verify.trial import Trial


class RobustnessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure, and on what.

    Args:
        lineup: The models.
        data: Dataset, or a folder of class folders; its test pictures are taken.
        settings: How much is measured.
        reference: Another evaluation, whose first model corruption errors are relative to; None for the first model.
        command: For the report.
    """

    lineup: LineupRequest
    data: str
    settings: RobustnessSettings = RobustnessSettings()
    reference: Robustness | None = None
    command: str = ""


class Robust(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Args:
        robustness: The measurements.
        unreadable: One line per picture that could not be read (the first twenty).
        num_unreadable: How many could not be read.
    """

    robustness: Robustness
    unreadable: tuple[str, ...] = ()
    num_unreadable: int = 0


def measure_robustness(request: RobustnessRequest, progress: Progress | None = None) -> Robust:
    """Change pictures in every way, let all models answer, and compare.

    Raises:
        UsageError: Models that cannot be asked or compared, an epsilon outside 0..1, counts below 1, or a reference
            that was measured on something else.
        DataError: Pictures without labels, of other classes, or too small to be corrupted.
    """
    progress = progress or Silent()
    _check(request.settings)
    source = open_source(request.data, "test")
    if source.labels is None:
        raise DataError(f"{source.name} has no labels", hint="robustness needs a folder of class folders")
    lineup = open_lineup(request.lineup)
    source = match_classes(source, lineup.contenders[0].labels)
    for contender in lineup.contenders:
        check_classes(source, contender.labels, contender.num_classes)
    log = UnreadableLog()
    trial, num_wanted = _open_trial(lineup, source, request.settings, log, progress)
    if request.reference is not None:
        _check_reference(request.reference, source.name, trial)
    corrupted = run_corruptions(trial, progress)
    corrupted = msgspec.structs.replace(corrupted, sweeps=compare_errors(trial, corrupted.sweeps, request.reference))
    models = tuple(_sum_up(trial, corrupted, index) for index in range(len(trial.contenders)))
    movements, moved = run_movements(trial, progress)
    attacks, attacked = run_attacks(trial, lineup.gradient_of, progress)
    fooling, fooled = run_fooling(trial, lineup.gradient_of, [one.suggestion for one in models], progress)
    first = request.reference.models[0] if request.reference is not None else models[0]
    robustness = Robustness(
        dataset=describe_labelled(source, len(trial.labels), num_wanted),
        settings=request.settings,
        models=models,
        has_gradient=lineup.gradient_of is not None,
        notes=lineup.notes,
        reference=first.about.given,
        attacks=attacks,
        fooling=fooling,
        movements=movements,
        corruptions=corrupted.sweeps,
        shown=(*attacked, *fooled, *moved, *corrupted.shown),
        environment=describe_environment(),
        command=request.command,
        created=date_of_now(),
        balance=measure_balance(trial.labels, source.class_names),
    )
    return Robust(robustness=robustness, unreadable=tuple(log.reasons), num_unreadable=log.num_pictures)


def _check(settings: RobustnessSettings) -> None:
    for name in ("num_pictures", "num_attacked", "num_steps", "num_queries"):
        if getattr(settings, name) < 1:
            raise UsageError(f"{name} is {getattr(settings, name)}, expected 1 or more")
    if not settings.epsilons:
        raise UsageError("no epsilon to attack with", hint="8/255 is customary for small pictures")
    for epsilon in settings.epsilons:
        count_levels(epsilon)  # raises outside 0..1


def _open_trial(
    lineup: Lineup, source: Source, settings: RobustnessSettings, log: UnreadableLog, progress: Progress
) -> tuple[Trial, int]:
    """Draw and read the pictures, and let every model answer them unchanged."""
    wanted = np.sort(draw_order(len(source), seed=0)[: settings.num_pictures])
    order = draw_order(len(wanted), seed=1)  # folders are in the order of their classes; the attacked come first
    progress.begin("evaluate", len(wanted))
    spec = lineup.contenders[0].spec
    batches = list(iterate_batches(source, spec, batch_size=32, indices=wanted[order], unreadable=log))
    if not batches or source.labels is None:
        raise DataError("no picture to measure robustness on", hint="give a dataset with test pictures by --data")
    pictures = np.concatenate([batch.pictures for batch in batches])
    indices = np.concatenate([batch.indices for batch in batches])
    plain = tuple(contender.predict(pictures) for contender in lineup.contenders)
    progress.advance(len(wanted))
    progress.end()
    trial = Trial(
        contenders=lineup.contenders,
        pictures=pictures,
        labels=source.labels[indices],
        indices=indices,
        class_names=source.class_names,
        plain=plain,
        settings=settings,
    )
    return trial, len(wanted)


def _check_reference(reference: Robustness, dataset: str, trial: Trial) -> None:
    same = (reference.dataset.name, reference.dataset.n) == (dataset, len(trial.labels))
    if not same or not is_comparable(trial.settings, reference):
        raise UsageError(
            f"the reference was measured on {reference.dataset.n} pictures of {reference.dataset.name} "
            f"(seed {reference.settings.seed}), this is on {len(trial.labels)} of {dataset} "
            f"(seed {trial.settings.seed})",
            hint="corruption errors are relative only on the same pictures",
        )


def _sum_up(trial: Trial, corrupted: Corrupted, index: int) -> RobustModel:
    difference, interval = paired_difference(corrupted.scores[0], corrupted.scores[index])
    scores = score_model(trial.plain[index], trial.labels, trial.class_names)
    return RobustModel(
        about=trial.contenders[index].about,
        plain=scores.accuracy,
        corrupted=float(corrupted.scores[index].mean()),
        difference=difference if index else 0.0,
        difference_ci95=interval if index else (0.0, 0.0),
        mean_error=mean_known([sweep.error[index] for sweep in corrupted.sweeps]),
        relative_error=mean_known([sweep.relative_error[index] for sweep in corrupted.sweeps]),
        suggestion=suggest(trial, corrupted, index),
        balanced_accuracy=scores.averages.balanced_accuracy,
        balanced_ci95=scores.averages.balanced_ci95,
    )
