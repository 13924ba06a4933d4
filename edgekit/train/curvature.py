"""Measure the curvature of a trained network's answers, without labels: the network's own answers are sampled.

For the Fisher matrix F = E[g g'] the gradient g is that of -log p(y | x) with y drawn from the network's answer p, not
from the labels (Kunstner et al. 2019, arXiv:1905.12558, section 2). Here y is drawn from a blend of p, p softened, and
the uniform distribution: with p alone, classes that few pictures show would look as if any error in them were free,
and a coarse rounding would promote them.

A convolution's gradient is a sum over positions, and before a global pooling the positions pull the same way. So the
sum is taken per picture before anything is squared; the usual factors (KFAC for convolutions: Grosse and Martens 2016,
arXiv:1602.01407) take positions as independent and found a tenth of the true cost of SqueezeNet's last layer. But a
picture has one such sum and hundreds of positions, whose products make a far better conditioned matrix. So the scale
is that of the sums, and the Hessian a blend of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.curvature import LayerCurvature
from edgekit.core.errors import DataError, UnsupportedOpError

_Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


class CurvatureConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How curvature is measured.

    Args:
        position_share: Share of the Hessian (by trace) from positions taken as independent, the rest being from
            gradients summed per picture.
        max_positions: Positions per picture that are drawn for it; those of the first layers are many and alike.
        soft_share: Share of sampled answers that come from the softened distribution.
        uniform_share: Share that is drawn from all classes alike.
        temperature: Of the softened distribution.
        seed: For the sampled answers and positions.
    """

    position_share: float = 0.5
    max_positions: int = 100
    soft_share: float = 0.4
    uniform_share: float = 0.2
    temperature: float = 2.5
    seed: int = 0


def measure_curvature(
    module: nn.Module, batches: Iterable[Tensor], config: CurvatureConfig | None = None
) -> dict[str, LayerCurvature]:
    """Curvature of every `Conv2d` and `Linear`, by its path in the module.

    One pass forward and backward; the module is left as it was, in eval mode.

    Args:
        module: Answers [n, classes].
        batches: Normalized pictures, float32 [n, channels, height, width].
        config: None takes the defaults.

    Raises:
        UnsupportedOpError: A grouped convolution, whose outputs do not share their inputs; names it.
        DataError: No pictures.
    """
    config = config or CurvatureConfig()
    generator = torch.Generator().manual_seed(config.seed)
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    sums = {name: _Sums(name, layer, config, generator) for name, layer in layers.items()}
    hooks = [layer.register_forward_hook(sums[name].hook()) for name, layer in layers.items()]
    num_pictures = 0
    try:
        module.eval()
        for batch in batches:
            with torch.enable_grad():
                logits = module(batch)
            logits.backward(_sampled_gradient(logits.detach(), config, generator))
            for each in sums.values():
                each.add()
            module.zero_grad()
            num_pictures += len(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not num_pictures:
        raise DataError("no pictures to measure curvature on")
    return {name: each.result(num_pictures) for name, each in sums.items()}


def _sampled_gradient(logits: Tensor, config: CurvatureConfig, generator: torch.Generator) -> Tensor:
    """Gradient of -log p(y) by the logits, p - e_y, for one y per picture drawn from the blend p."""
    hard = functional.softmax(logits, dim=1)
    soft = functional.softmax(logits / config.temperature, dim=1)
    hard_share = 1 - config.soft_share - config.uniform_share
    blend = hard_share * hard + config.soft_share * soft + config.uniform_share / logits.shape[1]
    drawn = torch.multinomial(blend, 1, generator=generator)
    return blend.scatter_add(1, drawn, -torch.ones_like(drawn, dtype=blend.dtype))


class _Sums:
    """Running sums of one layer, and what the current batch left for them."""

    def __init__(
        self, name: str, layer: nn.Conv2d | nn.Linear, config: CurvatureConfig, generator: torch.Generator
    ) -> None:
        if isinstance(layer, nn.Conv2d) and layer.groups != 1:
            raise UnsupportedOpError(f"{name}: a convolution of {layer.groups} groups has no one Hessian")
        if isinstance(layer, nn.Conv2d) and (isinstance(layer.padding, str) or layer.padding_mode != "zeros"):
            raise UnsupportedOpError(f"{name}: expected padding with zeros, given as numbers")
        self._layer = layer
        size = layer.weight[0].numel() + 1
        self._config, self._generator = config, generator
        self._products = torch.zeros(size, size, dtype=torch.float64)
        self._spread = torch.zeros(size, size, dtype=torch.float64)
        self._traces = torch.zeros(layer.weight.shape[0], dtype=torch.float64)
        self._input = torch.empty(0)
        self._gradient: Tensor | None = None

    def hook(self) -> _Hook:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            del module
            self._input = inputs[0].detach().clone()  # the next layer may work in place
            # A hook of the tensor, not retain_grad: that one would follow an activation that works in place.
            output.register_hook(self._keep_gradient)

        return keep

    def _keep_gradient(self, gradient: Tensor) -> None:
        self._gradient = gradient.detach()

    def add(self) -> None:
        """Take in the batch whose gradients have just been computed."""
        if self._gradient is None:  # the layer has no part in the answer
            return
        gradient = self._gradient.reshape(*self._gradient.shape[:2], -1)  # [n, outputs, positions]
        columns = functional.pad(input_columns(self._layer, self._input), (0, 1), value=1.0)
        own = torch.bmm(gradient, columns.reshape(len(gradient), -1, columns.shape[1]))  # per picture: dW and db
        self._traces += own.square().sum((0, 2), dtype=torch.float64)
        rows = own.reshape(-1, own.shape[2])
        self._products += (rows.T @ rows).double()
        weights = gradient.square().sum(1).reshape(-1)
        share = self._config.max_positions / gradient.shape[2]
        if share < 1:
            chosen = torch.nonzero(torch.rand(len(columns), generator=self._generator) < share)[:, 0]
            columns, weights = columns[chosen], weights[chosen]
        self._spread += ((columns * weights[:, None]).T @ columns).double()
        self._input, self._gradient = torch.empty(0), None

    def result(self, num_pictures: int) -> LayerCurvature:
        share = self._config.position_share
        hessian = share * _to_unit_trace(self._spread) + (1 - share) * _to_unit_trace(self._products)
        constant = float(hessian[-1, -1])
        hessian = (hessian + hessian.T) / (2 * constant) if constant > 0 else torch.zeros_like(hessian)
        trace = float(hessian.trace()) or 1.0
        return LayerCurvature(hessian=hessian.numpy(), sensitivity=(self._traces / num_pictures / trace).numpy())


def _to_unit_trace(matrix: Tensor) -> Tensor:
    trace = float(matrix.trace())
    return matrix / trace if trace > 0 else matrix


def input_columns(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    """What a layer multiplies its weights with, [n * positions, inputs], inputs in the order of `layer.weight[0]`."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and not any(layer.padding):
        return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    padding = tuple(map(int, layer.padding))
    windows = functional.unfold(x.contiguous(), layer.kernel_size, layer.dilation, padding, layer.stride)
    return windows.transpose(1, 2).reshape(-1, windows.shape[1])
