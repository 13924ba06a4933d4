"""The container: alignment, sharing, and what a reader finds in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.quant import QuantParams
from edgekit.export.tflite_buffer import BUFFER_ALIGNMENT, TfliteBuilder
from tflite_runs import buffer_bytes, constant, parse, scales, subgraph, tensors, vector, zero_points

ARRAYS = st.sampled_from([np.float32, np.int8, np.int32]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=5))
)


def build(arrays: list[npt.NDArray[Any]], params: QuantParams | None = None) -> bytes:
    builder = TfliteBuilder()
    x = builder.add_activation("x", (1, 2), np.float32)
    for number, array in enumerate(arrays):
        builder.add_constant(f"c{number}", array, params)
    return bytes(builder.build("net", [x], [x], {"NOTE": b"hello"}))


@given(st.lists(ARRAYS, max_size=5))
@settings(max_examples=50)
def test_constants_come_back_and_start_on_sixteen_byte_borders(arrays: list[npt.NDArray[Any]]) -> None:
    content = build(arrays)
    model = schema.Model.GetRootAs(bytearray(content), 0)

    for number, array in enumerate(arrays):
        np.testing.assert_array_equal(constant(content, f"c{number}"), array)
        buffer = model.Buffers(number + 1)
        assert buffer is not None
        start = buffer._tab.Vector(buffer._tab.Offset(4))
        assert start % BUFFER_ALIGNMENT == 0


def test_metadata_comes_back() -> None:
    model = parse(build([]))
    entry = (model.metadata or [])[0]

    assert entry.name == b"NOTE"
    assert buffer_bytes(model, entry.buffer) == b"hello"


def test_zero_points_of_equal_length_are_stored_once() -> None:
    params = QuantParams(scale=np.linspace(1, 2, 1000, dtype=np.float32), zero_point=np.zeros(1000, np.int32), axis=0)
    array = np.zeros((1000, 1), np.int8)
    one, two = build([array], params), build([array, array], params)

    # 4,000 bytes of scales and 1,000 of integers, but not another 8,000 of zero-points
    assert len(two) - len(one) < 5_400
    for name in ("c0", "c1"):
        tensor = tensors(two)[name]
        np.testing.assert_array_equal(scales(tensor), params.scale)
        np.testing.assert_array_equal(zero_points(tensor), params.zero_point)


def test_equal_index_constants_are_stored_once() -> None:
    builder = TfliteBuilder()

    assert builder.add_index_constant("a", (1, 2)) == builder.add_index_constant("b", (1, 2))
    assert builder.add_index_constant("a", (1, 2)) != builder.add_index_constant("c", (2, 1))


def test_unknown_element_type_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        TfliteBuilder().add_constant("c", np.zeros(2, np.float64))


def test_activation_shape_and_grid_come_back() -> None:
    builder = TfliteBuilder()
    params = QuantParams(scale=np.array([0.5], np.float32), zero_point=np.array([-7], np.int32))
    x = builder.add_activation("x", (1, 4, 4, 3), np.int8, params)
    content = bytes(builder.build("net", [x], [x], {}))
    tensor = tensors(content)["x"]

    assert vector(tensor.shape) == [1, 4, 4, 3]
    assert (scales(tensor), zero_points(tensor)) == ([0.5], [-7])
    assert vector(subgraph(parse(content)).inputs) == [x]
