from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.core.graph import Graph, Node
from edgekit.export.builder import GraphBuilder, Value
from edgekit.export.passes import canonicalize, classifier_output, eliminate_dead, fold_batch_norm
from edgekit.export.shapes import ceil_padding, infer_shapes, window_positions
from edgekit.quantize.execute import run_float
from onnx_files import pictures

NORM = ("gamma", "beta", "mean", "variance")
CONV = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}


def builder(shape: tuple[int, ...] = (1, 3, 5, 5)) -> GraphBuilder:
    return GraphBuilder("net", Value("x", shape))


def add_norm(net: GraphBuilder, source: str, channels: int, name: str = "norm") -> str:
    rng = np.random.default_rng(5)
    arrays = [*rng.normal(size=(3, channels)), rng.uniform(0.5, 2, channels)]
    constants = [net.constant(f"{name}.{key}", array) for key, array in zip(NORM, arrays, strict=True)]
    return net.add("BatchNormalization", name, [source, *constants], {"epsilon": 1e-3})[0].name


def add_conv(net: GraphBuilder, source: str, shape: tuple[int, ...], name: str = "conv") -> str:
    weight = net.constant(f"{name}.weight", np.random.default_rng(6).normal(size=shape))
    return net.add("Conv", name, [source, weight], CONV)[0].name


def batch_norm(graph: Graph, values: np.ndarray) -> np.ndarray:
    gamma, beta, mean, variance = (graph.constants[f"norm.{key}"] for key in NORM)
    shape = (1, -1, *[1] * (values.ndim - 2))
    normalized = (values - mean.reshape(shape)) / np.sqrt(np.asarray(variance, np.float64).reshape(shape) + 1e-3)
    return normalized * gamma.reshape(shape) + beta.reshape(shape)


def test_fold_batch_norm_gives_the_conv_a_bias_and_keeps_its_name() -> None:
    net = builder()
    graph = net.build(add_norm(net, add_conv(net, "x", (4, 3, 3, 3)), 4))
    without = graph.replace(nodes=graph.nodes[:1], output="conv")
    x = pictures((2, 3, 5, 5))

    folded = fold_batch_norm(graph)

    assert [(node.name, node.op, node.inputs) for node in folded.nodes] == [
        ("conv", "Conv", ("x", "conv.weight", "conv.bias"))
    ]
    assert folded.output == "conv"
    expected = batch_norm(graph, run_float(without, x)["conv"])
    np.testing.assert_allclose(run_float(folded, x)["conv"], expected, atol=1e-5)


def test_fold_batch_norm_leaves_the_conv_alone_when_another_node_reads_it() -> None:
    net = builder()
    conv = add_conv(net, "x", (3, 3, 1, 1))
    norm = add_norm(net, conv, 3)
    graph = net.build(net.add("Add", "sum", [conv, norm])[0].name)

    folded = fold_batch_norm(graph)

    assert [node.op for node in folded.nodes] == ["Conv", "Conv", "Add"]
    assert folded.nodes[0] == graph.nodes[0]
    assert folded.is_depthwise(folded.nodes[1])


def test_fold_batch_norm_scales_and_shifts_when_it_has_no_picture_and_no_layer_before_it() -> None:
    net = builder((1, 6))
    relu = net.add("Relu", "relu", ["x"])[0].name
    graph = net.build(add_norm(net, relu, 6))
    x = pictures((3, 6))

    folded = fold_batch_norm(graph)

    assert [node.op for node in folded.nodes] == ["Relu", "Mul", "Add"]
    expected = batch_norm(graph, np.maximum(x, 0))
    np.testing.assert_allclose(run_float(folded, x)[folded.output], expected, atol=1e-5)


@pytest.mark.parametrize("damage", ["variance", "size"])
def test_fold_batch_norm_names_the_node_when_its_statistics_are_damaged(damage: str) -> None:
    net = builder()
    graph = net.build(add_norm(net, "x", 3 if damage == "variance" else 4))
    if damage == "variance":
        graph = graph.replace(constants=dict(graph.constants) | {"norm.variance": np.array([1, -1, 1], np.float32)})

    with pytest.raises(GraphError, match="BatchNormalization 'norm'"):
        fold_batch_norm(graph)


def test_eliminate_dead_drops_nodes_constants_and_shapes_that_nothing_needs() -> None:
    net = builder()
    add_conv(net, "x", (4, 3, 1, 1), "dead")
    graph = net.build(add_conv(net, "x", (4, 3, 1, 1), "alive"))

    kept = eliminate_dead(graph)

    assert [node.name for node in kept.nodes] == ["alive"]
    assert list(kept.constants) == ["alive.weight"]
    assert set(kept.shapes) == {"x", "alive"}


def test_canonicalize_does_not_change_the_graph_that_it_is_given() -> None:
    net = builder()
    graph = net.build(add_norm(net, add_conv(net, "x", (4, 3, 3, 3)), 4))
    nodes, constants = graph.nodes, {name: array.copy() for name, array in graph.constants.items()}

    canonicalize(graph)

    assert graph.nodes == nodes
    assert all(np.array_equal(graph.constants[name], array) for name, array in constants.items())


@given(bounds=st.lists(st.tuples(st.floats(-4, 4), st.floats(0, 4)), min_size=1, max_size=4))
def test_canonicalize_keeps_what_clips_in_a_row_compute(bounds: list[tuple[float, float]]) -> None:
    net = builder((1, 9))
    name = "x"
    for index, (low, width) in enumerate(bounds):
        limits = {"min": float(np.float32(low)), "max": float(np.float32(low + width))}
        name = net.add("Clip", f"clip{index}", [name], limits)[0].name
    graph = net.build(name)
    x = np.linspace(-10, 10, 9, dtype=np.float32).reshape(1, 9)

    canonical = canonicalize(graph)

    np.testing.assert_array_equal(run_float(canonical, x)[canonical.output], run_float(graph, x)[graph.output])
    assert len(canonical.nodes) <= len(graph.nodes)


@pytest.mark.parametrize("shape", [(1, 4, 2, 1), (1, 4, 3)])
def test_classifier_output_refuses_what_is_no_vector_of_scores(shape: tuple[int, ...]) -> None:
    net = builder(shape)
    graph = net.build(net.add("Relu", "relu", ["x"])[0].name)

    with pytest.raises(GraphError, match="one score per class"):
        classifier_output(graph)


@pytest.mark.parametrize("view", ["none", "Flatten", "Reshape"])
def test_classifier_output_is_logits_when_a_softmax_is_at_the_end(view: str) -> None:
    net = builder((1, 4) if view == "none" else (1, 4, 1, 1))
    logits = net.add("Relu", "relu", ["x"])[0].name
    shares = net.add("Softmax", "softmax", [logits], {"axis": 1 if view == "none" else -3})[0].name
    attrs = {"shape": (1, 4)} if view == "Reshape" else {}
    graph = net.build(shares if view == "none" else net.add(view, "view", [shares], attrs)[0].name)
    x = np.array([3.0, 1.0, 2.0, -1.0], np.float32).reshape(graph.shapes["x"])

    kept = classifier_output(graph)

    assert [node.op for node in kept.nodes] == ["Relu", *([] if view == "none" else [view])]
    assert run_float(kept, x)[kept.output].tolist() == [[3.0, 1.0, 2.0, 0.0]]


def test_classifier_output_keeps_a_softmax_over_places() -> None:
    net = builder((1, 4, 2, 2))
    shares = net.add("Softmax", "softmax", ["x"], {"axis": 2})[0].name

    graph = net.build(net.add("Flatten", "flatten", [shares])[0].name)

    assert classifier_output(graph) == graph


@given(size=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 5), pad_share=st.floats(0, 0.5))
def test_ceil_padding_makes_pools_as_large_as_torch_does(size: int, kernel: int, stride: int, pad_share: float) -> None:
    pad = int(kernel * pad_share)
    if size + 2 * pad < kernel:
        return
    expected = functional.max_pool1d(torch.zeros(1, 1, size), kernel, stride, pad, ceil_mode=True).shape[-1]

    extra = ceil_padding(size, kernel, stride, (pad, pad))

    assert window_positions(size, kernel, stride, 2 * pad + extra) == expected
    assert extra + pad < kernel


def test_infer_shapes_names_the_node_when_the_operator_is_unknown() -> None:
    node = Node(name="odd", op="Tanh", inputs=("x",), outputs=("y",))

    with pytest.raises(UnsupportedOpError, match="Tanh of node 'odd'"):
        infer_shapes(node, {"x": (1, 3)})


@pytest.mark.parametrize(
    ("op", "shapes", "attrs"),
    [
        ("Conv", [(1, 3, 5, 5), (4, 2, 3, 3)], CONV),
        ("Conv", [(1, 3, 5, 5), (4, 3, 3, 3), (5,)], CONV),
        ("Conv", [(1, 3, 5), (4, 3, 3)], CONV),
        ("Gemm", [(1, 3), (4, 5)], {}),
        ("Gemm", [(1, 3), (4, 3), (3,)], {}),
        ("Add", [(1, 3, 5, 5), (1, 2, 5, 5)], {}),
        ("Concat", [(1, 3, 5, 5), (1, 3, 4, 5)], {"axis": 1}),
        ("Split", [(1, 3, 5, 5)], {"axis": 1, "split": (1, 1)}),
        ("Slice", [(1, 3, 5, 5)], {"axis": 1, "start": 2, "end": 4}),
        ("ChannelShuffle", [(1, 3, 5, 5)], {"groups": 2}),
        ("Reshape", [(1, 3, 5, 5)], {"shape": (3, 25)}),
        ("Transpose", [(1, 3, 5, 5)], {"perm": (1, 0, 2, 3)}),
        ("GlobalAveragePool", [(1, 3)], {}),
        ("Pad", [(1, 3)], {"pads": (0, 0, 0, 0), "value": 0.0}),
        ("MaxPool", [(1, 3, 2, 2)], {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (0, 0, 0, 0)}),
    ],
)
def test_infer_shapes_names_node_and_shapes_when_inputs_do_not_fit(
    op: str, shapes: list[tuple[int, ...]], attrs: dict[str, int | float | tuple[int, ...]]
) -> None:
    names = tuple(f"input{index}" for index in range(len(shapes)))
    node = Node(name="layer", op=op, inputs=names, outputs=("y",), attrs=attrs)

    with pytest.raises(GraphError, match=f"{op} 'layer'") as error:
        infer_shapes(node, dict(zip(names, shapes, strict=True)))

    assert str(shapes[0]) in error.value.message
