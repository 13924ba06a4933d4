"""What the gradients say: which channels the loss would miss, and which weights must be met exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.errors import DataError
from edgekit.models.folded import lone_norms
from edgekit.prune.importance import Scores, normalized

Batch = tuple[Tensor, Tensor]
"""Normalized pictures [n, c, h, w] and labels int64 [n]."""
Loss = Callable[[Tensor, Tensor], Tensor]


def taylor(module: nn.Module, batches: Iterable[Batch]) -> dict[str, Scores]:
    """First-order estimate of what removing a filter does to the loss (Molchanov et al. 2019, arXiv:1906.10771, eq. 8).

    A filter's score is the square of the sum of gradient times weight over its weights, averaged over the batches. In
    evaluation mode: a BatchNorm that normalizes by the batch would make the sum zero, for it undoes any scale.

    Args:
        module: The network; its weights, gradients and flags stay as they are.
        batches: As many as the estimate shall rest on, not augmented.

    Returns:
        Layer path -> [out channels], mean 1 within a layer, as `magnitude` gives them.

    Raises:
        DataError: No pictures.
    """
    sums: dict[str, Scores] = {}
    num_batches = 0
    weights = _layer_weights(module)
    weights |= {name: module.get_parameter(f"{name}.weight") for name in lone_norms(module)}
    for batch in batches:
        for name, (weight, gradient) in _gradients(module, weights, batch, functional.cross_entropy).items():
            change = (weight.double() * gradient.double()).reshape(len(weight), -1).sum(1).square().cpu().numpy()
            sums[name] = sums.get(name, 0.0) + change
        num_batches += 1
    _check_some(num_batches)
    return {name: normalized(total / num_batches) for name, total in sums.items()}


def squared_gradients(
    module: nn.Module, batches: Iterable[Batch], loss: Loss = functional.cross_entropy
) -> dict[str, npt.NDArray[np.float64]]:
    """Mean squared gradient of every weight: the diagonal of the empirical Fisher information.

    To second order, moving a weight by d costs the loss about half of it times d squared (Choi et al. 2017,
    arXiv:1612.01543, eqs. 4 and 5, where it stands for the Hessian's diagonal). Squared picture by picture, in
    evaluation mode: gradients that cancel within a batch count all the same.

    Args:
        module: The network; its weights, gradients and flags stay as they are.
        batches: A few hundred pictures, not augmented; a forward and backward pass is made for each.
        loss: Of logits [1, classes] and labels [1].

    Returns:
        Layer path -> float64, the weight's shape.

    Raises:
        DataError: No pictures.
    """
    sums: dict[str, npt.NDArray[np.float64]] = {}
    num_pictures = 0
    weights = _layer_weights(module)
    for pictures, labels in batches:
        for picture, label in zip(pictures.split(1), labels.split(1), strict=True):
            for name, (_, gradient) in _gradients(module, weights, (picture, label), loss).items():
                square = gradient.double().square().cpu().numpy()
                sums[name] = sums[name] + square if name in sums else square
            num_pictures += 1
    _check_some(num_pictures)
    return {name: total / num_pictures for name, total in sums.items()}


def _layer_weights(module: nn.Module) -> dict[str, Tensor]:
    layers = {name: part for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    return {name: layer.weight for name, layer in layers.items()}


def _gradients(
    module: nn.Module, weights: Mapping[str, Tensor], batch: Batch, loss: Loss
) -> dict[str, tuple[Tensor, Tensor]]:
    """(weight, its gradient) of every layer named that the loss depends on."""
    pictures, labels = batch
    device = next(iter(weights.values())).device
    with evaluation_mode(module), torch.enable_grad():
        value = loss(module(pictures.to(device)), labels.to(device))
        gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    return {
        name: (weight.detach(), gradient)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        if gradient is not None
    }


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Dropout off, BatchNorm by its running statistics; every flag is put back afterwards."""
    flags = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, was_training in flags:
            part.training = was_training


def _check_some(count: int) -> None:
    if count == 0:
        raise DataError("gradients need at least one picture", hint="give batches of labelled training pictures")
