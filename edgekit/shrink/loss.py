"""How far a changed network's answers are from the network as it was; needs no labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.data.dataset import Source
from edgekit.data.drawing import draw_order
from edgekit.data.reading import iterate_batches
from edgekit.export.activations import fitting_batch_size, float_activations

LogProbabilities = npt.NDArray[np.float64]


def distance_from(graph: Graph, spec: PreprocessSpec, source: Source, num_pictures: int) -> Callable[[Graph], float]:
    """A function that measures how far a graph's answers are from those of `graph`: mean KL divergence, in nats.

    Args:
        graph: The network as it was.
        spec: Picture to input.
        source: Pictures.
        num_pictures: At most so many of them are used, the same ones every time.
    """
    chosen = draw_order(len(source), seed=0)[:num_pictures]
    batches = list(iterate_batches(source, spec, batch_size=fitting_batch_size(graph), indices=chosen))

    def log_probabilities(changed: Graph) -> LogProbabilities:
        found = float_activations(changed, spec, batches, {changed.output})
        return np.concatenate([log_softmax(each[changed.output].astype(np.float64)) for each in found])

    reference = log_probabilities(graph)
    weights = np.exp(reference)

    def distance(changed: Graph) -> float:
        return float((weights * (reference - log_probabilities(changed))).sum(axis=1).mean())

    return distance


def log_softmax(logits: npt.NDArray[np.float64]) -> LogProbabilities:
    """Logarithms of the softmax of each row.

    >>> log_softmax(np.zeros((1, 2))).round(3).tolist()
    [[-0.693, -0.693]]
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
