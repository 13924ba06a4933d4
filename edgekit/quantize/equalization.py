"""Cross-layer equalization and high-bias absorption on the float graph (Nagel et al. 2019, arXiv:1906.04721, 4.1).

What a layer divides a channel by, its readers can multiply it by: the answers stay, the ranges that quantization sees
do not. Scales are planned as data (`plan_equalization`), then applied (`apply_equalization`). `channel_flow` says
between which layers.

Two granularities, because it depends on the grids what a good scale is:

- `per_tensor`, the paper's: a channel's range in the layer that makes it and in its readers become the same (eq. 11,
  s = sqrt(r1 / r2)), one pair after the other until nothing moves; through a depthwise layer that ends where all three
  ranges are the cube root of their product.
- `per_channel`: a row of weights has a scale of its own, so what divides a row costs nothing, and what multiplies the
  columns of a reader counts against the other columns of the same row only. There a channel's strength in the
  activation is balanced against its strength among the rows that read it. A depthwise reader has one column per row:
  then only the activation gains, and its channels are made to reach equally far.

A Clip from 0 to 6 does not scale with its channel. Under `per_tensor`, a channel that stays below it on the calibration
pictures, with `headroom` to spare, is scaled as far as it still does; the others keep scale 1, and the free ones are
put on the level of those. Under `per_channel` all channels before a Clip keep scale 1: on TensorFlow's per-channel
MobileNet V2 scaling the free ones cost more than it gained (64 pictures seen; on 120 others the divergence of W6A8,
depthwise and outer layers at 8 bits, rose from 0.024 to 0.031 nats with headroom 3 and to 0.042 with 1.5), because
channels that fire for few classes reach the Clip on other pictures only. Turning the Clips into Relus would free all
channels, but changes the function: the float network then agrees with itself on 79 % of those pictures.

When it pays, divergence in nats before and after. One scale per layer: W8A8 MobileNet V2 0.390 to 0.345; W6A8
SqueezeNet (embedded, 2000 pictures) 0.019 to 0.004. A scale per row, depthwise and outer layers at 8 bits: W4A8
SqueezeNet 0.0098 to 0.0056, but ShuffleNet 0.0054 to 0.0149; W6A8 0.0004 to 0.0006 and 0.0010 to 0.0006. So: for one
scale per layer as a rule; for a scale per row only where a trial on pictures says so.

Absorption (section 4.1.3) takes c = max(0, mean - 3 sigma) off a channel before its Relu and gives it to the biases
behind. BatchNorm is folded on the hub graph, so mean and sigma are those of the calibration pictures, and c is never
more than the least value seen: the answers on those pictures stay as they are. Where a reader pads with zeros nothing
is absorbed: its border would need another bias than its middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import QuantizationError
from edgekit.core.graph import WEIGHTED_OPS, Graph, Node
from edgekit.quantize.channel_flow import FOREIGN, Link, Owners, Reader, find_links
from edgekit.quantize.channel_ranges import ChannelRange, Channels
from edgekit.quantize.ptq import replace_biases, unshare_constants
from edgekit.quantize.weights import require_finite

Weights: TypeAlias = npt.NDArray[np.float64]
Ranges: TypeAlias = Mapping[str, ChannelRange]

MAX_ROUNDS = 100
TOLERANCE = 1e-3
"""Rounds end when no scale moves by a larger share."""

LARGEST_SCALE = 2.0**10
"""Nothing is scaled further, either way: a channel of next to no weights would get an enormous bias."""

NUM_SIGMAS = 3.0
"""Absorbed is what lies this many standard deviations below the mean (Nagel et al. 2019, section 4.1.3)."""


class EqualizationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is balanced against what.

    Args:
        granularity: Of the weight grids to come (module docstring).
        absorb: Move high biases into the layers behind.
        headroom: How many times the largest value seen must fit under a Clip for its channel to be scaled or absorbed;
            at least 1.
    """

    granularity: Literal["per_channel", "per_tensor"] = "per_channel"
    absorb: bool = True
    headroom: float = 1.5


class LinkScale(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to the output channels of one layer.

    Args:
        layer: Node name.
        readers: Layers that make it good.
        scales: float64 [channels], the divisor of each channel's weights and bias.
        absorbed: float64 [channels], what is taken off the bias after that.
    """

    layer: str
    readers: tuple[Reader, ...]
    scales: Channels
    absorbed: Channels


class EqualizationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All scales of a graph.

    Args:
        links: In execution order.
        num_rounds: Rounds over the links until nothing moved.
    """

    links: tuple[LinkScale, ...]
    num_rounds: int


def watched_activations(graph: Graph) -> tuple[str, ...]:
    """Activations whose channels must be watched (`channel_ranges.observe_channels`) to plan."""
    links = find_links(unshare_constants(graph))
    names = [name for link in links for name in (link.output, *(reader.input for reader in link.readers))]
    return tuple(dict.fromkeys(names))


def equalize(graph: Graph, ranges: Ranges | None = None, config: EqualizationConfig | None = None) -> Graph:
    """Plan and apply in one go; see `plan_equalization`."""
    return apply_equalization(graph, plan_equalization(graph, ranges, config))


def plan_equalization(
    graph: Graph, ranges: Ranges | None = None, config: EqualizationConfig | None = None
) -> EqualizationPlan:
    """Choose the scale of every channel, and what is absorbed of it.

    Args:
        graph: Canonical float graph.
        ranges: Activation name -> its channels, for all of `watched_activations(graph)`. None: nothing is absorbed,
            channels that are clipped keep their scale, and the granularity must be per_tensor.
        config: None for the defaults.

    Raises:
        QuantizationError: A weight is not finite, the ranges lack an activation or are of another graph, the headroom
            is below 1, or granularity per_channel without ranges.
    """
    config = config or EqualizationConfig()
    graph = unshare_constants(graph)
    links = find_links(graph)
    _check(config, links, ranges)
    balance = _Balance(graph, links, ranges, config)
    num_rounds, change = 0, np.inf
    while change >= TOLERANCE and num_rounds < MAX_ROUNDS:
        change = max((balance.equalize(link) for link in links), default=0.0)
        num_rounds += 1
    scaled = [
        LinkScale(
            layer=link.layer,
            readers=link.readers,
            scales=balance.scales[link.layer],
            absorbed=_absorbed(link, ranges, config) / balance.scales[link.layer],
        )
        for link in links
    ]
    return EqualizationPlan(links=tuple(scaled), num_rounds=num_rounds)


def apply_equalization(graph: Graph, plan: EqualizationPlan) -> Graph:
    """The graph with new weights and biases, and the same answers up to rounding.

    Args:
        graph: The graph that was planned for. Layers that share a constant get constants of their own.
        plan: From `plan_equalization`.
    """
    graph = unshare_constants(graph)
    nodes = _weighted(graph)
    weights = {name: np.asarray(graph.constants[node.inputs[1]], np.float64) for name, node in nodes.items()}
    biases = {
        name: np.asarray(graph.constants[node.inputs[2]], np.float64)
        for name, node in nodes.items()
        if len(node.inputs) > 2
    }
    for link in plan.links:
        weights[link.layer] = _divide_rows(weights[link.layer], link.scales)
        if link.layer in biases:
            biases[link.layer] = biases[link.layer] / link.scales
        for reader in link.readers:
            factors = _spread(link.scales, reader.owners, foreign=1.0)
            weights[reader.layer] = _multiply_columns(nodes[reader.layer], weights[reader.layer], factors)
    for link in plan.links:
        if not link.absorbed.any():
            continue
        biases[link.layer] = biases.get(link.layer, 0.0) - link.absorbed
        for reader in link.readers:
            kernel = _by_group(nodes[reader.layer], weights[reader.layer]).sum(axis=3)
            shift = _spread(link.absorbed, reader.owners, foreign=0.0).reshape(len(kernel), -1, 1)
            biases[reader.layer] = biases.get(reader.layer, 0.0) + (kernel @ shift).reshape(-1)
    graph, _ = replace_biases(graph, biases)
    changed = {nodes[name].inputs[1]: weight.astype(np.float32) for name, weight in weights.items()}
    return graph.replace(constants={**graph.constants, **changed})


class _Balance:
    """The weights under the scales chosen so far."""

    def __init__(
        self, graph: Graph, links: tuple[Link, ...], ranges: Ranges | None, config: EqualizationConfig
    ) -> None:
        self.graph = graph
        self.ranges = ranges
        self.config = config
        self.nodes = _weighted(graph)
        self.weights: dict[str, Weights] = {}
        for name, node in self.nodes.items():
            weight = np.asarray(graph.constants[node.inputs[1]], np.float64)
            require_finite(weight, node.inputs[1])
            self.weights[name] = weight
        self.scales: dict[str, Channels] = {link.layer: np.ones(link.num_channels) for link in links}

    def equalize(self, link: Link) -> float:
        """Set the scales of one link, given all others; returns the largest change, as a logarithm."""
        source, target = self._strengths(link)
        alive = (source > 0) & (target > 0)
        old = self.scales[link.layer]
        wanted = np.ones(link.num_channels)
        wanted[alive] = old[alive] * np.sqrt(source[alive] / target[alive])
        new = np.clip(self._under_clip(link, wanted, alive), 1 / LARGEST_SCALE, LARGEST_SCALE)
        self.scales[link.layer] = new
        step = new / old
        self.weights[link.layer] = _divide_rows(self.weights[link.layer], step)
        for reader in link.readers:
            factors = _spread(step, reader.owners, foreign=1.0)
            node = self.nodes[reader.layer]
            self.weights[reader.layer] = _multiply_columns(node, self.weights[reader.layer], factors)
        return float(np.abs(np.log(step)).max())

    def _strengths(self, link: Link) -> tuple[Channels, Channels]:
        """What a channel is divided by and what it is multiplied by, both under the scales so far: to be made equal."""
        if self.config.granularity == "per_tensor" or self.ranges is None:
            rows = np.abs(self.weights[link.layer]).reshape(link.num_channels, -1).max(axis=1)
            columns = {reader.layer: self._columns(reader, relative=False) for reader in link.readers}
            return rows, _gather(link, link.readers, columns)
        dense = [reader for reader in link.readers if not self.graph.is_depthwise(self.nodes[reader.layer])]
        if not dense:
            reach = _reach(link, self.ranges) / self.scales[link.layer]
            return reach, (reach > 0) / np.where(reach > 0, reach, 1.0)
        energies = {reader.layer: self.ranges[reader.input].energy for reader in dense}
        columns = {reader.layer: self._columns(reader, relative=True) for reader in dense}
        return np.sqrt(_gather(link, dense, energies)) / self.scales[link.layer], _gather(link, dense, columns)

    def _columns(self, reader: Reader, *, relative: bool) -> Channels:
        """Strength of every input channel of a layer, [input channels].

        Args:
            reader: The layer.
            relative: Root mean square over the rows of a channel's largest weight as a share of the row's largest;
                else the largest weight.
        """
        kernel = np.abs(_by_group(self.nodes[reader.layer], self.weights[reader.layer])).max(axis=3)
        if not relative:
            return kernel.max(axis=1).reshape(-1)
        largest = kernel.max(axis=2, keepdims=True)
        shares = kernel / np.where(largest > 0, largest, 1.0)
        return np.sqrt((shares**2).mean(axis=1)).reshape(-1)

    def _under_clip(self, link: Link, wanted: Channels, alive: npt.NDArray[np.bool_]) -> Channels:
        """The scales that keep every channel below the Clip if it is there now, and alone if it is not."""
        if not np.isfinite(link.limit):
            return wanted
        if self.ranges is None or self.config.granularity == "per_channel":
            return np.ones(link.num_channels)
        highest = np.maximum(self.ranges[link.output].highest, 0.0) * self.config.headroom
        is_fixed = highest >= link.limit
        if (is_fixed & alive).any():
            wanted = np.where(alive, wanted / np.exp(np.log(wanted[is_fixed & alive]).mean()), 1.0)
        return np.where(is_fixed, 1.0, np.maximum(wanted, highest / link.limit))


def _check(config: EqualizationConfig, links: tuple[Link, ...], ranges: Ranges | None) -> None:
    if not config.headroom >= 1.0:
        raise QuantizationError(f"headroom: expected at least 1, got {config.headroom}")
    if ranges is None:
        if config.granularity == "per_channel":
            raise QuantizationError(
                "equalization for weights with a scale per channel needs channel ranges, got none",
                hint="observe calibration pictures, or ask for granularity per_tensor",
            )
        return
    for link in links:
        for name in (link.output, *(reader.input for reader in link.readers)):
            if name not in ranges:
                raise QuantizationError(f"channel ranges have no activation {name}: they are of another graph")
        if len(ranges[link.output].mean) != link.num_channels:
            raise QuantizationError(
                f"activation {link.output}: expected {link.num_channels} channels, got {len(ranges[link.output].mean)}",
                hint="the channel ranges are of another graph",
            )


def _absorbed(link: Link, ranges: Ranges | None, config: EqualizationConfig) -> Channels:
    """What can be taken off each channel before its Relu, in the units of the graph as it was."""
    if not config.absorb or ranges is None or not (link.is_rectified and link.is_shiftable):
        return np.zeros(link.num_channels)
    seen = ranges[link.output]
    least = np.minimum(seen.lowest, seen.mean - NUM_SIGMAS * np.sqrt(seen.variance))
    is_below_clip = seen.highest * config.headroom < link.limit
    return np.where(is_below_clip, np.maximum(least, 0.0), 0.0)


def _reach(link: Link, ranges: Ranges) -> Channels:
    """How far each channel reaches behind its Relu, if it has one."""
    seen = ranges[link.output]
    return np.minimum(np.maximum(seen.highest, 0.0), link.limit) if link.is_rectified else seen.reach


def _gather(link: Link, readers: tuple[Reader, ...] | list[Reader], values: Mapping[str, Channels]) -> Channels:
    """Largest value of each channel of a link over the input channels that carry it."""
    largest = np.zeros(link.num_channels)
    for reader in readers:
        is_own = reader.owners != FOREIGN
        np.maximum.at(largest, reader.owners[is_own], values[reader.layer][is_own])
    return largest


def _weighted(graph: Graph) -> dict[str, Node]:
    return {node.name: node for node in graph.nodes if node.op in WEIGHTED_OPS}


def _spread(values: Channels, owners: Owners, *, foreign: float) -> Channels:
    """The value of every input channel's owner."""
    return np.where(owners == FOREIGN, foreign, values[owners])


def _divide_rows(weight: Weights, divisors: Channels) -> Weights:
    return weight / divisors.reshape(-1, *[1] * (weight.ndim - 1))


def _multiply_columns(node: Node, weight: Weights, factors: Channels) -> Weights:
    kernel = _by_group(node, weight)
    return (kernel * factors.reshape(len(kernel), 1, -1, 1)).reshape(weight.shape)


def _by_group(node: Node, weight: Weights) -> Weights:
    """[groups, outputs of a group, inputs of a group, taps]; a Gemm has one group and one tap."""
    groups = node.int("group") if node.op == "Conv" else 1
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
