"""What channel pruning will remove, as data: printed first, applied afterwards."""

from __future__ import annotations

import msgspec


class LayerCut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One weighted layer, cut.

    Args:
        layer: Node name; the module path for a torch model.
        kept_inputs: Input channels (features, for a linear layer) that stay, ascending.
        kept_outputs: Output channels that stay, ascending.
    """

    layer: str
    kept_inputs: tuple[int, ...]
    kept_outputs: tuple[int, ...]


class PrunedGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Channels that are decided together.

    Args:
        layers: Layers that make them.
        num_channels: Of each of these layers, in this group.
        num_kept: How many stay.
        reason: Why nothing is removed; None when the group is prunable.
    """

    layers: tuple[str, ...]
    num_channels: int
    num_kept: int
    reason: str | None = None


class PrunePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Channel pruning, decided.

    Args:
        pruning_ratio: Share of channels asked for, of every prunable group.
        round_to: Kept widths are multiples of this where the group allows it.
        groups: Every group, in order of execution.
        cuts: Every weighted layer whose inputs or outputs change.
        num_params: Weights and biases, before and after (BatchNorm folded).
        macs: Multiply-accumulates at batch 1, before and after.
    """

    pruning_ratio: float
    round_to: int
    groups: tuple[PrunedGroup, ...]
    cuts: tuple[LayerCut, ...]
    num_params: tuple[int, int]
    macs: tuple[int, int]
