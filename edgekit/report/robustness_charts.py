"""The curves of a robustness page."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgekit.core.robustness import AttackSweep, ChangeLevel, Robustness
from edgekit.report.line_charts import LineChart, line_chart
from edgekit.report.robustness import ATTACK_TITLES, epsilon_words, format_error, names

_MINUS = "\N{MINUS SIGN}"
_MOST_TICKS = 7


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """The corruptions of one family."""

    name: str
    charts: tuple[LineChart, ...]


def attack_charts(robustness: Robustness) -> tuple[LineChart, ...]:
    """One chart per attack: what each model is right on as epsilon grows (on equal distances)."""
    return tuple(_attack_chart(robustness, sweep) for sweep in robustness.attacks)


def _attack_chart(robustness: Robustness, sweep: AttackSweep) -> LineChart:
    ticks = [(float(place), epsilon_words(level.amount)) for place, level in enumerate(sweep.levels)]
    title = f"{ATTACK_TITLES[sweep.kind]} on {names(robustness)[sweep.attacked]}"
    return line_chart(title, "epsilon", ticks, _curves(robustness, sweep.levels))


def movement_charts(robustness: Robustness) -> tuple[LineChart, ...]:
    """One chart per movement, amounts to scale."""
    charts = []
    for sweep in robustness.movements:
        amounts = [level.amount for level in sweep.levels]
        every = -(-len(amounts) // _MOST_TICKS)
        shown = {amount for place, amount in enumerate(amounts) if place % every == 0}
        ticks = [(amount, f"{amount:g}".replace("-", _MINUS) if amount in shown else "") for amount in amounts]
        title, _, unit = sweep.title.partition(", ")
        charts.append(line_chart(title, unit, ticks, _curves(robustness, sweep.levels)))
    return tuple(charts)


def corruption_families(robustness: Robustness) -> tuple[Family, ...]:
    """One chart per corruption, from the unchanged pictures (0) to severity 5, family by family."""
    found: dict[str, list[LineChart]] = {}
    for sweep in robustness.corruptions:
        ticks = [(0.0, "0"), *((level.amount, f"{level.amount:g}") for level in sweep.levels)]
        curves = [
            (name, [model.plain.top1, *shares])
            for model, (name, shares) in zip(robustness.models, _curves(robustness, sweep.levels), strict=True)
        ]
        errors = [format_error(error) for error in sweep.error[1:]]
        note = f"{'error' if len(errors) == 1 else 'errors'} {', '.join(errors)}" if errors else ""
        found.setdefault(sweep.family, []).append(line_chart(sweep.title, "severity", ticks, curves, note))
    return tuple(Family(name=name, charts=tuple(charts)) for name, charts in found.items())


def _curves(robustness: Robustness, levels: Sequence[ChangeLevel]) -> list[tuple[str, list[float]]]:
    return [(name, [level.outcomes[index].top1 for level in levels]) for index, name in enumerate(names(robustness))]
