"""What shrinking takes and gives."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.recipe import Recipe
from edgekit.export.hub import HubModel
from edgekit.prune.plan import PrunePlan
from edgekit.prune.sparsity import SparsityPlan
from edgekit.quantize.share_plan import SharePlan


class ShrinkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be pruned and shared, and how.

    Args:
        recipe: Its sections model, augment, train, finetune, prune and share count.
        data: Dataset or folder of the run.
        work_dir: Where fine-tuning keeps its resumable states and weights.
        resume: Go on from what lies there.
        command: For the checkpoints' cards.
    """

    recipe: Recipe
    data: str
    work_dir: Path
    resume: bool = False
    command: str = ""


class Shrunk(msgspec.Struct, frozen=True, kw_only=True):
    """A smaller float model, and the plans that made it so.

    Args:
        hub: The model.
        checkpoint_dir: Folder with its weights as a checkpoint; None when it came as an ONNX file.
        channels: Channels removed; None when none were asked for.
        sparsity: Zeros; None when none were asked for.
        sharing: Values per layer; None when no sharing was asked for.
        num_epochs: Fine-tuning, over all stages.
        notes: What was done otherwise than one would expect.
    """

    hub: HubModel
    checkpoint_dir: Path | None = None
    channels: PrunePlan | None = None
    sparsity: SparsityPlan | None = None
    sharing: SharePlan | None = None
    num_epochs: int = 0
    notes: tuple[str, ...] = ()


def is_asked(recipe: Recipe) -> bool:
    """Whether a recipe asks for any pruning or sharing."""
    return recipe.prune.channels > 0 or recipe.prune.makes_zeros or recipe.share.is_asked


def name_suffix(recipe: Recipe) -> str:
    """What the default name of a run folder says of pruning and sharing; empty when there is none."""
    prune, share = recipe.prune, recipe.share
    parts: list[str] = []
    if prune.channels:
        parts.append(f"channels{prune.channels:g}")
    if prune.makes_zeros:
        parts.append("zeros2in4" if prune.method == "2:4" else f"zeros{prune.sparsity:g}")
    if share.is_asked:
        parts.append(f"shared{share.conv_bits}.{share.fc_bits}")
    return "".join(f"-{part}" for part in parts)
