"""Weights of few levels swing between two of them while they are trained: damped, or frozen where they swing most.

Nagel et al. 2022, arXiv:2203.11086. A straight-through gradient pushes a latent weight back over the border between two
levels as soon as it crossed it. Networks with few weights per output, depthwise layers above all, never settle.
`OscillationGuard` is a `Constraint` of the training loop: it acts on gradients before, and on weights after a step.
All that it remembers are buffers of the network, so that a resumed training goes on exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import torch
from torch import Tensor, nn

from edgekit.quantize.lsq import SMALLEST_RATIO, LearnedGrid, LearnedWeightGrid, along
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.qat import weight_grids
from edgekit.quantize.reestimation import ResultMean

DEPTHWISE_BITS = 5
"""Depthwise layers are guarded at so many bits or fewer."""
OTHER_BITS = 4
"""Other layers, where asked for, at so many or fewer."""
_MOMENTUM = 0.02
_START_OF_THRESHOLD = 4.0
"""The threshold falls from this multiple of the last one, by a cosine: weights still have to find their place."""


class GuardConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How hard weights are held.

    Args:
        layers: Names of the layers that are guarded.
        damping: Largest weight of the damping loss, reached at the end of the training by a cosine; 0 for none.
        freeze_threshold: Frequency of swings (per step) above which a weight is frozen, at the end; 0 for never.
        keeps_zeros: Whether weights of all layers that begin at level 0 stay there: a file that was small because of
            its zeros stays small.
    """

    layers: tuple[str, ...]
    damping: float = 0.0
    freeze_threshold: float = 0.0
    keeps_zeros: bool = False


def swinging_layers(network: GraphNetwork, *, all_layers: bool = False) -> tuple[str, ...]:
    """Names of the layers of so few bits that their weights are known to swing.

    Args:
        network: From `make_trainable`.
        all_layers: Besides depthwise layers of at most 5 bits, all of at most 4.
    """
    names: list[str] = []
    for name, grid in weight_grids(network).items():
        depthwise = network.graph.is_depthwise(network.layers[name])
        if (depthwise and grid.num_bits <= DEPTHWISE_BITS) or (all_layers and grid.num_bits <= OTHER_BITS):
            names.append(name)
    return tuple(names)


class Swings(nn.Module):
    """What is known of the swings of one layer's weights: buffers in the shape of the weights.

    Attributes:
        level: Integer of the last step, int8.
        direction: Sign of its last change, int8.
        frequency: Moving average of swings per step.
        mean_level: Moving average of the integer.
        frozen: 1 where a weight is held, uint8.
    """

    level: Tensor
    direction: Tensor
    frequency: Tensor
    mean_level: Tensor
    frozen: Tensor

    def __init__(self, levels: Tensor) -> None:
        super().__init__()
        self.register_buffer("level", levels.to(torch.int8))
        self.register_buffer("direction", torch.zeros_like(self.level))
        self.register_buffer("frequency", torch.zeros(levels.shape))
        self.register_buffer("mean_level", levels.float().clone())
        self.register_buffer("frozen", torch.zeros(levels.shape, dtype=torch.uint8))

    @torch.no_grad()
    def update(self, levels: Tensor, threshold: float) -> None:
        """Look at the integers after a step (Nagel et al. 2022, algorithm 1); freeze what swings too often.

        A swing is a change of the integer against the direction of the change before.
        """
        levels = torch.where(self.frozen.bool(), self.level, levels.to(torch.int8))
        change = torch.sign(levels - self.level)
        swung = change * self.direction < 0
        self.frequency.lerp_(swung.float(), _MOMENTUM)
        self.mean_level.lerp_(levels.float(), _MOMENTUM)
        self.direction.copy_(torch.where(change != 0, change, self.direction))
        self.level.copy_(levels)
        if threshold > 0:
            new = (self.frequency > threshold) & ~self.frozen.bool()
            self.level.copy_(torch.where(new, torch.round(self.mean_level).to(torch.int8), self.level))
            self.frozen |= new


class OscillationGuard:
    """Damps and freezes weights that swing, keeps steps positive, and says when results are averaged.

    Args:
        network: From `make_trainable`; the guarded layers' memory is hung into it.
        config: What is held, and how hard.
    """

    def __init__(self, network: GraphNetwork, config: GuardConfig) -> None:
        self.network = network
        self.config = config
        self._progress = 0.0
        self._grids = weight_grids(network)
        self._swings: dict[str, Swings] = {}
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        self._weight_names = {layer: names[id(network.weight(layer))] for layer in config.layers}
        self._ratio_names = {layer: names[id(self._grids[layer].ratio)] for layer in config.layers}
        for layer in config.layers:
            swings = Swings(self._grids[layer].levels(network.weight(layer).detach()))
            self._grids[layer].add_module("swings", swings)
            self._swings[layer] = swings
        self._zeros: dict[str, Tensor] = {}
        if config.keeps_zeros:
            self._zeros = {name: grid.levels(network.weight(name).detach()) == 0 for name, grid in self._grids.items()}
        self._zero_names = {layer: names[id(network.weight(layer))] for layer in self._zeros}

    @property
    def num_frozen(self) -> int:
        """Weights that are held."""
        return sum(int(swings.frozen.sum()) for swings in self._swings.values())

    def attach(self, module: nn.Module) -> None:
        """Nothing to do: it is attached from the beginning, because its memory is part of the network's state."""

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Know how far training is, after a resumed run, too; average results in the last epoch."""
        self._progress = (epoch - 1) / num_epochs
        for module in _result_means(self.network):
            module.is_open = epoch == num_epochs

    @torch.no_grad()
    def before_step(self) -> None:
        """Add the gradient of the damping loss, `damping * sum((w - level * step)^2)` (Nagel et al. 2022)."""
        strength = self.config.damping * _rising(self._progress)
        if strength == 0.0:
            return
        for layer in self.config.layers:
            latent, grid = self.network.weight(layer), self._grids[layer]
            if latent.grad is None:
                continue
            # Of the latent weights, whose gradients are scaled by their unit squared. Beyond the ends the
            # straight-through gradient is none, and nothing swings there.
            unit, end = along(grid.unit, latent), grid.qmax * along(grid.scale(), latent)
            error = latent - grid(latent) / unit
            latent.grad.add_(torch.where((latent * unit).abs() <= end, error, 0.0), alpha=2.0 * strength)

    @torch.no_grad()
    def after_step(self, step: int, num_steps: int) -> None:
        """Keep steps above their least, look for swings, put frozen weights back on their levels."""
        self._progress = step / num_steps
        for ratio in _ratios(self.network):
            ratio.clamp_(min=SMALLEST_RATIO)
        last = self.config.freeze_threshold
        threshold = last * (_START_OF_THRESHOLD + (1.0 - _START_OF_THRESHOLD) * _rising(self._progress))
        for layer, swings in self._swings.items():
            latent, grid = self.network.weight(layer), self._grids[layer]
            swings.update(grid.levels(latent), threshold)
            _hold_frozen(latent, swings, grid.scale() / grid.unit)
        for layer, is_zero in self._zeros.items():
            self.network.weight(layer)[is_zero.to(self.network.weight(layer).device)] = 0.0

    def after_epoch(self, epoch: int, num_epochs: int) -> None:
        """Nothing to do."""

    @torch.no_grad()
    def hold(self, state: dict[str, Tensor]) -> None:
        """Put frozen weights of an averaged state on their levels, in place."""
        for layer, swings in self._swings.items():
            grid, ratio = self._grids[layer], state[self._ratio_names[layer]]
            _hold_frozen(state[self._weight_names[layer]], swings, grid.start * ratio / grid.unit)
        for layer, is_zero in self._zeros.items():
            weight = state[self._zero_names[layer]]
            weight[is_zero.to(weight.device)] = 0.0


def _hold_frozen(latent: Tensor, swings: Swings, step: Tensor) -> None:
    """Put frozen latent weights on their levels, `step` apart."""
    latent.copy_(torch.where(swings.frozen.bool(), swings.level.to(latent) * along(step, latent), latent))


def _rising(progress: float) -> float:
    """From 0 to 1 by half a cosine."""
    return 0.5 * (1.0 - math.cos(math.pi * progress))


def _result_means(network: GraphNetwork) -> Iterable[ResultMean]:
    return (module for module in network.modules() if isinstance(module, ResultMean))


def _ratios(network: GraphNetwork) -> Iterable[nn.Parameter]:
    return (module.ratio for module in network.modules() if isinstance(module, (LearnedGrid, LearnedWeightGrid)))
