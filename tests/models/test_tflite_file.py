"""A .tflite file as data: what our own writer wrote comes back, and damage is an error that says so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import IntegrityError
from edgekit.core.quant import QuantizedGraph
from edgekit.export.tflite import build_tflite
from edgekit.models.tflite_file import TfliteTensor, dequantize, read_tflite
from graphs import GraphBuilder, quantize_for_test
from model_bytes import tflite_bytes
from onnx_files import pictures
from tflite_runs import CARD


def small_network() -> QuantizedGraph:
    """A convolution, a depthwise one of stride 2, a shortcut, a classifier."""
    b = GraphBuilder((1, 3, 8, 8))
    x = b.relu6(b.conv("input", 8, pads=1))
    x = b.binary("Add", x, b.conv(x, 8, 3, pads=1, group=8))
    x = b.conv(x, 8, 3, stride=2, pads=(0, 0, 1, 1))
    b.gemm(b.flatten(b.global_pool(x)), 5)
    graph = b.build()
    return quantize_for_test(graph, pictures((1, 3, 8, 8)))


NETWORK = small_network()
CONTENT = build_tflite(NETWORK, CARD)


ON_GRID = TfliteTensor(
    name="w",
    shape=(2, 2),
    type="INT8",
    scale=np.array([0.5], np.float32),
    zero_point=np.array([1], np.int64),
    axis=0,
    values=np.array([[0, 10], [20, 30]], np.int8),
)
PER_CHANNEL = {"scale": np.array([1, 0.5], np.float32), "zero_point": np.array([0, 10], np.int64)}


def test_operators_come_back_in_order_with_what_steers_them() -> None:
    file = read_tflite(CONTENT)
    first, depthwise, _, strided = file.operators[:4]

    assert [operator.kind for operator in file.operators[:4]] == ["CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "CONV_2D"]
    assert file.operators[-1].kind == "FULLY_CONNECTED"
    assert (first.activation, first.padding, first.strides) == ("RELU6", "SAME", (1, 1))
    assert (depthwise.activation, depthwise.dilations) == ("NONE", (1, 1))
    assert strided.strides == (2, 2)
    assert file.tensors[file.inputs[0]].shape == (1, 8, 8, 3)


def test_constants_come_back_as_the_integers_and_grids_that_were_written() -> None:
    stored = {tensor.name: tensor for tensor in read_tflite(CONTENT).tensors if tensor.values is not None}

    weights = {name: one for name, one in NETWORK.constants.items() if one.values.dtype == np.int8}
    assert weights
    for name, one in weights.items():
        order = {"DEPTHWISE": (1, 2, 3, 0), "CONV": (0, 2, 3, 1), "GEMM": (0, 1)}
        kind = "GEMM" if one.values.ndim == 2 else "DEPTHWISE" if one.values.shape[1] == 1 else "CONV"
        np.testing.assert_array_equal(stored[name].values, one.values.transpose(order[kind]))
        np.testing.assert_array_equal(dequantize(stored[name]), one.dequantize().transpose(order[kind]))


def test_dequantize_follows_the_axis_and_the_zero_points() -> None:
    rows = msgspec.structs.replace(ON_GRID, axis=0, **PER_CHANNEL)
    columns = msgspec.structs.replace(ON_GRID, axis=1, **PER_CHANNEL)

    np.testing.assert_array_equal(dequantize(ON_GRID), [[-0.5, 4.5], [9.5, 14.5]])
    np.testing.assert_array_equal(dequantize(columns), [[0, 0], [20, 10]])
    np.testing.assert_array_equal(dequantize(rows), [[0, 10], [5, 10]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": None}, "no values"),
        ({"values": np.ones((2, 2), np.float32), "type": "FLOAT32"}, "FLOAT32 with 1 scales, expected integers"),
        ({"scale": np.empty(0, np.float32)}, "0 scales"),
        ({"scale": np.array([np.nan], np.float32)}, "not positive"),
        ({"scale": np.array([0.0], np.float32)}, "not positive"),
        ({"scale": np.ones(3, np.float32)}, "3 scales"),
        ({"zero_point": np.ones(3, np.int64)}, "3 zero-points"),
        ({"scale": np.ones(2, np.float32), "axis": 4}, "along axis 4"),
        ({"scale": np.ones(2, np.float32), "axis": -1}, "along axis -1"),
    ],
)
def test_grid_that_is_none_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        dequantize(msgspec.structs.replace(ON_GRID, **changes))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0" * 64, b"PK\3\4" * 20])
def test_foreign_bytes_are_named(content: bytes) -> None:
    with pytest.raises(IntegrityError, match="expected b'TFL3'"):
        read_tflite(content)


def test_file_without_operators_is_refused() -> None:
    with pytest.raises(IntegrityError, match="0 operators"):
        read_tflite(tflite_bytes({"w": np.ones((2, 2), np.int8)}))


@given(st.integers(0, len(CONTENT) - 1))
def test_truncated_file_is_refused_or_lost_nothing_that_was_read(length: int) -> None:
    try:
        file = read_tflite(CONTENT[:length])
    except IntegrityError:
        return
    whole = read_tflite(CONTENT)
    assert length > 0.9 * len(CONTENT)  # the model's card, which is no part of the network, comes last
    assert file.operators == whole.operators
    for one, other in zip(file.tensors, whole.tensors, strict=True):
        np.testing.assert_array_equal(one.values, other.values)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(8, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_file_is_read_or_refused_and_nothing_else(changes: list[tuple[int, int]]) -> None:
    content = bytearray(CONTENT)
    for position, value in changes:
        content[position] = value
    try:
        file = read_tflite(bytes(content))
    except IntegrityError:
        return
    for one in file.tensors:
        if one.values is not None:
            try:
                assert dequantize(one).shape == one.shape
            except IntegrityError:
                continue


def test_third_party_files_are_read(shared_data: Path) -> None:
    for path in sorted((shared_data / "models").glob("*.tflite")):
        file = read_tflite(path.read_bytes())
        assert sum(operator.kind == "CONV_2D" for operator in file.operators) >= 9, path
