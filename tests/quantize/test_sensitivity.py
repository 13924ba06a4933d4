from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.curvature import LayerCurvature
from edgekit.core.graph import Graph
from edgekit.quantize.reconstruction import ReconstructionConfig, reconstruct
from edgekit.quantize.sensitivity import MAX_CORRECTION, rescale
from graphs import GraphBuilder

CONFIG = ReconstructionConfig(rate_weight=1e-2, trust=1.0)


@pytest.fixture
def graph() -> Graph:
    builder = GraphBuilder((1, 6))
    return builder.build(builder.gemm(builder.relu(builder.gemm("input", 8)), 4))


@pytest.fixture
def curvatures(graph: Graph) -> dict[str, LayerCurvature]:
    found: dict[str, LayerCurvature] = {}
    for node in (graph.nodes[0], graph.nodes[-1]):
        outputs, inputs = graph.constants[node.inputs[1]].shape
        found[node.name] = LayerCurvature(hessian=np.eye(inputs + 1), sensitivity=np.ones(outputs))
    return found


def rounded_layers(graph: Graph, other: Graph) -> set[str]:
    return {name for name in graph.constants if not np.array_equal(graph.constants[name], other.constants[name])}


def test_rescale_makes_what_is_foreseen_what_is_measured(graph: Graph, curvatures: dict[str, LayerCurvature]) -> None:
    foreseen = {layer.name: layer.divergence for layer in reconstruct(graph, curvatures, CONFIG).layers}
    first, last = foreseen
    measured = {first: 3 * foreseen[first], last: foreseen[last] / 2}

    def divergence(other: Graph) -> float:
        names = rounded_layers(graph, other)
        return measured[first if graph.nodes[0].inputs[1] in names else last]

    rescaled = rescale(graph, curvatures, CONFIG, divergence)
    np.testing.assert_allclose(rescaled[first].sensitivity, 3)
    np.testing.assert_allclose(rescaled[last].sensitivity, 0.5)


def test_rescale_rounds_one_layer_at_a_time(graph: Graph, curvatures: dict[str, LayerCurvature]) -> None:
    seen: list[set[str]] = []

    def divergence(other: Graph) -> float:
        seen.append(rounded_layers(graph, other))
        return 1.0

    rescale(graph, curvatures, CONFIG, divergence)
    assert seen == [set(graph.nodes[0].inputs[1:]), set(graph.nodes[-1].inputs[1:])]


@pytest.mark.parametrize(("measured", "correction"), [(1e9, MAX_CORRECTION), (0.0, 1 / MAX_CORRECTION)])
def test_rescale_does_not_believe_a_trial_that_is_far_off(
    graph: Graph, curvatures: dict[str, LayerCurvature], measured: float, correction: float
) -> None:
    for curvature in rescale(graph, curvatures, CONFIG, lambda _: measured).values():
        np.testing.assert_allclose(curvature.sensitivity, correction)
