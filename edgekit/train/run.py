"""From a recipe to a trained run folder."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.core.errors import DataError
from edgekit.core.history import EpochRow
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Progress
from edgekit.core.recipe import Recipe
from edgekit.core.storage import write_bytes
from edgekit.data.memory import MemorySource
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard, save_checkpoint
from edgekit.models.zoo import build_model
from edgekit.train.feed import BatchMaker, MemoryFeed
from edgekit.train.loop import Hooks, Trainer

CHECKPOINT_NAME = "checkpoint.safetensors"
STATE_NAME = "train_state.safetensors"
HISTORY_NAME = "history.json"
VALIDATION_BATCH = 500


class TrainedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What training made.

    Args:
        run_dir: Run folder.
        checkpoint_path: Weights, with their card beside them.
        card: The card.
        history: One row per epoch.
    """

    run_dir: Path
    checkpoint_path: Path
    card: CheckpointCard
    history: list[EpochRow]


def choose_device() -> torch.device:
    """The best device at hand: CUDA, then MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def validate_on(source: MemorySource, maker: BatchMaker):
    """A function that measures mean cross-entropy and top-1 (0..1) of a module on a source."""
    if source.labels is None:
        raise DataError(f"{source.name} ({source.split}) has no labels")
    pictures = torch.from_numpy(np.ascontiguousarray(source.pictures))
    labels = torch.from_numpy(source.labels)

    @torch.inference_mode()
    def validate(module: nn.Module) -> tuple[float, float]:
        loss, num_right = 0.0, 0
        for start in range(0, len(labels), VALIDATION_BATCH):
            batch = pictures[start : start + VALIDATION_BATCH].to(maker.device).permute(0, 3, 1, 2)
            target = labels[start : start + VALIDATION_BATCH].to(maker.device)
            logits = module(maker.normalize(batch)).float()
            loss += float(functional.cross_entropy(logits, target, reduction="sum"))
            num_right += int((logits.argmax(1) == target).sum())
        return loss / len(labels), num_right / len(labels)

    return validate
