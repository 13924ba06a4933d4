from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from edgekit.core.errors import GraphError
from edgekit.core.graph import Graph
from edgekit.export.onnx_reader import read_onnx
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.torch_graph import trace
from onnx_files import HEAD, WEIGHTS, SmallNet, card_for, pictures, run, run_graph, run_torch, settle, write_text


def export(module: nn.Module, path: Path, shape: tuple[int, ...], *, dynamo: bool, opset: int = 17) -> Path:
    """torch.onnx.export without its chatter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(shape),), path, dynamo=dynamo, verbose=False, opset_version=None if dynamo else opset
        )
    return path


def check_against_ort(path: Path, x: np.ndarray) -> Graph:
    """Read a file and compare with what ONNX Runtime makes of the file itself."""
    graph, _ = read_onnx(path)
    (expected,) = run(path, x).values()
    np.testing.assert_allclose(run_graph(graph, x), expected.reshape(len(x), -1), atol=1e-5)
    return graph


def count(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes)


@pytest.mark.parametrize("opset", [11, 17])
def test_read_onnx_equals_torch_when_the_legacy_exporter_wrote_the_file(tmp_path: Path, opset: int) -> None:
    torch.manual_seed(0)
    module = settle(SmallNet())
    x = pictures((1, 3, 32, 32))

    graph, card = read_onnx(export(module, tmp_path / "net.onnx", x.shape, dynamo=False, opset=opset))

    np.testing.assert_allclose(run_graph(graph, x), run_torch(module, x), atol=1e-5)
    assert count(graph) == count(trace(module, (3, 32, 32), name="net"))
    assert card is None


@pytest.mark.slow
def test_read_onnx_equals_torch_when_the_dynamo_exporter_wrote_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = settle(SmallNet())
    x = pictures((1, 3, 32, 32))

    graph, _ = read_onnx(export(module, tmp_path / "net.onnx", x.shape, dynamo=True))

    np.testing.assert_allclose(run_graph(graph, x), run_torch(module, x), atol=1e-5)
    assert count(graph) == count(trace(module, (3, 32, 32), name="net"))


def test_read_onnx_gives_back_graph_and_card_when_we_wrote_the_file(tmp_path: Path) -> None:
    graph = trace(settle(SmallNet()), (3, 32, 32), name="small")
    write_onnx(graph, tmp_path / "net.onnx", card_for(5))

    again, card = read_onnx(tmp_path / "net.onnx")

    assert card == card_for(5)
    assert (again.nodes, again.input, again.output, again.name) == (graph.nodes, graph.input, graph.output, graph.name)
    assert again.shapes == graph.shapes
    assert list(again.constants) == list(graph.constants)
    assert all(np.array_equal(again.constants[name], array) for name, array in graph.constants.items())


PATTERNS = {
    "conv_bias": ("h = Conv(x, w, b)", {"Conv": 1}),
    "conv_same_upper": ('h = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', {"Conv": 1}),
    "conv_same_lower": ('h = Conv<auto_pad="SAME_LOWER", strides=[2,1]>(x, w)', {"Conv": 1}),
    "conv_valid": ('h = Conv<auto_pad="VALID", dilations=[2,2]>(x, w)', {"Conv": 1}),
    "conv_then_constants": ("c = Conv(x, w) m = Mul(c, c4) a = Add(c4, m) s = Sub(a, c4) h = Div(s, six)", {"Conv": 1}),
    "pad_before_conv": ("q = Pad(x, pads) h = Conv(q, w)", {"Conv": 1}),
    "pad_with_value_stays": ("q = Pad(x, pads, one) h = Conv(q, w)", {"Pad": 1, "Conv": 1}),
    "pad_before_max_pool_stays": ("q = Pad(x, pads) h = MaxPool<kernel_shape=[3,3]>(q)", {"Pad": 1, "MaxPool": 1}),
    "pad_before_max_pool_of_relu": (
        "r = Relu(x) q = Pad(r, pads) h = MaxPool<kernel_shape=[3,3]>(q)",
        {"Relu": 1, "MaxPool": 1},
    ),
    "pad_before_average_pool": (
        "q = Pad(x, pads) h = AveragePool<kernel_shape=[3,3], count_include_pad=1>(q)",
        {"AveragePool": 1},
    ),
    "batch_norm_first": ("h = BatchNormalization(x, scale, shift, mean, var)", {"Conv": 1}),
    "batch_norm_between": (
        "r = Relu(x) n = BatchNormalization<epsilon=0.1>(r, scale, shift, mean, var) h = Conv(n, w)",
        {"Relu": 1, "Conv": 2},
    ),
    "relu6_as_min": ("r = Relu(x) h = Min(r, six)", {"Clip": 1}),
    "relu_as_max": ("h = Max(zero, x)", {"Relu": 1}),
    "clip_without_upper_end": ("h = Clip(x, zero)", {"Relu": 1}),
    "hard_swish_as_hard_sigmoid": ("g = HardSigmoid<alpha=0.16666667, beta=0.5>(x) h = Mul(x, g)", {"HardSwish": 1}),
    "hard_swish_as_clip": ("a = Add(x, three) g = Clip(a, zero, six) m = Mul(x, g) h = Div(m, six)", {"HardSwish": 1}),
    "hard_swish_as_clip_divided_first": (
        "a = Add(three, x) g = Clip(a, zero, six) d = Div(g, six) h = Mul(d, x)",
        {"HardSwish": 1},
    ),
    "hard_sigmoid_as_clip": ("a = Add(x, three) g = Clip(a, zero, six) h = Div(g, six)", {"HardSigmoid": 1}),
    "reduce_mean": ("h = ReduceMean<axes=[-1,-2], keepdims=1>(x)", {"GlobalAveragePool": 1}),
    "average_pool_of_all": ("h = AveragePool<kernel_shape=[8,8]>(x)", {"GlobalAveragePool": 1}),
    "global_max_pool": ("h = GlobalMaxPool(x)", {"MaxPool": 1}),
    "max_pool_ceil": ("h = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", {"MaxPool": 1}),
    "average_pool_ceil": ("h = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", {"AveragePool": 1}),
    "average_pool_same": (
        'h = AveragePool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(x)',
        {"AveragePool": 1},
    ),
    "shuffle_as_views": (
        "c = Conv(x, w1) v = Reshape(c, groups) t = Transpose<perm=[0,2,1,3,4]>(v) h = Reshape(t, joined)",
        {"Conv": 1, "ChannelShuffle": 1},
    ),
    "shuffle_as_gather": ("c = Conv(x, w1) h = Gather<axis=1>(c, swap)", {"Conv": 1, "ChannelShuffle": 1}),
    "shape_arithmetic": (
        """c = Conv(x, w1) s = Shape(c) n = Gather(s, from0) r = Gather(s, rows) two = Add(axis1, axis1)
        q = Mul(two, axis1) d = Div(to3, axis1) k = Concat<axis=0>(n, q, d, r) v = Reshape(c, k)
        t = Transpose<perm=[0,2,1,3,4]>(v) h = Reshape(t, s)""",
        {"Conv": 1, "ChannelShuffle": 1},
    ),
    "slices_become_split": (
        "a = Slice(x, from0, from1, axis1) c = Slice(x, from1, to3, axis1) h = Concat<axis=1>(c, a)",
        {"Split": 1, "Concat": 1},
    ),
    "slice_alone": ("h = Slice(x, from1, to3, axis1)", {"Slice": 1}),
    "split_without_sizes": ("a, c = Split<axis=2>(x) h = Add(a, c)", {"Split": 1, "Add": 1}),
    "litter": (
        """i = Identity(x) d = Dropout(i) k = Cast<to=1>(d) t = Transpose<perm=[0,2,3,1]>(k)
        h = Transpose<perm=[0,3,1,2]>(t) dead = Relu(x)""",
        {},
    ),
    "sum_of_three": ("r = Relu(x) s = Sigmoid(x) h = Sum(x, r, s)", {"Relu": 1, "Sigmoid": 1, "Add": 2}),
    "constant_minus_x": ("h = Sub(c3, x)", {"Mul": 1, "Add": 1}),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_read_onnx_finds_the_canonical_form(tmp_path: Path, name: str) -> None:
    body, expected = PATTERNS[name]
    path = write_text(tmp_path / "net.onnx", f"{body} {HEAD}", WEIGHTS)

    graph = check_against_ort(path, pictures((2, 3, 8, 8)))

    found = count(graph)
    found.subtract({"GlobalAveragePool": 1, "Flatten": 1})
    if expected == {"GlobalAveragePool": 1}:  # Pooling a pooled picture stays as it is.
        assert found["GlobalAveragePool"] == 1
    else:
        assert {op: number for op, number in found.items() if number} == expected


HEADS = {
    "gemm": "y = Gemm(v, f, fb)",
    "gemm_transposed": "y = Gemm<transB=1>(v, ft, fb)",
    "gemm_scaled": "y = Gemm<alpha=0.5, beta=2.0>(v, f, fb)",
    "gemm_without_bias": "y = Gemm(v, f)",
    "gemm_scalar_bias": "y = Gemm(v, f, six)",
    "matmul": "y = MatMul(v, f)",
    "matmul_add": "m = MatMul(v, f) y = Add(fb, m)",
    "matmul_transposed_weight": "t = Transpose<perm=[1,0]>(ft) m = MatMul(v, t) y = Add(m, fb)",
}


@pytest.mark.parametrize("name", HEADS)
def test_read_onnx_makes_one_gemm_of_every_linear_layer(tmp_path: Path, name: str) -> None:
    body = f"p = GlobalAveragePool(x) v = Reshape(p, all) {HEADS[name]}"
    path = write_text(tmp_path / "net.onnx", body, WEIGHTS)

    graph = check_against_ort(path, pictures((2, 3, 8, 8)))

    assert [node.op for node in graph.nodes] == ["GlobalAveragePool", "Flatten", "Gemm"]


def test_read_onnx_starts_behind_the_transpose_when_the_file_takes_channels_last(tmp_path: Path) -> None:
    body = f"t = Transpose<perm=[0,3,1,2]>(x) h = Conv(t, w) {HEAD}"
    path = write_text(tmp_path / "net.onnx", body, WEIGHTS, input="float[N,8,8,3] x")
    x = pictures((2, 8, 8, 3))

    graph, _ = read_onnx(path)

    assert graph.shapes[graph.input] == (1, 3, 8, 8)
    (expected,) = run(path, x).values()
    np.testing.assert_allclose(run_graph(graph, np.ascontiguousarray(x.transpose(0, 3, 1, 2))), expected, atol=1e-5)


def test_read_onnx_fixes_the_batch_when_the_file_was_made_for_another(tmp_path: Path) -> None:
    weights = WEIGHTS | {"fixed": np.array([4, 3], np.int64)}
    body = "p = GlobalAveragePool(x) v = Reshape(p, fixed) y = Gemm(v, f)"
    path = write_text(tmp_path / "net.onnx", body, weights, input="float[4,3,8,8] x")
    x = pictures((4, 3, 8, 8))

    graph, _ = read_onnx(path)

    assert graph.shapes[graph.input] == (1, 3, 8, 8)
    np.testing.assert_allclose(run_graph(graph, x), next(iter(run(path, x).values())), atol=1e-5)


def test_read_onnx_takes_the_size_from_the_caller_when_the_file_leaves_it_open(tmp_path: Path) -> None:
    path = write_text(tmp_path / "net.onnx", f"h = Conv(x, w) {HEAD}", WEIGHTS, input="float[N,3,H,W] x")

    graph, _ = read_onnx(path, input_size=20)

    assert graph.shapes[graph.input] == (1, 3, 20, 20)
    with pytest.raises(GraphError, match="open") as error:
        read_onnx(path)
    assert "--input-size" in (error.value.hint or "")


def test_read_onnx_reads_weights_from_beside_the_file_and_says_when_they_are_missing(tmp_path: Path) -> None:
    path = write_text(tmp_path / "net.onnx", f"h = Conv(x, w) {HEAD}", WEIGHTS)
    expected, _ = read_onnx(path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)

    graph, _ = read_onnx(path)

    np.testing.assert_array_equal(graph.constants["w"], expected.constants["w"])
    (tmp_path / "net.data").unlink()
    with pytest.raises(GraphError, match="weights in other files"):
        read_onnx(path)


def test_read_onnx_looks_into_functions_that_the_file_defines(tmp_path: Path) -> None:
    path = write_text(tmp_path / "net.onnx", f"c = Conv(x, w) h = Relu(c) {HEAD}", WEIGHTS)
    model = onnx.load(path)
    body = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Sigmoid", ["r"], ["s"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("local", "Gate", ["a"], ["s"], body, opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Gate", "local"
    onnx.save(model, path)

    graph = check_against_ort(path, pictures((1, 3, 8, 8)))

    assert [node.op for node in graph.nodes][:3] == ["Conv", "Relu", "Sigmoid"]


def test_read_onnx_takes_half_precision_weights_when_activations_are_float(tmp_path: Path) -> None:
    weights = WEIGHTS | {"w": np.asarray(WEIGHTS["w"], np.float16)}
    path = write_text(tmp_path / "net.onnx", f"k = Cast<to={TensorProto.FLOAT}>(w) h = Conv(x, k) {HEAD}", weights)

    graph = check_against_ort(path, pictures((1, 3, 8, 8)))

    assert graph.constants["k"].dtype == np.float32
