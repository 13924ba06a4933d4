"""From channel scores to a `PrunePlan`. Pure: nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from edgekit.core.errors import RecipeError
from edgekit.core.graph import Graph
from edgekit.prune.channel_map import ChannelMap, Units, map_channels
from edgekit.prune.cutting import cut_graph, kept_places
from edgekit.prune.importance import Scores, magnitude, score_units
from edgekit.prune.parts import Prunable, choose_evenly, couple
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

    Every group loses the same share of its channels, those that matter least. Where groups must stay divided into
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
    prunable = _groups(channels, config)
    removed: set[int] = set()
    for places, partitions in couple(prunable, channels.partitions):
        groups = [prunable[place] for place in places]
        if partitions:
            removed |= choose_evenly(groups, partitions, unit_scores, config.pruning_ratio, config.round_to)
        else:
            for group in groups:
                removed |= _choose(group, unit_scores, config)
    cuts = _cuts(channels, removed)
    smaller = cut_graph(graph, channels, removed)
    return PrunePlan(
        pruning_ratio=config.pruning_ratio,
        round_to=config.round_to,
        groups=tuple(_pruned(group, removed, config) for group in prunable),
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


def _groups(channels: ChannelMap, config: ChannelPruning) -> list[Prunable]:
    """Units by the set of layers that make them, in order of execution."""
    makers: dict[int, dict[str, None]] = {}
    for layer, units in channels.outputs.items():
        for unit in units.tolist():
            makers.setdefault(unit, {})[layer] = None
    groups: dict[tuple[str, ...], list[int]] = {}
    for unit, layers in makers.items():
        groups.setdefault(tuple(layers), []).append(unit)
    return [
        Prunable(
            layers=layers,
            widths=_widths(channels.outputs[layers[0]], units),
            reason=_reason(channels, layers, units, config),
        )
        for layers, units in groups.items()
    ]


def _widths(outputs: Units, units: Sequence[int]) -> dict[int, int]:
    """Channels of one layer that each unit stands for: several where a shuffle ties the places of its groups."""
    present, counts = np.unique(outputs, return_counts=True)
    width = dict(zip(present.tolist(), counts.tolist(), strict=True))
    return {unit: width[unit] for unit in units}


def _reason(channels: ChannelMap, layers: Sequence[str], units: Sequence[int], config: ChannelPruning) -> str | None:
    """Why a group stays as it is, None when it need not."""
    ignored = [layer for layer in layers if layer in config.ignored_layers]
    if ignored:
        return f"{ignored[0]} is ignored"
    return next((channels.frozen[unit] for unit in units if unit in channels.frozen), None)


def _choose(group: Prunable, scores: Mapping[int, float], config: ChannelPruning) -> set[int]:
    """The least important units of a group, as many as the ratio allows and rounding wants; something always stays."""
    if group.reason is not None:
        return set()
    order = sorted(group.widths, key=lambda unit: scores[unit])
    total, round_to = group.num_channels, config.round_to
    kept = total - np.cumsum([0, *(group.widths[unit] for unit in order)])
    allowed = np.flatnonzero((kept >= 1) & (total - kept <= config.pruning_ratio * total + 1e-9)).tolist()
    rounded = [count for count in allowed if kept[count] % round_to == 0 and kept[count] >= min(round_to, total)]
    # Where no multiple is in reach, the group's widths are none to begin with.
    return set(order[: (rounded or allowed)[-1]])


def _pruned(group: Prunable, removed: set[int], config: ChannelPruning) -> PrunedGroup:
    num_removed = sum(width for unit, width in group.widths.items() if unit in removed)
    reason = group.reason
    if reason is None and not num_removed and config.pruning_ratio:
        reason = f"its next narrower width is beyond {config.pruning_ratio:g}"
    return PrunedGroup(
        layers=group.layers,
        num_channels=group.num_channels,
        num_kept=group.num_channels - num_removed,
        reason=reason,
    )


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
