"""Groups whose parts must stay equally wide: how many channels of which kind go is a small integer program.

Units that count alike in every part of every partition are exchangeable but for their importance: they are one *kind*.
With x_k units of kind k removed, a partition stays even when the removed channels, summed over kinds, are as many in
every part. That couples layers: the residual stream of a ShuffleNet is divided differently by every grouped convolution
that reads or writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp

from edgekit.prune.channel_map import Partition, Units

Floats = npt.NDArray[np.float64]
_IMPORTANCE_SHARE = 1e-3
"""Weight of importance in the choice of kinds, beside the number of channels removed."""


class Prunable(msgspec.Struct, frozen=True, kw_only=True):
    """Units that the same layers make.

    Args:
        layers: Those layers.
        widths: Unit -> channels of one layer that it stands for.
        reason: Why all of them stay; None when some may go.
    """

    layers: tuple[str, ...]
    widths: dict[int, int]
    reason: str | None = None

    @property
    def num_channels(self) -> int:
        """Of one layer."""
        return sum(self.widths.values())


def couple(groups: Sequence[Prunable], partitions: Sequence[Partition]) -> list[tuple[list[int], list[Partition]]]:
    """Groups that must be decided together.

    Returns:
        Places of the groups, with the partitions that are no matter of course for them; each group is in one entry.
    """
    owner = {unit: place for place, group in enumerate(groups) for unit in group.widths}
    component = list(range(len(groups)))

    def root(place: int) -> int:
        while component[place] != place:
            place = component[place]
        return place

    touched: list[tuple[int, Partition]] = []
    for partition in partitions:
        units, counts = _counts(partition)
        uneven = (counts != counts[:, :1]).any(1)
        places = sorted({root(owner[unit]) for unit in units[uneven].tolist() if unit in owner})
        for place in places[1:]:
            component[root(place)] = root(places[0])
        if places:
            touched.append((places[0], partition))
    found: dict[int, tuple[list[int], list[Partition]]] = {}
    for place in range(len(groups)):
        found.setdefault(root(place), ([], []))[0].append(place)
    for place, partition in touched:
        found[root(place)][1].append(partition)
    return list(found.values())


def choose_evenly(
    groups: Sequence[Prunable],
    partitions: Sequence[Partition],
    scores: Mapping[int, float],
    pruning_ratio: float,
    round_to: int,
) -> set[int]:
    """As many channels as the ratio allows, the least important of their kind, with every partition left even.

    Kept widths are multiples of `round_to`, unless that would spare more than half of what could go.

    Args:
        groups: Coupled groups.
        partitions: What couples them.
        scores: Importance of every unit.
        pruning_ratio: Largest share of channels removed from each group.
        round_to: Wanted divisor of the channels kept.
    """
    kinds = _kinds(groups, partitions, scores)
    if not kinds:
        return set()
    rounded = _solve(kinds, groups, pruning_ratio, round_to)
    free = _solve(kinds, groups, pruning_ratio, 1)
    chosen = rounded if 2 * _removed(kinds, rounded) >= _removed(kinds, free) else free
    return {unit for kind, count in zip(kinds, chosen, strict=True) for unit in kind.units[:count]}


class _Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Exchangeable units of one group, least important first."""

    group: int
    width: int
    unevenness: tuple[int, ...]
    units: list[int]
    score: float


def _counts(partition: Partition) -> tuple[Units, Units]:
    """The units of a partition, and how often each lies in each part: [units], [units, parts]."""
    units, inverse = np.unique(partition.parts, return_inverse=True)
    counts = np.zeros((len(units), len(partition.parts)), np.int64)
    part = np.repeat(np.arange(len(partition.parts)), partition.parts.shape[1])
    np.add.at(counts, (inverse.reshape(-1), part), 1)
    return units, counts


def _kinds(groups: Sequence[Prunable], partitions: Sequence[Partition], scores: Mapping[int, float]) -> list[_Kind]:
    order = {unit: row for row, unit in enumerate(unit for group in groups for unit in group.widths)}
    columns: list[Units] = [np.zeros((len(order), 0), np.int64)]
    for partition in partitions:
        units, counts = _counts(partition)
        column = np.zeros((len(order), counts.shape[1] - 1), np.int64)
        for unit, differences in zip(units.tolist(), counts[:, 1:] - counts[:, :1], strict=True):
            if unit in order:
                column[order[unit]] = differences
        columns.append(column)
    unevenness = np.unique(np.concatenate(columns, 1), axis=1).tolist()  # partitions that say the same are one
    found: dict[tuple[int, int, tuple[int, ...]], list[int]] = {}
    for place, group in enumerate(groups):
        if group.reason is None:
            for unit, width in group.widths.items():
                found.setdefault((place, width, tuple(unevenness[order[unit]])), []).append(unit)
    return [
        _Kind(
            group=place,
            width=width,
            unevenness=rows,
            units=sorted(units, key=lambda unit: scores[unit]),
            score=float(np.mean([scores[unit] for unit in units])),
        )
        for (place, width, rows), units in found.items()
    ]


def _solve(kinds: Sequence[_Kind], groups: Sequence[Prunable], pruning_ratio: float, round_to: int) -> list[int]:
    """Number of units to remove of each kind; none where rounding makes it impossible."""
    places = sorted({kind.group for kind in kinds})
    num_kinds, num_groups = len(kinds), len(places)
    widths = np.array([kind.width for kind in kinds], np.float64)
    totals = np.array([groups[place].num_channels for place in places], np.float64)
    fewest = np.ceil(np.maximum((1 - pruning_ratio) * totals - 1e-9, 1) / round_to)
    if (fewest > totals // round_to).any():
        return [0] * num_kinds
    # Variables: units removed of each kind, then for each group its kept width in steps of `round_to`.
    even = np.array([kind.unevenness for kind in kinds], np.float64).T
    even = np.concatenate([even, np.zeros((len(even), num_groups))], 1)
    of_group = np.array([[kind.width * (kind.group == place) for kind in kinds] for place in places], np.float64)
    kept = np.concatenate([of_group, round_to * np.eye(num_groups)], 1)
    importance = np.array([kind.score for kind in kinds])
    importance = importance / max(float(importance.max()), 1e-300)
    lower = np.concatenate([np.zeros(num_kinds), fewest])
    upper = np.concatenate([[len(kind.units) for kind in kinds], totals // round_to])
    found = milp(
        c=np.concatenate([-widths * (1 - _IMPORTANCE_SHARE * importance), np.zeros(num_groups)]),
        integrality=np.ones(num_kinds + num_groups),
        bounds=Bounds(lower, upper),  # pyright: ignore[reportArgumentType] - scipy's hints forget arrays
        constraints=[
            LinearConstraint(even, 0, 0),
            LinearConstraint(kept, totals, totals),  # pyright: ignore[reportArgumentType] - likewise
        ],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        return [0] * num_kinds
    return np.rint(found.x[:num_kinds]).astype(np.int64).tolist()


def _removed(kinds: Sequence[_Kind], counts: Sequence[int]) -> int:
    return sum(kind.width * count for kind, count in zip(kinds, counts, strict=True))
