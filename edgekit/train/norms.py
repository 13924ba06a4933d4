"""BatchNorm statistics measured anew, on the final weights and on pictures as they are classified."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the common base of all

from edgekit.core.errors import DataError
from edgekit.data.dataset import Source
from edgekit.data.reading import iterate_batches
from edgekit.train.feed import BatchMaker, epoch_generator

NUM_BATCHES = 64
"""Batches that statistics are averaged over; their mean hardly moves with more."""


@torch.no_grad()
def reestimate_norms(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace all running means and variances by their plain average over some batches, in place.

    Running statistics lag behind weights that changed: pruned, shared, or averaged over many steps (Izmailov et al.
    2018, arXiv:1803.05407, algorithm 1, last step). Weights stay as they are, dropout is off, every flag is put back.

    Args:
        module: The network; nothing happens to one without such statistics.
        batches: Normalized pictures [n, c, h, w] on the module's device.

    Raises:
        DataError: No batches.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not norms:
        return
    flags = [(part, part.training) for part in module.modules()]
    momenta = [norm.momentum for norm in norms]
    before = [{name: tensor.clone() for name, tensor in norm.state_dict().items()} for norm in norms]
    module.eval()
    num_batches = 0
    try:
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # torch's word for a cumulative average
        for pictures in batches:
            module(pictures)
            num_batches += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, was_training in flags:
            part.training = was_training
        if num_batches == 0:
            for norm, state in zip(norms, before, strict=True):
                norm.load_state_dict(state)
    if num_batches == 0:
        raise DataError("BatchNorm statistics need at least one batch of pictures")


def plain_batches(
    source: Source, maker: BatchMaker, batch_size: int, seed: int, num_batches: int = NUM_BATCHES
) -> Iterator[Tensor]:
    """Some batches of pictures, drawn once by the seed, not augmented: the same every time.

    Args:
        source: Training pictures.
        maker: Normalizes; says the size.
        batch_size: Pictures per batch; a last, smaller one is left out unless it is the only one.
        seed: Of the draw.
        num_batches: Most batches given.

    Raises:
        DataError: Too many of the pictures are unreadable.
    """
    order = torch.randperm(len(source), generator=epoch_generator(seed, 0)).numpy()[: num_batches * batch_size]
    for number, batch in enumerate(iterate_batches(source, maker.spec, batch_size=batch_size, indices=order)):
        if len(batch.pictures) < batch_size and number > 0:
            return
        pictures = torch.from_numpy(batch.pictures).to(maker.device)
        yield maker.normalize(pictures.permute(0, 3, 1, 2))
