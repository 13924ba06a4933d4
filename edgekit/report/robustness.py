"""What follows from a robustness measurement, in words: the headline, the findings, the table of both. Pure."""

from __future__ import annotations

from edgekit.core.robustness import AttackSweep, Fooling, MovementSweep, RobustModel, Robustness, Suggestion
from edgekit.report.evaluation import imbalance_sentence
from edgekit.report.formatting import DASH, format_percent, format_points, percent_digits, plural, printable

ATTACK_TITLES = {"fgsm": "FGSM", "pgd": "PGD", "square": "square attack"}
FOOLING_WORDS = {"evolved": "evolved from noise", "optimized": "optimized from noise"}


def names(robustness: Robustness) -> tuple[str, ...]:
    """What each model is called, safe to print: the last part of its path, where that tells it from the others.

    Two of one name are numbered.
    """
    given = [printable(model.about.given) for model in robustness.models]
    short = [name.rstrip("/").rpartition("/")[2] or name for name in given]
    if len(set(short)) == len(set(given)):
        given = short
    return tuple(
        name if given.count(name) == 1 else f"{name} ({given[:index].count(name) + 1})"
        for index, name in enumerate(given)
    )


def headline(robustness: Robustness) -> str:
    """The one sentence: what compression did to robustness, or how robust the only model is."""
    first = robustness.models[0]
    digits = percent_digits(robustness.dataset.n)
    if len(robustness.models) == 1:
        return (
            f"Right on {format_percent(first.corrupted, digits)} of corrupted pictures, "
            f"on {format_percent(first.plain.top1, digits)} of unchanged ones"
        )
    return f"On corrupted pictures {_difference(robustness, 1)}"


def reference_name(robustness: Robustness) -> str:
    """What corruption errors are relative to, called as the model is."""
    first = robustness.models[0].about.given
    return names(robustness)[0] if robustness.reference == first else printable(robustness.reference)


def _difference(robustness: Robustness, index: int) -> str:
    """How a model's accuracy under corruption differs from the first one's."""
    model, all_names = robustness.models[index], names(robustness)
    low, high = model.difference_ci95
    spread = f"{format_points(low, 2).removesuffix(' points')} to {format_points(high, 2)}"
    if low <= 0 <= high:
        return (
            f"{all_names[index]} is not told apart from {all_names[0]}: {format_points(model.difference, 2)} "
            f"(95 % interval {spread})"
        )
    word = "loses" if model.difference < 0 else "gains"
    points = format_points(abs(model.difference), 2).removeprefix("+")
    return f"{all_names[index]} {word} {points} against {all_names[0]} (95 % interval {spread})"


def remarks(robustness: Robustness) -> list[str]:
    """What to mind when reading the numbers: classes that are unevenly filled, and balanced accuracy then."""
    balance, digits = robustness.balance, percent_digits(robustness.dataset.n)
    if balance is None or not balance.is_imbalanced:
        return []
    shares = [format_percent(model.balanced_accuracy, digits) for model in robustness.models]
    if len(shares) > 1:
        shares = [f"{name} {share}" for name, share in zip(names(robustness), shares, strict=True)]
    told = f"Balanced accuracy, the mean over classes, on unchanged pictures: {', '.join(shares)}."
    return [f"{imbalance_sentence(balance, digits)} {told} All other shares count every picture alike."]


def sentences(robustness: Robustness) -> list[str]:
    """The findings, one sentence each."""
    said = [f"On corrupted pictures {_difference(robustness, index)}." for index in range(2, len(robustness.models))]
    errors = [model.mean_error for model in robustness.models]
    if any(error is not None for error in errors[1:]) or (errors[0] is not None and abs(errors[0] - 100) > 1e-9):
        values = ", ".join(
            f"{name} {format_error(error)}" for name, error in zip(names(robustness), errors, strict=True)
        )
        said.append(f"Mean corruption error, {reference_name(robustness)} = 100: {values}.")
    said += [_attack_sentence(robustness, sweep) for sweep in robustness.attacks]
    said += [_fooling_sentence(robustness, fooling) for fooling in robustness.fooling]
    if len(robustness.models) > 1 and robustness.movements:
        said.append(_movement_sentence(robustness))
    return said


def telling_place(sweep: AttackSweep) -> int:
    """The epsilon that says most: where the attacked model is nearest to half of what it is right on unchanged."""
    plain = sweep.levels[0].outcomes[sweep.attacked].top1
    places = range(1 if len(sweep.levels) > 1 else 0, len(sweep.levels))
    return min(places, key=lambda place: abs(sweep.levels[place].outcomes[sweep.attacked].top1 - plain / 2))


def _attack_sentence(robustness: Robustness, sweep: AttackSweep) -> str:
    level, all_names = sweep.levels[telling_place(sweep)], names(robustness)
    digits = percent_digits(sweep.n)
    own = format_percent(level.outcomes[sweep.attacked].top1, digits)
    title, own_name = ATTACK_TITLES[sweep.kind], all_names[sweep.attacked]
    title = title[0].upper() + title[1:]
    said = f"{title} on {own_name}, epsilon {epsilon_words(level.amount)}: {own} right"
    others = [
        f"{all_names[index]} {format_percent(outcome.top1, digits)}"
        for index, outcome in enumerate(level.outcomes)
        if index != sweep.attacked
    ]
    return f"{said}; transferred: {', '.join(others)}." if others else f"{said}."


def _fooling_sentence(robustness: Robustness, fooling: Fooling) -> str:
    all_names = names(robustness)
    said = (
        f"Of {plural(fooling.num_tried, 'picture')} {FOOLING_WORDS[fooling.method]}, {fooling.num_fooling} fool "
        f"{all_names[fooling.attacked]} at more than 99 %"
    )
    others = [
        f"{all_names[index]} gives {fooled.num_same} the same class, {fooled.num_sure} at more than 99 %"
        for index, fooled in enumerate(fooling.fooled)
        if index != fooling.attacked and fooling.num_fooling
    ]
    return f"{said}; {'; '.join(others)}." if others else f"{said}."


def _movement_sentence(robustness: Robustness) -> str:
    """The amount of a movement in which some model differs most from the first."""
    differences = [
        (abs(outcome.top1 - level.outcomes[0].top1), sweep, level.amount, index, outcome.top1 - level.outcomes[0].top1)
        for sweep in robustness.movements
        for level in sweep.levels
        for index, outcome in enumerate(level.outcomes)
        if index
    ]
    _, sweep, amount, index, difference = max(differences, key=lambda row: row[0])
    points = format_points(difference, percent_digits(robustness.dataset.n))
    return f"Moved pictures: {names(robustness)[index]} differs most at {movement_words(sweep, amount)}, {points}."


def movement_words(sweep: MovementSweep, amount: float) -> str:
    """An amount of a movement: "rotation 30 degrees", "translation by 0.25 of the side"."""
    title, _, unit = sweep.title.partition(", ")
    if unit.startswith("share of "):
        return f"{title} by {amount:g} {unit.removeprefix('share ')}"
    return f"{title} {amount:g}{'' if unit == 'factor' else f' {unit}'}".replace("-", "\N{MINUS SIGN}")


def epsilon_words(epsilon: float) -> str:
    """An epsilon as people write it.

    >>> epsilon_words(8 / 255), epsilon_words(0.1), epsilon_words(0.0)
    ('8/255', '0.1', '0')
    """
    levels = round(255 * epsilon)
    return f"{levels}/255" if 0 < epsilon < 1 and abs(255 * epsilon - levels) < 1e-6 else f"{epsilon:g}"


def format_error(error: float | None) -> str:
    """A corruption error in percent of the reference's, one decimal; a dash for None.

    >>> format_error(100.0), format_error(None)
    ('100.0', '–')
    """  # noqa: RUF002 - the dash that is printed
    return DASH if error is None else f"{error:.1f}"


def table(robustness: Robustness) -> list[tuple[str, tuple[str, ...]]]:
    """Every summing number, and its value for each model."""
    digits = percent_digits(robustness.dataset.n)
    models = robustness.models
    rows = [
        *_balanced_row(robustness, digits),
        ("unchanged, top-1", tuple(_with_interval(model.plain.top1, model.plain.ci95, digits) for model in models)),
        ("corrupted, top-1", tuple(format_percent(model.corrupted, digits) for model in models)),
        ("mean corruption error", tuple(format_error(model.mean_error) for model in models)),
        ("relative mean corruption error", tuple(format_error(model.relative_error) for model in models)),
    ]
    for sweep in robustness.attacks:
        rows += _attack_rows(robustness, sweep)
    for fooling in robustness.fooling:
        cells = tuple(f"{fooled.num_sure} of {fooling.num_fooling}" for fooled in fooling.fooled)
        rows.append((f"fooled at > 99 %, {fooling.method}", cells))
    return [*rows, *_suggestion_rows(models)]


def _balanced_row(robustness: Robustness, digits: int) -> list[tuple[str, tuple[str, ...]]]:
    """Balanced accuracy, where the classes are so uneven that it comes first."""
    if robustness.balance is None or not robustness.balance.is_imbalanced:
        return []
    known = [(model.balanced_accuracy, model.balanced_ci95) for model in robustness.models]
    cells = (DASH if mean is None or ci95 is None else _with_interval(mean, ci95, digits) for mean, ci95 in known)
    return [("unchanged, balanced accuracy", tuple(cells))]


def _attack_rows(robustness: Robustness, sweep: AttackSweep) -> list[tuple[str, tuple[str, ...]]]:
    """One row for the telling epsilon. Square attacks share a row: each model's own."""
    digits = percent_digits(sweep.n)
    if sweep.kind != "square":
        level = sweep.levels[telling_place(sweep)]
        title = f"{ATTACK_TITLES[sweep.kind]} {epsilon_words(level.amount)}"
        suffix = " (others: transferred)" if len(robustness.models) > 1 else ""
        return [(f"{title}{suffix}", tuple(format_percent(outcome.top1, digits) for outcome in level.outcomes))]
    if sweep.attacked:
        return []
    place = telling_place(sweep)
    own = [each for each in robustness.attacks if each.kind == "square"]
    cells = tuple(format_percent(each.levels[place].outcomes[each.attacked].top1, digits) for each in own)
    return [(f"square attack {epsilon_words(sweep.levels[place].amount)}, on each itself", cells)]


def _suggestion_rows(models: tuple[RobustModel, ...]) -> list[tuple[str, tuple[str, ...]]]:
    each = [model.suggestion for model in models]
    return [
        ("suggested temperature", tuple(f"{one.temperature:.2f}" for one in each)),
        ("calibration error, before and after it", tuple(_errors(one) for one in each)),
        (
            "suggested threshold of unknown",
            tuple(DASH if one.threshold is None else threshold_words(one) for one in each),
        ),
        ("accepted: unchanged, corrupted", tuple(_accepted(one) for one in each)),
    ]


def threshold_words(suggestion: Suggestion) -> str:
    """The threshold with three decimals, rounded so that the chosen picture stays accepted; a dash without one."""
    if suggestion.threshold is None:
        return DASH
    return f"{int(suggestion.threshold * 1000) / 1000:.3f}"


def suggestion_sentence(suggestion: Suggestion, name: str) -> str:
    """What to set, and what it does."""
    target = format_percent(suggestion.target, 0)
    if suggestion.threshold is None:
        return f"{name}: no threshold makes {target} of the accepted answers right on half corrupted pictures."
    if suggestion.threshold == 0:
        return f"{name}: no threshold is needed; {target} of all answers are right on half corrupted pictures."
    return (
        f"{name}: below a confidence of {threshold_words(suggestion)}, answer unknown. Of what is accepted, "
        f"{format_percent(suggestion.accepted_right, 1)} is right; accepted are "
        f"{format_percent(suggestion.accepted_plain, 1)} of unchanged and "
        f"{format_percent(suggestion.accepted_corrupted, 1)} of corrupted pictures."
    )


def _errors(one: Suggestion) -> str:
    return f"{format_percent(one.error_plain, 1)}, {format_percent(one.error_scaled, 1)}"


def _accepted(one: Suggestion) -> str:
    if one.threshold is None:
        return DASH
    return f"{format_percent(one.accepted_plain, 1)}, {format_percent(one.accepted_corrupted, 1)}"


def _with_interval(share: float, ci95: tuple[float, float], digits: int) -> str:
    low, high = (format_percent(bound, digits).removesuffix(" %") for bound in ci95)
    return f"{format_percent(share, digits)} ({low} to {high})"
