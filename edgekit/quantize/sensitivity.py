"""Put the curvature of all layers on one scale, by trying each layer's rounding alone.

Second derivatives see small changes; rounding is not small. A rectified class map that was dead everywhere wakes up
from it, for example, and no gradient says so. Per layer one number is off by far the most, the scale, and one trial
measures it: what the answers lose when only this layer is rounded, over what was foreseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from edgekit.core.curvature import LayerCurvature
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.quantize.reconstruction import ReconstructionConfig, reconstruct

MAX_CORRECTION = 32.0
"""A trial corrects by at most so much, either way: beyond, noise of few pictures is the likelier cause."""


def rescale(
    graph: Graph,
    curvatures: Mapping[str, LayerCurvature],
    config: ReconstructionConfig,
    divergence: Callable[[Graph], float],
) -> dict[str, LayerCurvature]:
    """Scale every layer's sensitivity so that what is foreseen is what is measured.

    Args:
        graph: Canonical float graph.
        curvatures: By node name.
        config: Of a rounding about as coarse as the one that is wanted.
        divergence: Mean divergence of a graph's answers from the float graph's, in nats, on pictures of one's own.

    Raises:
        QuantizationError, UnsupportedOpError: As `reconstruct`.
    """
    trial = reconstruct(graph, curvatures, config)
    weighted = {node.name: node for node in graph.nodes if node.op in WEIGHTED_OPS}
    rescaled: dict[str, LayerCurvature] = {}
    for layer in trial.layers:
        names = weighted[layer.name].inputs[1:]
        alone = graph.replace(constants={**graph.constants, **{name: trial.graph.constants[name] for name in names}})
        correction = divergence(alone) / layer.divergence if layer.divergence > 0 else 1.0
        correction = min(max(correction, 1 / MAX_CORRECTION), MAX_CORRECTION)
        curvature = curvatures[layer.name]
        rescaled[layer.name] = msgspec.structs.replace(curvature, sensitivity=curvature.sensitivity * correction)
    return rescaled
