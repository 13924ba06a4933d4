"""Adversarial training: every batch is attacked before the network learns from it.

min over weights of E[max over |d| <= epsilon of loss(x + d)] (Madry et al. 2018, eq. 2.1). The inner maximum is looked
for by signed gradient steps from a random start within epsilon: several (PGD), or a single one that is longer than
epsilon (FGSM with random start; Wong et al. 2020, algorithm 3).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import TrainSection
from edgekit.perturb.gradient import STEP_SHARE
from edgekit.train.augment import Mixed
from edgekit.train.loss import classification_loss

FGSM_SHARE = 1.25
"""Length of the single step in epsilons (Wong et al. 2020, section 4.2)."""


def make_adversary(config: TrainSection, spec: PreprocessSpec, device: torch.device) -> Adversary | None:
    """The attack that a recipe asks for; None where it asks for none.

    Args:
        config: `adversarial`, `adversarial_epsilon`, `adversarial_steps` and `label_smoothing` are read.
        spec: How the training batches are normalized.
        device: Where they lie.
    """
    return None if config.adversarial is None else Adversary(config, spec, device)


class Adversary:
    """Changes normalized training batches to the disadvantage of the network, each value by at most epsilon.

    Args: as `make_adversary`.
    """

    def __init__(self, config: TrainSection, spec: PreprocessSpec, device: torch.device) -> None:
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (spec.mean, spec.std))
        self.lowest, self.highest = (0 - mean) / std, (1 - mean) / std
        self.epsilon = config.adversarial_epsilon / std
        self.num_steps = 1 if config.adversarial == "fgsm" else config.adversarial_steps
        self.step = self.epsilon * (FGSM_SHARE if config.adversarial == "fgsm" else STEP_SHARE / self.num_steps)
        self.smoothing = config.label_smoothing

    def attack(self, answer: Callable[[Tensor], Tensor], pictures: Tensor, target: Mixed) -> Tensor:
        """Pictures near the given ones on which the loss is larger.

        Randomness is torch's own, which the training loop sets every epoch.

        Args:
            answer: The network in eval mode: normalized pictures to float32 logits [n, classes].
            pictures: Normalized float32 [n, c, h, w].
            target: What they show; mixed targets are attacked as they are mixed.

        Returns:
            As `pictures`, detached, of values that pictures within 0..255 have.
        """
        # Mixed and erased pictures are within the range too, so that the attack's bounds never cross.
        lowest = torch.maximum(pictures - self.epsilon, self.lowest)
        highest = torch.minimum(pictures + self.epsilon, self.highest)
        attacked = pictures + self.epsilon * (2 * torch.rand_like(pictures) - 1)
        attacked = torch.clamp(attacked, lowest, highest)
        for _ in range(self.num_steps):
            leaf = attacked.detach().requires_grad_()
            loss = classification_loss(answer(leaf), target, self.smoothing)
            (gradient,) = torch.autograd.grad(loss, leaf)
            attacked = torch.clamp(leaf.detach() + self.step * gradient.sign(), lowest, highest)
        return attacked.detach()
