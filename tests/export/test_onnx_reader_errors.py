"""Files that cannot be read: each a clear error that says what, where and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.export.onnx_reader import read_onnx
from edgekit.export.onnx_writer import build_onnx
from edgekit.export.torch_graph import trace
from onnx_files import HEAD, WEIGHTS, SmallNet, card_for, write_text


def test_read_onnx_refuses_another_size_when_the_file_has_one(tmp_path: Path) -> None:
    path = write_text(tmp_path / "net.onnx", f"h = Conv(x, w) {HEAD}", WEIGHTS)

    with pytest.raises(GraphError, match="8 pixels, expected 32"):
        read_onnx(path, input_size=32)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("h = LeakyRelu(x)", ("LeakyRelu", "'h'", "not supported")),
        ("h = ConvTranspose(x, w)", ("ConvTranspose", "'h'")),
        ("[named] h = Elu(x)", ("Elu", "'named'")),
        ("q = Sigmoid(w) s = Mul(x, c3) k = Conv(s, w) h = Conv(k, k)", ("Conv", "'h'", "must be constant")),
        ("h = ReduceMean<axes=[1]>(x)", ("ReduceMean", "axes (1,)")),
        ("r = Relu(x) h = Div(x, r)", ("Div", "'h'")),
        ('h = Pad<mode="reflect">(x, pads)', ("Pad", "reflect")),
        ("h = Reshape(x, mixed)", ("Reshape", "batch")),
        ("h = BatchNormalization<training_mode=1>(x, scale, shift, mean, var)", ("training mode",)),
        ("h = Cast<to=7>(x)", ("Cast", "'h'")),
        ("s = QuantizeLinear(x, one) h = DequantizeLinear(s, one)", ("quantized already", "QuantizeLinear", "'s'")),
        ("q = DequantizeLinear(w8, one) h = Conv(x, q)", ("quantized already", "DequantizeLinear")),
        ("h = com.microsoft.Gelu(x)", ("com.microsoft.Gelu", "'h'")),
    ],
)
def test_read_onnx_names_operator_and_node_when_it_is_not_supported(
    tmp_path: Path, body: str, words: tuple[str, ...]
) -> None:
    weights = WEIGHTS | {"mixed": np.array([3, 1, 8, 8], np.int64), "w8": np.ones((4, 3, 1, 1), np.int8)}
    path = write_text(tmp_path / "net.onnx", f"{body.replace('com.microsoft.', '')} {HEAD}", weights)
    if "com.microsoft" in body:
        model = onnx.load(path)
        model.graph.node[0].domain = "com.microsoft"
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        onnx.save(model, path)

    with pytest.raises(UnsupportedOpError) as error:
        read_onnx(path)

    assert all(word in error.value.message for word in words), error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": "float[N,3,8,8] x, float[N,3,8,8] other"}, ("2 inputs", "x, other")),
        ({"output": "float[N,K] y, float[N,C,A,B] h"}, ("2 outputs", "y, h")),
        ({"input": "uint8[N,3,8,8] x"}, ("'x'", "uint8", "expected float")),
        ({"input": "float16[N,3,8,8] x"}, ("'x'", "float16")),
        ({"input": "float[N,3,8] x"}, ("3 dimensions",)),
        ({"input": "float[N,C,8,8] x"}, ("channels", "open")),
        ({"input": "float[N,4,8,8] x"}, ("Conv", "'h'", "(1, 4, 8, 8)")),
        ({"input": "float[N,3,2,2] x"}, ("Conv", "'h'", "at least as large")),
    ],
)
def test_read_onnx_fails_clearly_when_input_or_output_does_not_fit(
    tmp_path: Path, changes: dict[str, str], words: tuple[str, ...]
) -> None:
    source, result = changes.get("input", "float[N,3,8,8] x"), changes.get("output", "float[N,K] y")
    path = write_text(tmp_path / "net.onnx", f"h = Conv(x, w) {HEAD}", WEIGHTS, input=source, output=result)

    with pytest.raises(GraphError) as error:
        read_onnx(path)

    assert all(word in error.value.message for word in words), error.value.message
    assert error.value.hint


@pytest.mark.parametrize("body", ["h = Transpose<perm=[1,0,2,3]>(x)", "h = Concat<axis=0>(x, x)"])
def test_read_onnx_names_the_node_when_it_moves_the_batch(tmp_path: Path, body: str) -> None:
    path = write_text(tmp_path / "net.onnx", f"{body} {HEAD}", WEIGHTS)

    with pytest.raises(GraphError, match=r"'h'.*batch"):
        read_onnx(path)


def test_read_onnx_fails_clearly_when_the_output_is_a_map(tmp_path: Path) -> None:
    path = write_text(tmp_path / "net.onnx", "y = Conv(x, w)", WEIGHTS)

    with pytest.raises(GraphError, match=r"\(1, 4, 6, 6\).*one score per class"):
        read_onnx(path)


@pytest.mark.parametrize("content", [b"", b"not a model at all", bytes(range(256)) * 4])
def test_read_onnx_fails_clearly_when_the_file_is_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)

    with pytest.raises(GraphError, match=r"net\.onnx"):
        read_onnx(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_read_onnx_fails_clearly_when_the_file_is_truncated(tmp_path: Path, share: float) -> None:
    path = tmp_path / "net.onnx"
    content = build_onnx(trace(SmallNet(), (3, 32, 32), name="net"), card_for()).SerializeToString()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(GraphError, match=r"net\.onnx"):
        read_onnx(path)


@pytest.mark.parametrize("name", ["missing.onnx", "."])
def test_read_onnx_fails_clearly_when_there_is_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(GraphError, match="cannot read"):
        read_onnx(tmp_path / name)


def test_read_onnx_fails_clearly_when_a_weight_is_not_finite(tmp_path: Path) -> None:
    path = write_text(tmp_path / "net.onnx", f"h = Conv(x, w) {HEAD}", WEIGHTS | {"w": np.full((4, 3, 3, 3), np.nan)})

    with pytest.raises(GraphError, match="'w' holds NaN"):
        read_onnx(path)


def test_read_onnx_fails_clearly_when_the_card_is_damaged(tmp_path: Path) -> None:
    path = write_text(tmp_path / "net.onnx", f"h = Conv(x, w) {HEAD}", WEIGHTS)
    model = onnx.load(path)
    helper.set_model_props(model, {"edgekit.card": '{"model": 3}'})
    onnx.save(model, path)

    with pytest.raises(GraphError, match=r"edgekit\.card"):
        read_onnx(path)
