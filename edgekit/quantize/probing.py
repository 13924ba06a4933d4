"""What each layer's rounding does to the network's answers, and the table of sizes and errors that bits are chosen by.

Output errors of layers cannot be compared: a large one may vanish in the next Relu, a small one turn answers. So each
layer is rounded alone once, coarsely, and the divergence of the answers measured; the layer's squared output error,
known for every number of bits from its moments, is then worth that many nats. To second order divergences grow like
squared errors, and those of several layers add up (the independence that mixed-precision methods take for granted:
Dong et al. 2020, HAWQ-V2, arXiv:1911.03852, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

import msgspec
import torch
from torch import Tensor
from torch.nn import functional

from edgekit.core.progress import Progress
from edgekit.quantize.allocation import Candidate, LayerOptions
from edgekit.quantize.layerwise import LayerwiseConfig, plan_waves, put_layer, round_layer
from edgekit.quantize.moments import measure_moments
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.outcome import LayerOutcome
from edgekit.quantize.ptq import DecidedLayer, QuantizationStart
from edgekit.quantize.walk import Pictures, Walk

PROBE_BITS = 4
"""Bits at which a layer is tried alone: coarse enough to be heard, fine enough for second order."""


class TableConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the table holds.

    Args:
        bits: Numbers of bits that a layer may have, ascending; `PROBE_BITS` among them.
        rounding: How layers are rounded.
    """

    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    rounding: LayerwiseConfig = LayerwiseConfig(methods=("gptq",))


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Every layer at every number of bits.

    Args:
        options: Errors in nats and sizes in bytes, for `allocation`.
        decided: (layer, bits) -> its integers, rounded on the float network's inputs: for measuring sizes quickly.
    """

    options: tuple[LayerOptions, ...]
    decided: Mapping[tuple[str, int], DecidedLayer]


def measure_table(
    starts: Mapping[int, QuantizationStart],
    pictures: Pictures,
    probe_pictures: Pictures,
    config: TableConfig,
    progress: Progress,
) -> Table:
    """Round every layer to every number of bits, on its own, and weigh the errors.

    Args:
        starts: Number of bits -> grids with all layers at that number; all of `config.bits`.
        pictures: For the moments of layers' inputs.
        probe_pictures: For the divergence of answers; fewer will do.
        config: What the table holds.
        progress: Advanced once per layer and number of bits, and once per probe.

    Raises:
        QuantizationError: No pictures, or a value that is not finite; names the layer.
    """
    start = starts[config.bits[-1]]
    layers = {layer.node.name: layer for layer in start.plan.layers}
    progress.begin("sensitivity table", len(layers) * (len(config.bits) + 1))
    decided: dict[tuple[str, int], DecidedLayer] = {}
    outcomes: dict[tuple[str, int], LayerOutcome] = {}
    network = GraphNetwork(start.graph)
    with closing(Walk(network, pictures)) as walk:
        for wave in plan_waves(list(layers), config.rounding.max_waves):
            moments = measure_moments(walk, None, wave)
            for name in wave:
                for bits in config.bits:
                    key = (name, bits)
                    decided[key], outcomes[key] = round_layer(
                        starts[bits], layers[name], moments.get(name), config.rounding
                    )
                    progress.advance()
                moments.pop(name, None)
    prices = _probe(network, {name: decided[name, PROBE_BITS] for name in layers}, probe_pictures, progress)
    progress.end()
    options = tuple(
        _options(name, prices[name], [outcomes[name, bits] for bits in config.bits], start) for name in layers
    )
    return Table(options=options, decided=decided)


def _probe(
    network: GraphNetwork, coarse: Mapping[str, DecidedLayer], pictures: Pictures, progress: Progress
) -> dict[str, float]:
    """Divergence of the network's answers when one layer alone is coarse, in nats per picture, by layer."""
    nodes = network.graph.nodes
    reference: list[Tensor] = []
    divergences: dict[str, float] = {}
    with closing(Walk(network, pictures)) as walk, torch.inference_mode():
        reference = [functional.log_softmax(network(batch), dim=1) for batch in pictures()]
        num_pictures = sum(len(answers) for answers in reference)
        for index, node in enumerate(nodes):
            if node.name not in coarse:
                continue
            kept = network.weight(node.name).clone(), network.bias(node.name).clone()
            total = 0.0
            for known, answers in zip(walk.before(index), reference, strict=True):
                put_layer(network, node.name, coarse[node.name])
                logits = network.run(known, index, len(nodes))[network.graph.output]
                network.weight(node.name).copy_(kept[0])
                network.bias(node.name).copy_(kept[1])
                total += _divergence(answers, logits)
            divergences[node.name] = total / num_pictures
            progress.advance()
    return divergences


def _divergence(reference: Tensor, logits: Tensor) -> float:
    changed = functional.log_softmax(logits, dim=1)
    return float(functional.kl_div(changed, reference, log_target=True, reduction="sum"))


def _options(name: str, divergence: float, outcomes: Sequence[LayerOutcome], start: QuantizationStart) -> LayerOptions:
    probed = next(outcome for outcome in outcomes if outcome.num_bits == PROBE_BITS)
    price = max(divergence, 0.0) / probed.error if probed.error > 0 else 0.0
    candidates = tuple(
        Candidate(num_bits=outcome.num_bits, error=price * outcome.error, size_bytes=outcome.entropy_bytes)
        for outcome in outcomes
    )
    weight = next(layer.weight for layer in start.plan.layers if layer.node.name == name)
    return LayerOptions(name=name, num_weights=int(start.graph.constants[weight].size), candidates=candidates)
