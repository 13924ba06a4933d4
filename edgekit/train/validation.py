"""Accuracy of a torch module while it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.errors import DataError
from edgekit.data.dataset import Source
from edgekit.data.reading import iterate_batches
from edgekit.train.feed import BatchMaker
from edgekit.train.splits import fit_in_memory

VALIDATION_BATCH = 500
VALIDATION_PIXELS = VALIDATION_BATCH * 64 * 64
"""Pixels of a batch, so that large inputs get smaller batches."""

Validate: TypeAlias = Callable[[nn.Module], tuple[float, float]]


def validate_on(source: Source, maker: BatchMaker) -> Validate:
    """A function that measures mean cross-entropy and top-1 (0..1) of a module in eval mode on a source.

    Pictures in memory move to the device once; files are read anew each time.

    Raises:
        DataError: No labels.
    """
    if source.labels is None:
        raise DataError(f"{source.name} ({source.split}) has no labels")
    height, width = maker.spec.input_size
    batch_size = max(1, min(VALIDATION_BATCH, VALIDATION_PIXELS // (height * width)))
    fitted = fit_in_memory(source, maker.spec)
    held: tuple[Tensor, Tensor] | None = None
    if fitted is not None:
        held = (torch.from_numpy(fitted.pictures.copy()).to(maker.device), torch.tensor(source.labels).to(maker.device))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        if held is not None:
            yield from zip(held[0].split(batch_size), held[1].split(batch_size), strict=True)
            return
        for batch in iterate_batches(source, maker.spec, batch_size=batch_size):
            pictures = torch.from_numpy(batch.pictures).to(maker.device)
            yield pictures, torch.from_numpy(batch.labels).to(maker.device)

    @torch.inference_mode()
    def validate(module: nn.Module) -> tuple[float, float]:
        loss = torch.zeros((), device=maker.device)
        num_right = torch.zeros((), dtype=torch.int64, device=maker.device)
        num_seen = 0
        for pictures, target in batches():
            logits = module(maker.normalize(pictures.permute(0, 3, 1, 2))).float()
            loss += functional.cross_entropy(logits, target, reduction="sum")
            num_right += (logits.argmax(1) == target).sum()
            num_seen += len(target)
        return float(loss) / num_seen, int(num_right) / num_seen

    return validate
