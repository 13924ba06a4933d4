"""What a training run remembers of each epoch."""

from __future__ import annotations

import msgspec


class EpochRow(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch of training.

    Args:
        epoch: Counted from 1.
        seconds: Wall time of the epoch, validation included.
        train_loss: Mean loss over the epoch's training batches, as optimized (smoothing and mixing included).
        train_top1: Share of right answers on the training batches, 0..1, augmented (and attacked) as they were learnt
            from; None where targets are mixed.
        val_loss: Mean cross-entropy on the validation pictures; None in an epoch without validation.
        val_top1: Share of right answers on the validation pictures, 0..1; None in an epoch without validation.
        learning_rate: At the end of the epoch.
        images_per_second: Training pictures per second of training time.
    """

    epoch: int
    seconds: float
    train_loss: float
    train_top1: float | None
    val_loss: float | None
    val_top1: float | None
    learning_rate: float
    images_per_second: float
