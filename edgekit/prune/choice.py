"""From channel scores to a `PrunePlan`. Pure: nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from scipy.optimize import linear_sum_assignment

from edgekit.core.errors import RecipeError
from edgekit.core.graph import Graph
from edgekit.prune.channel_map import ChannelMap, Units, map_channels
from edgekit.prune.cutting import cut_graph, kept_places
from edgekit.prune.importance import Scores, magnitude, score_units
from edgekit.prune.plan import LayerCut, PrunedGroup, PrunePlan

DEFAULT_ROUND_TO = 8
"""Kernels work on eight channels at a time; narrower remainders cost as much as eight."""


class ChannelPruning(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for.

    Args:
        pruning_ratio: Share of channels to remove from every prunable group, 0 to below 1.
        round_to: Keep multiples of this many channels where possible.
        ignored_layers: Layers whose output channels stay.
    """

    pruning_ratio: float
    round_to: int = DEFAULT_ROUND_TO
    ignored_layers: tuple[str, ...] = ()


def plan_channels(graph: Graph, config: ChannelPruning, scores: Mapping[str, Scores] | None = None) -> PrunePlan:
    """Decide which channels go.

    Every group loses the same share of its channels, those that matter least. Where a group must stay divided into
    equal parts (grouped convolutions), every part loses as many.

    Args:
        graph: The network.
        config: How much.
        scores: Layer name -> [out channels]; None for the magnitude of the weights.

    Raises:
        RecipeError: A ratio that leaves nothing, an unknown layer to ignore.
    """
    _check(graph, config)
    channels = map_channels(graph)
    unit_scores = score_units(channels.outputs, magnitude(graph) if scores is None else scores)
    removed: set[int] = set()
    groups: list[PrunedGroup] = []
    for layers, units in _groups(channels).items():
        reason = _reason(channels, layers, units, config)
        steps = [] if reason else _steps(channels, units, unit_scores)
        if not reason and not steps:
            reason = "its parts cannot be narrowed evenly"
        widths = _widths(channels.outputs[layers[0]], units)
        gone = _chosen(steps, widths, config)
        removed.update(gone)
        if not reason and not gone and config.pruning_ratio:
            reason = f"its next narrower width is beyond {config.pruning_ratio:g}"
        num_channels = sum(widths.values())
        num_kept = num_channels - sum(widths[unit] for unit in gone)
        groups.append(PrunedGroup(layers=layers, num_channels=num_channels, num_kept=num_kept, reason=reason))
    cuts = _cuts(channels, removed)
    smaller = cut_graph(graph, channels, removed)
    return PrunePlan(
        pruning_ratio=config.pruning_ratio,
        round_to=config.round_to,
        groups=tuple(groups),
        cuts=cuts,
        num_params=(graph.num_params, smaller.num_params),
        macs=(graph.num_macs, smaller.num_macs),
    )


def _check(graph: Graph, config: ChannelPruning) -> None:
    if not 0 <= config.pruning_ratio < 1:
        raise RecipeError(
            f"pruning ratio {config.pruning_ratio:g} is out of range, expected 0 to below 1",
            hint="0.3 removes three channels of ten",
        )
    if config.round_to < 1:
        raise RecipeError(f"round_to is {config.round_to}, expected at least 1")
    names = {node.name for node in graph.nodes}
    for layer in config.ignored_layers:
        if layer not in names:
            raise RecipeError(f"ignored layer {layer!r} is not in the model")


def _groups(channels: ChannelMap) -> dict[tuple[str, ...], list[int]]:
    """Units by the set of layers that make them, in order of execution."""
    makers: dict[int, dict[str, None]] = {}
    for layer, units in channels.outputs.items():
        for unit in units.tolist():
            makers.setdefault(unit, {})[layer] = None
    groups: dict[tuple[str, ...], list[int]] = {}
    for unit, layers in makers.items():
        groups.setdefault(tuple(layers), []).append(unit)
    return groups


def _reason(channels: ChannelMap, layers: Sequence[str], units: Sequence[int], config: ChannelPruning) -> str | None:
    """Why a group stays as it is, None when it need not."""
    ignored = [layer for layer in layers if layer in config.ignored_layers]
    if ignored:
        return f"{ignored[0]} is ignored"
    return next((channels.frozen[unit] for unit in units if unit in channels.frozen), None)


def _steps(channels: ChannelMap, units: Sequence[int], scores: Mapping[int, float]) -> list[tuple[int, ...]]:
    """Sets of units that may be removed one after the other, least important first.

    Without partitions a set is one unit. With one, it holds a unit of every part; with two, a unit of every part of
    both, chosen by the assignment of least total score (Kuhn 1955).
    """
    labels = _labels(channels, np.array(units, np.int64))
    if labels is None:
        return []
    order = sorted(units, key=lambda unit: scores[unit])
    if not labels:
        return [(unit,) for unit in order]
    rows, columns = labels[0], labels[-1]
    num_parts = 1 + max(*rows.values(), *columns.values())
    steps: list[tuple[int, ...]] = []
    cells: dict[tuple[int, int], list[int]] = {}
    for unit in reversed(order):  # the least important is popped first
        if unit in rows and unit in columns:
            cells.setdefault((rows[unit], columns[unit]), []).append(unit)
    while True:
        costs = np.full((num_parts, num_parts), np.inf)
        for cell, waiting in cells.items():
            if waiting:
                costs[cell] = scores[waiting[-1]]
        try:
            chosen = linear_sum_assignment(costs)
        except ValueError:  # no assignment: some part has nothing left
            return steps
        steps.append(tuple(cells[int(row), int(column)].pop() for row, column in zip(*chosen, strict=True)))


def _labels(channels: ChannelMap, units: Units) -> list[dict[int, int]] | None:
    """For each distinct partition of a group: unit -> part. Units that lie in several parts unevenly are left out.

    None when the group cannot be narrowed: more than two partitions, of different numbers of parts, or parts in which
    the group has nothing.
    """
    found: list[dict[int, int]] = []
    for partition in channels.partitions:
        counts = np.stack([(partition.parts == unit).sum(1) for unit in units])  # [units, parts]
        if (counts == counts[:, :1]).all():
            continue  # every unit takes as much from every part: nothing to watch
        pure = (counts > 0).sum(1) == 1
        sizes = counts[pure].max(1) if pure.any() else np.zeros(0, np.int64)
        if len(set(sizes.tolist())) != 1 or not (counts[pure] > 0).any(0).all():
            return None
        label = dict(zip(units[pure].tolist(), counts[pure].argmax(1).tolist(), strict=True))
        if label not in found:
            found.append(label)
    if len(found) > 2 or len({max(label.values()) for label in found}) > 1:
        return None
    return found


def _widths(outputs: Units, units: Sequence[int]) -> dict[int, int]:
    """Channels of one layer that each unit stands for: several where a shuffle ties the places of its groups."""
    present, counts = np.unique(outputs, return_counts=True)
    width = dict(zip(present.tolist(), counts.tolist(), strict=True))
    return {unit: width[unit] for unit in units}


def _chosen(steps: Sequence[tuple[int, ...]], widths: Mapping[int, int], config: ChannelPruning) -> set[int]:
    """The first steps, as many as the ratio allows and rounding wants; something always stays.

    Args:
        steps: Units to remove, in order.
        widths: Channels of every unit of the group.
        config: How much.
    """
    if not steps:
        return set()
    total = sum(widths.values())
    kept = total - np.cumsum([0, *(sum(widths[unit] for unit in step) for step in steps)])
    allowed = np.flatnonzero((kept >= 1) & (total - kept <= config.pruning_ratio * total + 1e-9))
    round_to = config.round_to
    even = [count for count in allowed.tolist() if kept[count] % round_to == 0 and kept[count] >= min(round_to, total)]
    # Where only all of them are such a multiple: single channels wait for a higher ratio; steps of several, which meet
    # a multiple by chance, do not.
    is_coarse = len(steps[0]) > 1
    if not even or (even == [0] and is_coarse):
        even = allowed.tolist()
    return {unit for step in steps[: even[-1]] for unit in step}


def _cuts(channels: ChannelMap, removed: set[int]) -> tuple[LayerCut, ...]:
    cuts: list[LayerCut] = []
    for layer, outputs in channels.outputs.items():
        kept_inputs, kept_outputs = (kept_places(each, removed) for each in (channels.inputs[layer], outputs))
        if len(kept_inputs) < len(channels.inputs[layer]) or len(kept_outputs) < len(outputs):
            cuts.append(
                LayerCut(
                    layer=layer, kept_inputs=tuple(kept_inputs.tolist()), kept_outputs=tuple(kept_outputs.tolist())
                )
            )
    return tuple(cuts)
