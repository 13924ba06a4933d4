"""Learning rate and weight averaging."""

from __future__ import annotations

import math

import torch
from torch import nn


def learning_rate_at(step: int, *, peak: float, num_steps: int, num_warmup: int) -> float:
    """Linear warm-up to `peak`, then half a cosine to zero (Loshchilov and Hutter 2017).

    >>> [round(learning_rate_at(s, peak=1.0, num_steps=10, num_warmup=2), 2) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


class WeightAverage:
    """Exponential moving average of weights and BatchNorm statistics.

    The decay warms up as min(decay, (1 + step) / (10 + step)), so that early weights do not linger.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's present state."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = module.state_dict()
        floats = [name for name, tensor in self.shadow.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(  # noqa: SLF001 - the fused form; a loop costs a tenth of a small network's step
            [self.shadow[name] for name in floats], [state[name] for name in floats], 1 - decay
        )
        for name in self.shadow.keys() - set(floats):
            self.shadow[name].copy_(state[name])
