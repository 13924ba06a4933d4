"""Layer normalization, GELU, attention and tokens are the same in torch, the hub graph, ONNX and TFLite."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.core.graph import Graph
from edgekit.export.onnx_reader import read_onnx
from edgekit.export.onnx_writer import build_onnx, write_onnx
from edgekit.export.tflite import build_tflite
from edgekit.export.torch_graph import trace
from edgekit.models.layers import SelfAttention
from edgekit.models.zoo import build_model, parse_model_name
from edgekit.quantize.execute import run_float
from edgekit.quantize.network import GraphNetwork
from onnx_files import run, run_torch
from tflite_runs import CARD, is_wholly_delegated, operators, run_float_file
from transformers import SIZE, small_graph, small_vit

FloatArray = npt.NDArray[np.float32]


class Tokens(nn.Module):
    """Pictures as tokens, a body on them, and a head on the first."""

    def __init__(self, body: nn.Module, channels: int, made: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 2, stride=2)
        self.body = body
        self.head = nn.Linear(made, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.body(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(tokens[:, 1:2].flatten(1))


class Padded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (1, 0, 0, 2), value=0.0)


class Squared(nn.Module):
    """Tokens scaled by number, by channel and by place: none may be folded into a wrong axis."""

    def __init__(self) -> None:
        super().__init__()
        self.by_channel = nn.Parameter(torch.randn(6))
        self.by_place = nn.Parameter(torch.randn(1, 6, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x * 1.5 + self.by_channel) * self.by_place + x


class Normalized(nn.Module):
    """A norm on a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(12, eps=1e-3)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x.flatten(1)))


def attention(channels: int, heads: int) -> nn.Module:
    return nn.Sequential(nn.Linear(channels, 3 * channels), SelfAttention(heads), nn.Linear(channels, channels))


MODULES = {
    "norm": lambda: Tokens(nn.LayerNorm(6), 6, 6),
    "norm without shift": lambda: Tokens(nn.LayerNorm(6, bias=False), 6, 6),
    "norm without scale": lambda: Tokens(nn.LayerNorm(6, elementwise_affine=False), 6, 6),
    "gelu": lambda: Tokens(nn.GELU(), 6, 6),
    "linear": lambda: Tokens(nn.Linear(6, 9), 6, 9),
    "linear without bias": lambda: Tokens(nn.Linear(6, 9, bias=False), 6, 9),
    "linear, square": lambda: Tokens(nn.Sequential(nn.Linear(6, 6), Squared()), 6, 6),
    "padding": lambda: Tokens(Padded(), 6, 7),
    "attention": lambda: Tokens(attention(12, 3), 12, 12),
    "attention, one head": lambda: Tokens(attention(4, 1), 4, 4),
    "attention, heads of one": lambda: Tokens(attention(6, 6), 6, 6),
}


def everywhere(module: nn.Module, x: FloatArray) -> dict[str, FloatArray]:
    """The answers of every form of a module to one picture, torch's own left out."""
    graph = trace(module, x.shape[1:], name="net")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write_onnx(graph, path, CARD)
        again, _ = read_onnx(path)
        from_onnx = run(path, x)[graph.output]
    assert again.nodes == graph.nodes
    assert again.constants.keys() == graph.constants.keys()
    return {
        "numpy": run_float(graph, x)[graph.output],
        "graph network": run_torch(GraphNetwork(graph), x),
        "onnx": from_onnx,
        "read again": run_float(again, x)[again.output],
        "tflite": run_float_file(graph, x),
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_form_computes_what_torch_does(name: str) -> None:
    torch.manual_seed(0)
    module = MODULES[name]().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 6)).astype(np.float32)
    expected = run_torch(module, x)

    for form, answer in everywhere(module, x).items():
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=form)


def test_norm_of_a_vector_is_the_same_everywhere() -> None:
    torch.manual_seed(0)
    module = Normalized().eval()
    x = 3 * np.random.default_rng(0).normal(size=(1, 3, 2, 2)).astype(np.float32)

    for form, answer in everywhere(module, x).items():
        np.testing.assert_allclose(answer, run_torch(module, x), atol=1e-5, err_msg=form)


@settings(max_examples=12, deadline=None)
@given(
    heads=st.integers(1, 4),
    channels=st.integers(1, 5),
    size=st.tuples(st.integers(1, 5), st.integers(2, 5)),
    scale=st.floats(0.01, 20),
)
def test_attention_of_any_shape_is_the_same_everywhere(
    heads: int, channels: int, size: tuple[int, int], scale: float
) -> None:
    torch.manual_seed(heads)
    module = Tokens(attention(heads * channels, heads), heads * channels, heads * channels).eval()
    height, width = size
    x = scale * np.random.default_rng(0).normal(size=(1, 3, 2 * height, 2 * width)).astype(np.float32)
    expected = run_torch(module, x)

    for form, answer in everywhere(module, x).items():
        np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-4 * scale, err_msg=form)


def test_small_vit_is_one_partition_without_stray_transposes() -> None:
    module, graph = small_vit(), small_graph()
    x = np.random.default_rng(0).normal(size=(1, 1, SIZE, SIZE)).astype(np.float32)

    answers = everywhere(module, x)

    for form, answer in answers.items():
        np.testing.assert_allclose(answer, run_torch(module, x), atol=2e-5, err_msg=form)
    content = build_tflite(graph, CARD)
    assert is_wholly_delegated(content)
    assert operators(content)["TRANSPOSE"] == 4 * 2  # heads apart, three times, and together, in two blocks
    assert operators(content)["RESHAPE"] == 1 + 4 * 2 + 1


def test_onnx_file_takes_any_batch() -> None:
    module = small_vit()
    x = np.random.default_rng(0).normal(size=(3, 1, SIZE, SIZE)).astype(np.float32)

    answer = run(build_onnx(small_graph(), CARD), x)["classifier"]

    np.testing.assert_allclose(answer, run_torch(module, x), atol=2e-5)


def test_weight_of_two_kinds_of_layers_is_stored_in_both_orders() -> None:
    """A weight that is read token by token and by a vector: MatMul reads it as [in, out], Gemm as [out, in]."""
    graph = trace(Tokens(nn.Sequential(nn.Linear(4, 4)), 4, 4).eval(), (3, 4, 4), name="net")
    first, last = (node for node in graph.nodes if node.op == "Gemm")
    nodes = [
        node
        if node != last
        else type(node)(name=node.name, op=node.op, inputs=(node.inputs[0], *first.inputs[1:]), outputs=node.outputs)
        for node in graph.nodes
    ]
    tied = graph.replace(nodes=nodes)
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)

    np.testing.assert_allclose(run(build_onnx(tied, CARD), x)[tied.output], run_float(tied, x)[tied.output], atol=1e-5)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Tokens(nn.GELU("tanh"), 6, 6), ("GELU", "tanh", "body")),
        (Tokens(nn.LayerNorm([6, 6]), 6, 6), ("LayerNorm", "body")),
    ],
)
def test_forms_that_no_file_holds_are_refused_by_their_path(module: nn.Module, words: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedOpError) as error:
        trace(module, (3, 4, 6), name="net")

    assert all(word in error.value.message for word in words)


def test_heads_that_do_not_divide_the_channels_are_refused_by_name() -> None:
    with pytest.raises(GraphError, match=r"body\.1.*of 5 heads"):
        trace(Tokens(attention(12, 5), 12, 12), (3, 4, 6), name="net")


def spell(nodes: list[onnx.NodeProto], constants: dict[str, npt.ArrayLike]) -> onnx.ModelProto:
    """A file by another hand: 4 tokens of 6 channels from a picture, `nodes` from `tokens` to `out`, and a head."""
    rng = np.random.default_rng(0)
    made: dict[str, npt.ArrayLike] = {
        "stem.w": rng.normal(size=(6, 3, 2, 2)),
        "head.w": rng.normal(size=(4, 24)),
        **{f"{name}.w": rng.normal(size=(6, 6)) for name in "qkv"},
        **constants,
    }
    ints = {"to_tokens": [1, 6, 4], "to_heads": [1, 4, 2, 3], "to_joined": [1, 4, 6], "to_flat": [1, 24]}
    every = [
        helper.make_node("Conv", ["x", "stem.w"], ["map"], strides=[2, 2]),
        helper.make_node("Reshape", ["map", "to_tokens"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["tokens"], perm=[0, 2, 1]),
        *nodes,
        helper.make_node("Reshape", ["out", "to_flat"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head.w"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        every,
        "other",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in made.items()]
        + [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in ints.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def attended(scaled: tuple[str, ...]) -> list[onnx.NodeProto]:
    """Attention with the square root of the scale on query and key, or the scale on the scores."""
    nodes: list[onnx.NodeProto] = []
    for part, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes.append(helper.make_node("MatMul", ["tokens", f"{part}.w"], [part]))
        nodes.append(helper.make_node("Reshape", [part, "to_heads"], [f"{part}_split"]))
        nodes.append(helper.make_node("Transpose", [f"{part}_split"], [f"{part}_heads"], perm=perm))
        if part in scaled:
            nodes.append(helper.make_node("Mul", [f"{part}_heads", "root"], [f"{part}_scaled"]))
    query, key = (f"{part}_scaled" if part in scaled else f"{part}_heads" for part in "qk")
    nodes.append(helper.make_node("MatMul", [query, key], ["raw"]))
    if not scaled:
        nodes.append(helper.make_node("Mul", ["raw", "scale"], ["scores"]))
    nodes += [
        helper.make_node("Softmax", ["raw" if scaled else "scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "v_heads"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["joined"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["joined", "to_joined"], ["out"]),
    ]
    return nodes


def read(model: onnx.ModelProto, folder: Path) -> Graph:
    onnx.save(model, folder / "other.onnx")
    return read_onnx(folder / "other.onnx")[0]


@pytest.mark.parametrize("scaled", [(), ("q", "k")], ids=["scores", "query and key"])
def test_attention_by_another_hand_is_recognized(scaled: tuple[str, ...], tmp_path: Path) -> None:
    model = spell(attended(scaled), {"root": 3**-0.25, "scale": 3**-0.5})
    x = np.random.default_rng(1).normal(size=(1, 3, 4, 4)).astype(np.float32)

    graph = read(model, tmp_path)

    assert Counter(node.op for node in graph.nodes)["Attention"] == 1
    node = next(node for node in graph.nodes if node.op == "Attention")
    assert node.int("heads") == 2
    assert node.float("scale") == pytest.approx(3**-0.5, rel=1e-6)
    np.testing.assert_allclose(run_float(graph, x)[graph.output], run(tmp_path / "other.onnx", x)["y"], rtol=1e-4)


@pytest.mark.parametrize("order", ["half last", "half first", "operator"])
def test_gelu_by_another_hand_is_recognized(order: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Div", ["tokens", "root"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        helper.make_node("Add", ["one", "erf"], ["raised"]),
    ]
    if order == "half last":
        nodes += [
            helper.make_node("Mul", ["tokens", "raised"], ["doubled"]),
            helper.make_node("Mul", ["half", "doubled"], ["out"]),
        ]
    elif order == "half first":
        nodes += [
            helper.make_node("Mul", ["tokens", "half"], ["halved"]),
            helper.make_node("Mul", ["halved", "raised"], ["out"]),
        ]
    else:
        nodes = [helper.make_node("Gelu", ["tokens"], ["out"])]
    x = np.random.default_rng(1).normal(size=(1, 3, 4, 4)).astype(np.float32)

    graph = read(spell(nodes, {"root": np.sqrt(2), "one": 1.0, "half": 0.5}), tmp_path)

    assert Counter(node.op for node in graph.nodes)["Gelu"] == 1
    assert not {"Erf", "Mul"} & {node.op for node in graph.nodes}
    np.testing.assert_allclose(run_float(graph, x)[graph.output], run(tmp_path / "other.onnx", x)["y"], rtol=1e-4)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("Erf", ["tokens"], ["out"], "curve")], "operator Erf of node 'curve'"),
        ([helper.make_node("Gelu", ["tokens"], ["out"], "curve", approximate="tanh")], "Gelu node 'curve'.*tanh"),
        (
            [
                helper.make_node("Transpose", ["tokens"], ["turned"], perm=[0, 2, 1]),
                helper.make_node("MatMul", ["tokens", "turned"], ["gram"]),
                helper.make_node("MatMul", ["gram", "tokens"], ["out"], "late"),
            ],
            "operator MatMul .* only as a part of GELU or of attention",
        ),
    ],
)
def test_parts_that_make_no_whole_are_refused_by_name(nodes: list[onnx.NodeProto], words: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOpError, match=words) as error:
        read(spell(nodes, {}), tmp_path)

    assert error.value.hint


def test_norm_over_several_axes_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("LayerNormalization", ["tokens", "s", "s"], ["out"], "wide", axis=1)]

    with pytest.raises(UnsupportedOpError, match=r"'wide'.*from axis 1"):
        read(spell(nodes, {"s": np.ones((4, 6))}), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["vit_ti_16", "vit_b_16"])
def test_full_size_files_answer_as_torch(variant: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = build_model(parse_model_name(variant)).eval()
    graph = trace(module, (3, 224, 224), name=variant)
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    expected = run_torch(module, x)

    write_onnx(graph, tmp_path / "vit.onnx", CARD)
    content = build_tflite(graph, CARD)

    assert is_wholly_delegated(content)
    np.testing.assert_allclose(run(tmp_path / "vit.onnx", x)[graph.output], expected, atol=1e-4)
    np.testing.assert_allclose(run_float_file(graph, x), expected, atol=1e-4)
