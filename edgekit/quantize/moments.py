"""Second moments of what layers multiply their weights with, in constant memory: what rounding weighs errors by.

A layer turns columns x (its input at one output position, im2col) into W x + b. When earlier layers are quantized it
sees x' instead, and its rounded weights Q answer Q x' + b'. The mean squared difference to what the float network
computes needs no pictures any more once the moments of x and x' are known (Frantar and Alistarh 2022, section 3, with
the float network's x as in Nagel et al. 2020, section 3.4): over all biases the best is b' = b + W E[x] - Q E[x'], and

    E |W x + b - Q x' - b'|^2 = tr((V - Q) H (V - Q)') + what no weights can make good,

with H the covariance of x' and V = W C H^-1 the least-squares weights, C the covariance of x with x'.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import repeat

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from edgekit.core.errors import QuantizationError
from edgekit.core.graph import Node
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.walk import Walk

Moments64 = npt.NDArray[np.float64]

MAX_POSITIONS = 128
FEWEST_POSITIONS = 32
"""Output positions per picture that are drawn, neighbouring ones being alike: a quarter of the layer's inputs, within
these bounds. A depthwise layer has nine inputs, and thousands of columns from 256 pictures tell its moments well."""


MAX_INPUTS = 6144
"""Layers of more inputs (the first dense layer of AlexNet and VGG) would have matrices of gigabytes: they get none."""


class LayerMoments(msgspec.Struct, frozen=True, kw_only=True):
    """Moments of one layer's columns, means over pictures and drawn positions.

    Args:
        covariance: float64 [groups, inputs, inputs], of the quantized network's columns x'.
        cross: float64 [groups, inputs, inputs], covariance of the float network's x (rows) with x' (columns).
        mean: float64 [groups, inputs], of x'.
        float_mean: float64 [groups, inputs], of x.
        num_samples: Columns that were looked at: pictures times drawn positions.
    """

    covariance: Moments64
    cross: Moments64
    mean: Moments64
    float_mean: Moments64
    num_samples: int


def measure_moments(
    plain: Walk,
    quantized: Walk | None,
    layers: Collection[str],
    *,
    seed: int = 0,
    num_positions: int | None = None,
) -> dict[str, LayerMoments]:
    """Run both networks as far as the last of some layers, and gather the moments of what they read.

    Args:
        plain: Pictures on their way through the float network.
        quantized: The same pictures on their way through the network with everything quantized so far; None for the
            float network once more.
        layers: Names of the layers wanted; those of later calls must not come before them.
        seed: Which positions are drawn.
        num_positions: How many, per picture; None for what the layer's size asks for (`MAX_POSITIONS`).

    Returns:
        By layer name; layers of more than `MAX_INPUTS` inputs are left out.

    Raises:
        QuantizationError: No pictures, or an input that is not finite; names the layer.
    """
    generator = torch.Generator().manual_seed(seed)
    nodes = plain.network.graph.nodes
    sizes = {name: plain.network.weight(name)[0].numel() for name in layers}
    indices = [index for index, node in enumerate(nodes) if sizes.get(node.name, MAX_INPUTS + 1) <= MAX_INPUTS]
    if not indices:
        return {}
    sums = {nodes[index].name: _Sums(plain.network, nodes[index], num_positions) for index in indices}
    others = repeat(None) if quantized is None else quantized.before(indices[0])
    for known, other in zip(plain.before(indices[0]), others, strict=quantized is not None):
        for each in sums.values():
            each.draw_positions(generator)
        columns = other_columns = _columns(plain.network, known, indices, sums)
        if quantized is not None and other is not None:
            other_columns = _columns(quantized.network, other, indices, sums)
        for name, each in sums.items():
            each.add(columns[name], other_columns[name])
    return {name: each.result() for name, each in sums.items()}


def _columns(
    network: GraphNetwork, known: dict[str, Tensor], indices: Sequence[int], sums: Mapping[str, _Sums]
) -> dict[str, Tensor]:
    """Columns of the layers at some nodes for one batch; the last of them is not computed any more."""
    found: dict[str, Tensor] = {}

    def keep(node: Node, x: Tensor) -> None:
        if node.name in sums:
            found[node.name] = sums[node.name].columns(x)

    with torch.inference_mode():
        values = network.run(known, indices[0], indices[-1], keep)
        last = network.graph.nodes[indices[-1]]
        keep(last, values[last.inputs[0]])
    return found


class _Sums:
    """Running sums of one layer; shifted by the first batch's mean, so that covariances do not cancel."""

    def __init__(self, network: GraphNetwork, node: Node, num_positions: int | None) -> None:
        self.node = node
        weight = network.weight(node.name)
        self.groups = node.int("group") if node.op == "Conv" else 1
        self.kernel = tuple(weight.shape[2:])
        self.size = int(weight[0].numel())
        self.num_drawn = num_positions or min(MAX_POSITIONS, max(FEWEST_POSITIONS, self.size // 4))
        shape = network.graph.shapes[node.output]
        self.map = (shape[2], shape[3]) if node.op == "Conv" else (1, 1)
        self.shift: Tensor | None = None
        self.positions = torch.zeros(1, dtype=torch.int64)
        zeros = torch.zeros(self.groups, self.size, self.size, dtype=torch.float64)
        self.square, self.cross = zeros, zeros.clone()
        self.sum = torch.zeros(self.groups, self.size, dtype=torch.float64)
        self.float_sum = self.sum.clone()
        self.num_columns = 0

    def draw_positions(self, generator: torch.Generator) -> None:
        """Draw output positions, the same for every picture of a batch and for both networks."""
        num_positions = self.map[0] * self.map[1]
        self.positions = torch.randperm(num_positions, generator=generator)[: self.num_drawn]

    def columns(self, x: Tensor) -> Tensor:
        """Columns [groups, n * positions, inputs], inputs in the order of `weight[0]`."""
        if self.node.op == "Gemm":
            return x.reshape(1, -1, self.size)
        top, left, bottom, right = self.node.ints("pads")
        strides, dilations = self.node.ints("strides"), self.node.ints("dilations")
        if top or left or bottom or right:
            x = functional.pad(x, (left, right, top, bottom))
        rows = torch.div(self.positions, self.map[1], rounding_mode="floor") * strides[0]
        cols = self.positions % self.map[1] * strides[1]
        taps = [
            x[:, :, rows + i * dilations[0], cols + j * dilations[1]]
            for i in range(self.kernel[0])
            for j in range(self.kernel[1])
        ]
        stacked = torch.stack(taps, dim=-1)  # [n, channels, positions, taps]
        n, channels, num_positions, num_taps = stacked.shape
        grouped = stacked.reshape(n, self.groups, channels // self.groups, num_positions, num_taps)
        return grouped.permute(1, 0, 3, 2, 4).reshape(self.groups, n * num_positions, self.size)

    def add(self, plain: Tensor, quantized: Tensor) -> None:
        if not bool(torch.isfinite(quantized).all() and torch.isfinite(plain).all()):
            raise QuantizationError(
                f"layer {self.node.name}: its input on a calibration picture is not finite",
                hint="the checkpoint is damaged, or its training diverged",
            )
        if self.shift is None:
            self.shift = plain.mean(1, keepdim=True)
        plain, quantized = plain - self.shift, quantized - self.shift
        self.square += (quantized.transpose(1, 2) @ quantized).double()
        self.cross += (plain.transpose(1, 2) @ quantized).double()
        self.sum += quantized.sum(1, dtype=torch.float64)
        self.float_sum += plain.sum(1, dtype=torch.float64)
        self.num_columns += plain.shape[1]

    def result(self) -> LayerMoments:
        if self.shift is None:
            raise QuantizationError(f"layer {self.node.name}: no calibration pictures")
        n = self.num_columns
        mean, float_mean = self.sum / n, self.float_sum / n
        shift = self.shift[:, 0].double()
        return LayerMoments(
            covariance=(self.square / n - mean[:, :, None] * mean[:, None, :]).numpy(),
            cross=(self.cross / n - float_mean[:, :, None] * mean[:, None, :]).numpy(),
            mean=(mean + shift).numpy(),
            float_mean=(float_mean + shift).numpy(),
            num_samples=n,
        )
