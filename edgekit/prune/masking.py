"""Zeros that hold while a network is fine-tuned."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from edgekit.core.errors import GraphError
from edgekit.prune.sparsity import SparsityPlan, cubic_sparsity, mask_of

UPDATE_EVERY = 50
"""Steps between two looks at the weights while the share of zeros rises."""


class GradualMasks:
    """Sets the smallest weights to zero, more and more of them, and keeps them there.

    The share of zeros rises by the cubic schedule over the first `ramp` of the steps; then the masks are fixed. There
    is no state besides the weights: a weight that is zero stays the smallest, so a resumed run goes on exactly.

    Args:
        plan: Final shares.
        ramp: Share of the training steps over which zeros are added.
    """

    def __init__(self, plan: SparsityPlan, ramp: float = 0.5) -> None:
        self.plan = plan
        self.ramp = ramp
        self._weights: dict[str, nn.Parameter] = {}
        self._masks: dict[str, Tensor] = {}

    def attach(self, module: nn.Module) -> None:
        """Take hold of a network's weights.

        Raises:
            GraphError: The plan names a layer that the network does not have.
        """
        for each in self.plan.layers:
            if each.sparsity > 0:
                try:
                    self._weights[each.layer] = module.get_parameter(f"{each.layer}.weight")
                except AttributeError as error:
                    raise GraphError(
                        f"the sparsity plan names {each.layer!r}, which the model does not have"
                    ) from error
        self._masks = {name: weight.detach() != 0 for name, weight in self._weights.items()}

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Nothing: zeros are added by steps."""

    def before_step(self) -> None:
        """Nothing: what a gradient does to a masked weight is undone after the step."""

    @torch.no_grad()
    def after_step(self, step: int, num_steps: int) -> None:
        """Zero what the step made non-zero; now and then, look for more to zero.

        Args:
            step: Steps done, from 1.
            num_steps: Of the whole run.
        """
        end = max(1, round(self.ramp * num_steps))
        if step <= end and (step % UPDATE_EVERY == 0 or step == end):
            self._update(step / end)
        for name, weight in self._weights.items():
            weight.mul_(self._masks[name])

    def after_epoch(self, epoch: int, num_epochs: int) -> None:
        """Nothing: the masks hold already."""

    def hold(self, state: dict[str, Tensor]) -> None:
        """Zero what is masked in a state dict (averaged weights lag behind their masks), in place."""
        for name, mask in self._masks.items():
            state[f"{name}.weight"] = state[f"{name}.weight"] * mask

    def _update(self, progress: float) -> None:
        shares = {each.layer: each.sparsity for each in self.plan.layers}
        pattern = self.plan.pattern if progress >= 1 else None
        for name, weight in self._weights.items():
            share = cubic_sparsity(shares[name], progress)
            # What is zero already stays: the mask only ever shrinks, except into the exact pattern at the end.
            held = weight * self._masks[name]
            kept = mask_of(held.cpu().numpy(), share, pattern)
            self._masks[name] = torch.from_numpy(kept).to(weight.device)


class ZeroCount(msgspec.Struct, frozen=True, kw_only=True):
    """Zeros of one layer's weight.

    Args:
        layer: Module path.
        num_weights: Of its weight.
        num_zeros: Among them.
    """

    layer: str
    num_weights: int
    num_zeros: int


def count_zeros(module: nn.Module, plan: SparsityPlan) -> tuple[ZeroCount, ...]:
    """Count the zeros of every layer of a plan."""
    counts: list[ZeroCount] = []
    for each in plan.layers:
        weight = module.get_parameter(f"{each.layer}.weight")
        counts.append(ZeroCount(layer=each.layer, num_weights=weight.numel(), num_zeros=int((weight == 0).sum())))
    return tuple(counts)
