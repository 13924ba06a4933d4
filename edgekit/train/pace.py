"""Optimizer and learning rate for a network whose recipe leaves them open."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from torch import nn

from edgekit.core.recipe import TrainSection

Optimizer: TypeAlias = Literal["sgd", "adamw"]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How far each step goes.

    Args:
        optimizer: "sgd" (Nesterov momentum 0.9) or "adamw".
        learning_rate: Peak rate.
        weight_decay: Not applied to biases and norms.
        grad_clip: Largest gradient norm; 0 for none.
    """

    optimizer: Optimizer
    learning_rate: float
    weight_decay: float
    grad_clip: float


NORMALIZED = Pace(optimizer="sgd", learning_rate=0.1, weight_decay=5e-4, grad_clip=0.0)
"""With BatchNorm, whose outputs do not grow with the weights (He et al. 2016)."""
PLAIN = Pace(optimizer="sgd", learning_rate=0.01, weight_decay=5e-4, grad_clip=1.0)
"""Without: the rate of AlexNet, VGG and GoogLeNet. At ten times that LeNet-5 diverges within an epoch."""
ATTENTIVE = Pace(optimizer="adamw", learning_rate=1e-3, weight_decay=0.05, grad_clip=1.0)
"""Transformers (Touvron et al. 2021), whose gradients differ too much between layers for one rate of SGD."""


def choose_pace(asked: TrainSection, network: nn.Module) -> Pace:
    """What the recipe says, and what it leaves open by the kind of network.

    Args:
        asked: None where it is left open. With a rate of its own, gradients are clipped only where it says so.
        network: As it is trained.
    """
    usual = _usual_pace(network)
    if asked.optimizer not in (None, usual.optimizer):
        other = ATTENTIVE if asked.optimizer == "adamw" else PLAIN
        usual = msgspec.structs.replace(usual, learning_rate=other.learning_rate)
    if asked.learning_rate is not None:
        usual = msgspec.structs.replace(usual, grad_clip=0.0)
    given = {name: getattr(asked, name) for name in Pace.__struct_fields__}
    return msgspec.structs.replace(usual, **{name: value for name, value in given.items() if value is not None})


def with_pace(asked: TrainSection, network: nn.Module) -> TrainSection:
    """The section with nothing left open, as it is written into the run folder."""
    return msgspec.structs.replace(asked, **msgspec.structs.asdict(choose_pace(asked, network)))


def _usual_pace(network: nn.Module) -> Pace:
    kinds = {type(layer) for layer in network.modules()}
    if nn.LayerNorm in kinds:
        return ATTENTIVE
    return NORMALIZED if nn.BatchNorm2d in kinds else PLAIN
