"""How much a channel matters: one score per output channel of every weighted layer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from torch import nn

from edgekit.core.errors import RecipeError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.models.folded import following_norms

Scores = npt.NDArray[np.float64]


def magnitude(graph: Graph) -> dict[str, Scores]:
    """L2 norm of each output channel's weights (Li et al. 2017, arXiv:1608.08710, with L2 for L1).

    BatchNorm is folded in a hub graph, so its scale is part of the norm.

    Returns:
        Layer name -> [out channels], mean 1 within a layer, so that layers can be compared.
    """
    norms = {
        node.name: np.sqrt(np.square(weight.reshape(len(weight), -1), dtype=np.float64).sum(1))
        for node in graph.nodes
        if node.op in WEIGHTED_OPS
        for weight in (graph.constants[node.inputs[1]],)
    }
    return {name: normalized(scores) for name, scores in norms.items()}


def bn_scale(module: nn.Module, graph: Graph) -> dict[str, Scores]:
    """Magnitude of the scale that the BatchNorm after a channel gives it (Liu et al. 2017, arXiv:1708.06519, eq. 1).

    Layers that no BatchNorm follows (the classifier) are scored by the magnitude of their weights.

    Args:
        module: The network, its norms not folded.
        graph: Its hub graph, whose nodes are named after its layers.

    Returns:
        As `magnitude`.

    Raises:
        RecipeError: No BatchNorm with a scale anywhere.
    """
    scales: dict[str, Scores] = {}
    for layer, norms in following_norms(module).items():
        norm = module.get_submodule(norms[0])
        if isinstance(norm, nn.BatchNorm2d) and norm.affine:
            scales[layer] = normalized(norm.weight.detach().abs().double().cpu().numpy())
    if not scales:
        raise RecipeError(
            "the model has no BatchNorm whose scales could tell which channels matter",
            hint="choose importance by magnitude or taylor",
        )
    return {name: scales.get(name, scores) for name, scores in magnitude(graph).items()}


def normalized(scores: Scores) -> Scores:
    """Scores with mean 1; all ones where every score is zero.

    >>> normalized(np.array([1.0, 3.0])).tolist()
    [0.5, 1.5]
    """
    mean = scores.mean()
    return scores / mean if mean > 0 else np.ones_like(scores)


def score_units(outputs: Mapping[str, npt.NDArray[np.int64]], scores: Mapping[str, Scores]) -> dict[int, float]:
    """Mean score of all the layer channels that a unit stands for.

    Args:
        outputs: Units of the output channels of each layer (`ChannelMap.outputs`).
        scores: Layer name -> [out channels]; layers left out do not count.
    """
    sums: dict[int, list[float]] = {}
    for layer, units in outputs.items():
        if layer in scores:
            for unit, score in zip(units.tolist(), scores[layer].tolist(), strict=True):
                sums.setdefault(unit, []).append(score)
    return {unit: float(np.mean(values)) for unit, values in sums.items()}
