"""Learning rate and weight averaging."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


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
    """Exponential moving average of weights and BatchNorm statistics of one module.

    The decay warms up as min(decay, (1 + step) / (10 + step)), so that early weights do not linger.

    Args:
        module: The network that is averaged. Its tensors must stay the same objects (`load_state_dict` keeps them).
        decay: Share of the old average kept at each step.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        live = module.state_dict()
        self.shadow = {name: tensor.detach().clone() for name, tensor in live.items()}
        is_float = {name: tensor.is_floating_point() for name, tensor in live.items()}
        # Listed once: building a state dict costs as much as a small network's layer, every step.
        self._floats = [(self.shadow[name], tensor) for name, tensor in live.items() if is_float[name]]
        self._counters = [(self.shadow[name], tensor) for name, tensor in live.items() if not is_float[name]]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the module's present state; `step` counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        shadows, live = zip(*self._floats, strict=True)
        # Fused: a loop over the tensors costs a tenth of a small network's step.
        torch._foreach_lerp_(shadows, live, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        for shadow, counter in self._counters:
            shadow.copy_(counter)

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier average; the tensors must be those of the module."""
        for name, tensor in self.shadow.items():
            tensor.copy_(state[name])
