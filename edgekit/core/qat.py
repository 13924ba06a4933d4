"""The recipe's section on quantization-aware training."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
_Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
_NotNegative: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
_Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
_ShareBelowOne: TypeAlias = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class QatSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Quantization-aware training, from the integers that quantization without training gives.

    Args:
        epochs: Passes over the training pictures; 0 for none.
        optimizer: "sgd" (Nesterov momentum 0.9) or "adamw".
        learning_rate: Peak rate (of a weight with AdamW: as a share of its channel's largest), after a tenth of the
            first epoch; cosine to zero.
        batch_size: Pictures per step; None for 128, and fewer where there are few pictures.
        weight_decay: Not applied to biases and steps.
        distill_weight: Share of the loss that compares with the float network (Hinton et al. 2015); 1 needs no labels.
        distill_temperature: Softmax temperature of it.
        start: Weights start at their "float" values, within what rounds to the same integers, or on the "grid".
        swinging_layers: Which are damped and frozen: "depthwise" ones of at most 5 bits, or "all" of at most 4, too.
        damping: Weight of the loss that draws their weights to their levels (Nagel et al. 2022); 0 for none.
        freeze_threshold: Swings per step above which a weight is frozen, at the end; 0 for never.
        keep_zeros: Weights that begin at zero stay zero, so that the packed file stays small; None for networks that
            were pruned, and where there is a budget in bytes.
        ema_decay: Exponential moving average of the weights; 0 for none.
        grad_clip: Largest gradient norm; 0 for none.
        seed: Of order and augmentation.
    """

    epochs: _Natural = 0
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: _Positive = 1e-3
    batch_size: _Count | None = None
    weight_decay: _NotNegative = 0.0
    distill_weight: _Share = 1.0
    distill_temperature: _Positive = 1.0
    start: Literal["float", "grid"] = "float"
    swinging_layers: Literal["depthwise", "all"] = "depthwise"
    damping: _NotNegative = 0.0
    freeze_threshold: _NotNegative = 0.02
    keep_zeros: bool | None = None
    ema_decay: _ShareBelowOne = 0.0
    grad_clip: _NotNegative = 0.0
    seed: _Natural = 0
