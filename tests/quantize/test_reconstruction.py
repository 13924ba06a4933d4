from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgekit.core.curvature import LayerCurvature
from edgekit.core.errors import QuantizationError, UnsupportedOpError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.quantize.execute import run_float
from edgekit.quantize.reconstruction import ReconstructionConfig, reconstruct
from graphs import GraphBuilder


def network(*, group: int = 1, bias: bool = True) -> Graph:
    builder = GraphBuilder((1, 4, 6, 6))
    x = builder.relu(builder.conv("input", 8, 3, pads=1, group=group, bias=bias))
    x = builder.relu(builder.conv(x, 6, 1))
    return builder.build(builder.gemm(builder.flatten(builder.global_pool(x)), 5))


def curvatures_of(graph: Graph, scale: float = 1.0) -> dict[str, LayerCurvature]:
    generator = np.random.default_rng(3)
    found: dict[str, LayerCurvature] = {}
    for node in graph.nodes:
        if node.op in WEIGHTED_OPS:
            outputs = graph.constants[node.inputs[1]].shape[0]
            inputs = graph.constants[node.inputs[1]].size // outputs
            columns = np.concatenate([generator.normal(size=(400, inputs)), np.ones((400, 1))], axis=1)
            found[node.name] = LayerCurvature(
                hessian=columns.T @ columns / 400, sensitivity=scale * generator.uniform(0.5, 1.5, outputs)
            )
    return found


def test_reconstruct_leaves_multiples_of_one_step_per_layer() -> None:
    graph = network()
    result = reconstruct(graph, curvatures_of(graph), ReconstructionConfig(rate_weight=1e-3))
    nodes = [node for node in graph.nodes if node.op in WEIGHTED_OPS]
    for node, layer in zip(nodes, result.layers, strict=True):
        levels = np.asarray(result.graph.constants[node.inputs[1]], np.float64) / layer.step
        assert (levels == np.rint(levels)).all()
        assert len(np.unique(levels)) == layer.num_levels
        assert (levels != 0).mean() == layer.density


def test_a_small_price_keeps_the_answers_and_a_large_one_saves_bits() -> None:
    graph = network()
    x = np.random.default_rng(0).normal(size=(8, 4, 6, 6)).astype(np.float32)
    exact = run_float(graph, x)[graph.output]
    errors, sizes = [], []
    for weight in (1e-6, 1e-4, 1e-2):
        result = reconstruct(graph, curvatures_of(graph), ReconstructionConfig(rate_weight=weight))
        errors.append(float(np.abs(run_float(result.graph, x)[graph.output] - exact).max()))
        sizes.append(result.entropy_bytes)
    assert errors[0] < 0.02 * np.abs(exact).max()
    assert errors[0] < errors[1] < errors[2]
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_layer_that_matters_more_gets_finer_steps() -> None:
    graph = network()
    curvatures = curvatures_of(graph)
    first = next(iter(curvatures))
    dear = {**curvatures, first: msgspec.structs.replace(curvatures[first], sensitivity=np.full(8, 100.0))}
    config = ReconstructionConfig(rate_weight=1e-2)
    plain, finer = reconstruct(graph, curvatures, config), reconstruct(graph, dear, config)
    assert finer.layers[0].step < 0.2 * plain.layers[0].step
    assert finer.layers[1].step == plain.layers[1].step


def test_a_layer_that_nothing_depends_on_becomes_zeros() -> None:
    graph = network()
    curvatures = curvatures_of(graph)
    first = next(iter(curvatures))
    curvatures[first] = msgspec.structs.replace(curvatures[first], sensitivity=np.zeros(8))
    result = reconstruct(graph, curvatures, ReconstructionConfig(rate_weight=1e-3))
    assert result.layers[0].density == 0


def test_a_layer_without_bias_gets_none() -> None:
    graph = network(bias=False)
    result = reconstruct(graph, curvatures_of(graph), ReconstructionConfig(rate_weight=1e-3))
    assert result.graph.nodes == graph.nodes
    assert result.graph.constants.keys() == graph.constants.keys()


def test_a_grouped_convolution_is_an_error_that_names_it() -> None:
    graph = network(group=2)
    with pytest.raises(UnsupportedOpError, match=graph.nodes[0].name):
        reconstruct(graph, curvatures_of(graph), ReconstructionConfig(rate_weight=1e-3))


def test_a_layer_without_curvature_is_an_error_that_names_it() -> None:
    graph = network()
    curvatures = curvatures_of(graph)
    name, curvature = curvatures.popitem()
    with pytest.raises(QuantizationError, match=name):
        reconstruct(graph, curvatures, ReconstructionConfig(rate_weight=1e-3))
    small = LayerCurvature(hessian=np.eye(2), sensitivity=curvature.sensitivity)
    with pytest.raises(QuantizationError, match=f"{name}.*expected a Hessian of 7 x 7"):
        reconstruct(graph, {**curvatures, name: small}, ReconstructionConfig(rate_weight=1e-3))


def test_weights_that_are_not_finite_are_an_error() -> None:
    graph = network()
    name = graph.nodes[0].inputs[1]
    broken = np.array(graph.constants[name])
    broken[0] = np.nan
    graph = graph.replace(constants={**graph.constants, name: broken})
    with pytest.raises(QuantizationError, match="not all finite"):
        reconstruct(graph, curvatures_of(graph), ReconstructionConfig(rate_weight=1e-3))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_price_that_is_none_is_an_error(weight: float) -> None:
    graph = network()
    with pytest.raises(QuantizationError, match="above 0"):
        reconstruct(graph, curvatures_of(graph), ReconstructionConfig(rate_weight=weight))
