"""Attacks on the float model and on the files themselves, and pictures of nothing that they are sure about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.core.progress import Progress
from edgekit.core.robustness import AttackKind, AttackSweep, Fooled, Fooling, FoolingMethod, ShownPicture, Suggestion
from edgekit.evaluate.probabilities import to_probabilities
from edgekit.perturb.ball import count_levels
from edgekit.perturb.fooling import FoolingPictures, evolve_fooling, optimize_fooling
from edgekit.perturb.gradient import LossGradient, fgsm, pgd
from edgekit.perturb.square import square_attack
from edgekit.verify.answers import Logits
from edgekit.verify.png import encode_png
from edgekit.verify.trial import Change, Pictures, Trial, judge_level, name_answer, show_one

SURE = 0.99
"""Confidence above which a picture of nothing fools."""
TITLES: dict[AttackKind, str] = {
    "fgsm": "FGSM, one step along the gradient",
    "pgd": "PGD, many steps along the gradient",
    "square": "square attack, answers only",
}
_CHUNK = 50
_MAX_STEPS = 200
"""Gradient steps that a fooling picture may take."""


def run_attacks(
    trial: Trial, gradient_of: LossGradient | None, progress: Progress
) -> tuple[tuple[AttackSweep, ...], tuple[ShownPicture, ...]]:
    """FGSM and PGD on the first model, where it has a gradient, and the square attack on each.

    Raises:
        UsageError: An epsilon outside 0..1.
    """
    sweeps, shown = [], []
    if gradient_of is not None:
        for kind in ("fgsm", "pgd"):
            sweep, picture = _sweep(trial, kind, 0, gradient_of, progress)
            sweeps.append(sweep)
            shown.append(picture)
    for index in range(len(trial.contenders)):
        sweep, picture = _sweep(trial, "square", index, None, progress)
        sweeps.append(sweep)
        shown.append(picture)
    return tuple(sweeps), tuple(shown)


def _sweep(
    trial: Trial, kind: AttackKind, index: int, gradient_of: LossGradient | None, progress: Progress
) -> tuple[AttackSweep, ShownPicture]:
    """One attack on one model at 0 and at every epsilon, and a picture: where nearest to half are answered right."""
    rows = np.arange(min(trial.settings.num_attacked, len(trial.pictures)))
    epsilons = sorted({0.0, *trial.settings.epsilons})
    progress.begin(kind, len(epsilons) * len(rows))
    levels, changes = [], []
    for epsilon in epsilons:
        parts = [
            _attack(trial, kind, index, gradient_of, (epsilon, rows[start : start + _CHUNK], progress))
            for start in range(0, len(rows), _CHUNK)
        ]
        changed = np.concatenate(parts)
        given = trial.contenders[index].about.given.rstrip("/").rpartition("/")[2]
        against = f" against {given}" if len(trial.contenders) > 1 else ""
        change = Change(
            section="attacks",
            title=f"{TITLES[kind]}{against}",
            amount=epsilon,
            words=f"epsilon {epsilon_words(epsilon)}",
            pictures=changed,
            asked=trial.ask(changed),
        )
        levels.append(judge_level(trial, change))
        changes.append(change)
    progress.end()
    places = range(1 if len(levels) > 1 else 0, len(levels))  # unchanged pictures show nothing
    nearest = min(places, key=lambda place: abs(levels[place].outcomes[index].top1 - 0.5))
    sweep = AttackSweep(kind=kind, attacked=index, n=len(rows), levels=tuple(levels))
    return sweep, show_one(trial, changes[nearest])


def _attack(
    trial: Trial,
    kind: AttackKind,
    index: int,
    gradient_of: LossGradient | None,
    job: tuple[float, np.ndarray, Progress],
) -> Pictures:
    epsilon, rows, progress = job
    pictures, labels = trial.pictures[rows], trial.labels[rows]
    # The same randomness for every model: equal models are attacked equally.
    rng = trial.rng(f"{kind} {count_levels(epsilon)} {rows[0]}")
    if gradient_of is None:
        changed = square_attack(
            trial.contenders[index].predict, pictures, labels, epsilon, trial.settings.num_queries, rng
        )
    elif kind == "fgsm":
        changed = fgsm(gradient_of, pictures, labels, epsilon)
    else:
        changed = pgd(gradient_of, pictures, labels, epsilon, num_steps=trial.settings.num_steps, rng=rng)
    progress.advance(len(rows))
    return changed


def epsilon_words(epsilon: float) -> str:
    """An epsilon as people write it.

    >>> epsilon_words(8 / 255), epsilon_words(0.1), epsilon_words(0)
    ('8/255', '0.1', '0')
    """
    levels = count_levels(epsilon)
    return f"{levels}/255" if 0 < epsilon < 1 and abs(255 * epsilon - levels) < 1e-6 else f"{epsilon:g}"


def run_fooling(
    trial: Trial, gradient_of: LossGradient | None, suggestions: Sequence[Suggestion], progress: Progress
) -> tuple[tuple[Fooling, ...], tuple[ShownPicture, ...]]:
    """Make pictures of nothing that the first model is sure of, and show them to all.

    Args:
        trial: Models and pictures.
        gradient_of: Of the first model; None to evolve alone.
        suggestions: Of each model: how many its threshold keeps out.
        progress: Shows how far it is.
    """
    settings, shape = trial.settings, trial.pictures.shape[1:]
    if settings.num_fooling < 1:
        return (), ()
    progress.begin("fooling", settings.num_generations + 1)

    def predict(pictures: Pictures) -> Logits:
        progress.advance()
        return trial.contenders[0].predict(pictures)

    rng = trial.rng("evolved")
    evolved = evolve_fooling(predict, shape, settings.num_fooling, settings.num_generations, rng)
    progress.end()
    made: list[tuple[FoolingMethod, FoolingPictures]] = [("evolved", evolved)]
    if gradient_of is not None:
        progress.begin("fooling", 1)
        targets = np.arange(settings.num_fooling, dtype=np.int64) % trial.contenders[0].num_classes
        made.append(("optimized", optimize_fooling(gradient_of, shape, targets, _MAX_STEPS, trial.rng("optimized"))))
        progress.advance()
        progress.end()
    pairs = [_show_fooling(trial, method, pictures, suggestions) for method, pictures in made]
    return tuple(found for found, _ in pairs), tuple(picture for _, each in pairs for picture in each)


def _show_fooling(
    trial: Trial, method: FoolingMethod, made: FoolingPictures, suggestions: Sequence[Suggestion]
) -> tuple[Fooling, tuple[ShownPicture, ...]]:
    asked = [to_probabilities(logits) for logits in trial.ask(made.pictures)]
    every = np.arange(len(made.targets))
    fools = every[asked[0][every, made.targets] > SURE]
    fooled, certain = [], []
    for probabilities, suggestion in zip(asked, suggestions, strict=True):
        own = probabilities[fools, made.targets[fools]]
        best = probabilities[fools].max(axis=1)
        certain.append(own)
        fooled.append(
            Fooled(
                num_sure=int((own > SURE).sum()),
                num_same=int((own == best).sum()),
                num_unknown=None if suggestion.threshold is None else int((best < suggestion.threshold).sum()),
                confidence=float(own.mean()) if len(fools) else None,
            )
        )
    found = Fooling(method=method, attacked=0, num_tried=len(every), num_fooling=len(fools), fooled=tuple(fooled))
    if not len(fools):
        return found, ()
    logits = trial.ask(made.pictures[fools])
    spread = np.max(certain, axis=0) - np.min(certain, axis=0)
    picked = int(spread.argmax())  # where the models differ most
    words = "evolved from noise" if method == "evolved" else "noise optimized along the gradient"
    picture = ShownPicture(
        section="fooling",
        title=f"{words} to be taken for {trial.class_names[int(made.targets[fools[picked]])]}",
        amount="",
        index=None,
        label=None,
        original_png=None,
        changed_png=encode_png(made.pictures[fools[picked]]),
        plain=(),
        changed=tuple(name_answer(trial, values[picked]) for values in logits),
    )
    return found, (picture,)
