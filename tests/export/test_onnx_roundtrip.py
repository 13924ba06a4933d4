"""read(write(graph)) is the graph again, for any canonical graph."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.core.graph import Graph
from edgekit.export.onnx_reader import read_onnx
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.passes import canonicalize
from edgekit.quantize.execute import run_float
from graphs import GraphBuilder
from onnx_files import card_for, pictures, run_graph

BLOCKS = ("conv", "depthwise", "grouped", "residual", "concat", "shuffle", "pool", "average", "excite", "activation")


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """Small convolutional classifiers: up to 6 blocks of any kind, in any order."""
    net = GraphBuilder((1, draw(st.integers(1, 4)), draw(st.integers(6, 11)), draw(st.integers(6, 11))), seed=0)
    x = net.conv("input", 8, draw(st.sampled_from([1, 3])), pads=draw(st.integers(0, 2)))
    for kind in draw(st.lists(st.sampled_from(BLOCKS), max_size=6)):
        x = add_block(draw, net, x, kind)
    if draw(st.booleans()):
        x = net.global_pool(x)
    net.gemm(net.flatten(x), draw(st.integers(2, 4)), bias=draw(st.booleans()))
    return net.build()


def add_block(draw: st.DrawFn, net: GraphBuilder, x: str, kind: str) -> str:
    if kind in ("conv", "depthwise", "grouped"):
        group = {"conv": 1, "depthwise": 8, "grouped": draw(st.sampled_from([2, 4]))}[kind]
        pads = tuple(draw(st.integers(1, 2)) for _ in range(4))
        stride, bias = draw(st.integers(1, 2)), draw(st.booleans())
        return net.conv(x, 8, 3, stride=stride, pads=pads, group=group, bias=bias)  # type: ignore[arg-type]
    if kind == "residual":
        return net.relu(net.binary("Add", x, net.conv(x, 8, 1)))
    if kind == "concat":
        left, right = net.split(x, (3, 5))
        return net.concat([net.same("Sigmoid", right), left])
    if kind == "shuffle":
        return net.shuffle(x, draw(st.sampled_from([2, 4])))
    if kind in ("pool", "average"):
        pads = (0, 0, draw(st.integers(0, 1)), draw(st.integers(0, 1)))
        counts = draw(st.integers(0, 1)) if any(pads) else 0
        op = "MaxPool" if kind == "pool" else "AveragePool"
        return net.pool(op, x, 2, stride=draw(st.integers(1, 2)), pads=pads, count_include_pad=counts)
    if kind == "excite":
        gate = net.same("HardSigmoid", net.conv(net.global_pool(x), 8, 1), alpha=0.25, beta=0.5)
        return net.binary("Mul", x, gate)
    return net.same(draw(st.sampled_from(["Relu", "HardSwish", "Sigmoid"])), x)


def is_large_enough(graph: Graph) -> bool:
    return all(min(shape) > 0 for shape in graph.shapes.values())


@settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
@given(graph=random_graphs().filter(is_large_enough))
def test_read_onnx_gives_back_any_canonical_graph_that_we_write(graph: Graph) -> None:
    canonical = canonicalize(graph)
    with TemporaryDirectory() as folder:
        write_onnx(canonical, Path(folder) / "net.onnx", card_for())
        again, _ = read_onnx(Path(folder) / "net.onnx")

    assert again.nodes == canonical.nodes
    assert again.shapes == canonical.shapes
    assert list(again.constants) == list(canonical.constants)
    assert all(np.array_equal(array, canonical.constants[name]) for name, array in again.constants.items())


@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much])
@given(graph=random_graphs().filter(is_large_enough))
def test_canonicalize_does_not_change_what_a_graph_computes(graph: Graph) -> None:
    x = pictures((2, *graph.shapes[graph.input][1:]))

    canonical = canonicalize(graph)

    expected = run_float(graph, x)[graph.output]
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(run_float(canonical, x)[canonical.output], expected, atol=1e-5 * scale)
    np.testing.assert_allclose(run_graph(canonical, x), expected, atol=1e-5 * scale)
    assert canonicalize(canonical).nodes == canonical.nodes
