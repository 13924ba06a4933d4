"""The gradient of a torch network's loss by the pictures it sees. The only file here that needs torch."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.errors import DataError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.perturb.ball import Labels, Logits
from edgekit.perturb.gradient import Floats, LossGradient

_BATCH_PIXELS = 128 * 64 * 64
"""Pixels that go through the network at once, so that large inputs get smaller batches."""


def make_loss_gradient(module: nn.Module, spec: PreprocessSpec) -> LossGradient:
    """A function that gives the loss gradient of a network, normalization included.

    The loss is each picture's own cross-entropy, computed in float64: in float32 the gradient of a confident answer is
    exactly 0 from about 17 on between its logits, and an attack on it would stand still (Carlini and Wagner 2017,
    section 4). Every call puts the network into eval mode; weights and their gradients are not touched.

    Args:
        module: Normalized pictures [n, channels, height, width] to logits [n, classes]; on any device.
        spec: How it wants its pictures: `x = (picture / 255 - mean) / std`.

    Returns:
        Float32 pictures [n, height, width, channels] in 0..255 and int64 labels [n] to the gradient, of the same shape
        and by the same values (not the normalized ones), and the logits. It raises `DataError` for pictures of another
        number of channels, and for labels that are not in the network's classes.
    """
    tensors = itertools.chain(module.parameters(), module.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (spec.mean, spec.std))
    height, width = spec.input_size
    batch_size = max(1, _BATCH_PIXELS // (height * width))

    def gradient_of_batch(pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        pictures.requires_grad_()
        # In float64 and rounded once, as the board normalizes; NHWC permuted is channels-last memory.
        normalized = ((pictures.double() / 255 - mean) / std).float().permute(0, 3, 1, 2)
        logits: Tensor = module(normalized.to(device)).float().cpu()
        if int(labels.max()) >= logits.shape[1] or int(labels.min()) < 0:
            raise DataError(
                f"labels go from {int(labels.min())} to {int(labels.max())}, the network has {logits.shape[1]} classes"
            )
        loss = functional.cross_entropy(logits.double(), labels, reduction="sum")
        return torch.autograd.grad(loss, pictures)[0], logits.detach()

    def gradient_of(pictures: Floats, labels: Labels) -> tuple[Floats, Logits]:
        if pictures.ndim != 4 or pictures.shape[3] != spec.num_channels or not len(pictures):
            raise DataError(
                f"pictures are {list(pictures.shape)}, expected at least one of [height, width, {spec.num_channels}]"
            )
        module.eval()
        parts: list[tuple[Tensor, Tensor]] = []
        with torch.inference_mode(mode=False), torch.enable_grad():
            for start in range(0, len(pictures), batch_size):
                chosen = slice(start, start + batch_size)
                parts.append(
                    gradient_of_batch(
                        torch.tensor(pictures[chosen], dtype=torch.float32), torch.tensor(labels[chosen]).long()
                    )
                )
        gradients, logits = zip(*parts, strict=True)
        return np.ascontiguousarray(torch.cat(gradients).numpy()), torch.cat(logits).numpy()

    return gradient_of
