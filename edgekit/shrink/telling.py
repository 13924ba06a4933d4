"""Plans in words, printed before they are carried out."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.prune.plan import PrunePlan
from edgekit.prune.sparsity import SparsityPlan
from edgekit.quantize.share_plan import SharePlan


def tell_channels(plan: PrunePlan) -> Iterator[str]:
    """Every group of channels, and what will be left of parameters and multiply-accumulates."""
    yield f"plan: remove {100 * plan.pruning_ratio:g} % of the channels, widths in multiples of {plan.round_to}"
    for group in plan.groups:
        layers = group.layers[0] if len(group.layers) == 1 else f"{group.layers[0]} and {len(group.layers) - 1} more"
        change = f"{group.num_channels} -> {group.num_kept}" if group.reason is None else f"{group.num_channels}"
        yield f"  {layers}: {change}{'' if group.reason is None else f' (stays: {group.reason})'}"
    yield f"  parameters {_change(*plan.num_params)}; multiply-accumulates {_change(*plan.macs)}"


def tell_sparsity(plan: SparsityPlan) -> Iterator[str]:
    """Zeros per layer."""
    pattern = f", pattern {plan.pattern}" if plan.pattern else ""
    yield f"plan: {100 * plan.sparsity:.1f} % of the weights become zero{pattern}"
    for layer in plan.layers:
        yield f"  {layer.layer}: {100 * layer.sparsity:.1f} % of {layer.num_weights:,}"


def tell_sharing(plan: SharePlan) -> Iterator[str]:
    """Values per layer."""
    yield f"plan: {len(plan.shared)} of {len(plan.layers)} layers share their weights"
    for layer in plan.layers:
        sharing = layer.sharing
        groups = f" in each of {sharing.num_groups} groups" if sharing is not None and sharing.num_groups > 1 else ""
        values = "not shared" if sharing is None else f"at most {sharing.num_clusters} values{groups}"
        yield f"  {layer.layer}: {values}"


def _change(before: int, after: int) -> str:
    return f"{before:,} -> {after:,} ({100 * (after / before - 1):+.1f} %)"
