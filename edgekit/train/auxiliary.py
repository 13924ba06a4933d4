"""Classifiers that hang on inner layers and serve training only (Szegedy et al. 2014, arXiv:1409.4842, section 5)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from edgekit.models.layers import AuxiliaryHead
from edgekit.train.augment import Mixed
from edgekit.train.loss import classification_loss

AUXILIARY_WEIGHT = 0.3
"""What each auxiliary loss counts beside the network's own (section 5)."""


class AuxiliaryLoss:
    """Watches the layers that a network's auxiliary heads hang on, while it trains.

    Args:
        module: The network. Without heads there is nothing to watch.
    """

    def __init__(self, module: nn.Module) -> None:
        heads = [part for part in module.modules() if isinstance(part, AuxiliaryHead)]
        self._taps = [(head, module.get_submodule(head.tap)) for head in heads]
        self._outputs: dict[str, Tensor] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Note what the layers give, for `take`."""
        handles = [layer.register_forward_hook(self._note_for(head)) for head, layer in self._taps]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._outputs.clear()

    def take(self, target: Mixed, smoothing: float) -> Tensor | float:
        """The weighted losses of the heads for the batch that has just gone through; 0 without heads.

        A layer that was pruned gives other channels than its head was made for: the head is left out.
        """
        total: Tensor | float = 0.0
        for head, _ in self._taps:
            maps = self._outputs.pop(head.tap, None)
            if maps is not None and maps.shape[1] == head.in_channels:
                loss = classification_loss(head(maps.float()), target, smoothing)
                total = total + AUXILIARY_WEIGHT * loss
        return total

    def _note_for(self, head: AuxiliaryHead) -> Callable[[nn.Module, Any, Tensor], None]:
        def note(_layer: nn.Module, _inputs: Any, output: Tensor) -> None:  # noqa: ANN401 - as torch types hooks
            self._outputs[head.tap] = output

        return note
