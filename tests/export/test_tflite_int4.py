"""INT4 weight tensors: what the file holds, and that LiteRT answers as with the same integers in int8."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.errors import UsageError
from edgekit.core.graph import Graph
from edgekit.core.quant import QuantizedGraph, QuantParams
from edgekit.core.recipe import QuantizeSection
from edgekit.encode.packing import find_tensors, pack
from edgekit.encode.unpacking import MemorySink, unpack
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.stored import read_stored
from edgekit.export.tflite import build_tflite, write_tflite
from edgekit.export.tflite_buffer import TfliteBuilder
from edgekit.export.tflite_nibbles import int4_layers, pack_nibbles, unpack_nibbles
from edgekit.verify.integers import first_difference
from graphs import GraphBuilder, quantize_for_test
from tflite_runs import CARD, OPERATOR_NAMES, parse, run, tensors, to_nhwc


def quantized(graph: Graph, num_bits: int = 4) -> QuantizedGraph:
    x = np.random.default_rng(0).normal(0, 1, (16, *graph.shapes[graph.input][1:])).astype(np.float32)
    section = QuantizeSection(scheme=f"static_wi{num_bits}_ai8", ranges="minmax", bias_correction=False)
    return quantize_for_test(graph, x, section)


def conv_graph(**options: Any) -> Graph:
    builder = GraphBuilder((1, 3, 9, 7), seed=1)
    return builder.build(builder.relu6(builder.conv("input", 5, 3, pads=1, **options)))


def odd_graph() -> Graph:
    builder = GraphBuilder((1, 3, 9, 7), seed=2)
    return builder.build(builder.conv(builder.conv("input", 5, 3), 7, 1))


def grouped_graph() -> Graph:
    builder = GraphBuilder((1, 6, 9, 7), seed=3)
    return builder.build(builder.conv("input", 9, 3, group=3))


def dense_graph() -> Graph:
    builder = GraphBuilder((1, 3, 5, 3), seed=4)
    return builder.build(builder.gemm(builder.flatten("input"), 7))


def mixed_graph() -> Graph:
    """Convolution, depthwise convolution, dense."""
    builder = GraphBuilder((1, 3, 10, 10), seed=5)
    y = builder.relu6(builder.conv("input", 12, 3, pads=1, stride=2))
    y = builder.relu6(builder.conv(y, 12, 3, pads=1, group=12))
    return builder.build(builder.gemm(builder.flatten(builder.global_pool(y)), 5))


GRAPHS = {
    "conv": conv_graph(),
    "strided": conv_graph(stride=2),
    "odd": odd_graph(),
    "grouped": grouped_graph(),
    "dense": dense_graph(),
    "mixed": mixed_graph(),
}


def run_builtin(content: bytes, x: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """The answer of LiteRT's own kernels, without XNNPACK, which takes int8 and no INT4 convolutions."""
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@given(hnp.arrays(np.int8, hnp.array_shapes(min_dims=0, max_dims=4, max_side=5), elements=st.integers(-8, 7)))
@settings(max_examples=50)
def test_nibbles_come_back(values: npt.NDArray[np.int8]) -> None:
    packed = pack_nibbles(values)

    assert packed.size == (values.size + 1) // 2
    np.testing.assert_array_equal(unpack_nibbles(packed.tobytes(), values.size), values.reshape(-1))


@pytest.mark.parametrize("value", [-9, 8, 127])
def test_nibbles_refuse_integers_of_more_bits(value: int) -> None:
    with pytest.raises(ValueError, match=r"-8\.\.7"):
        pack_nibbles(np.array([0, value], np.int8))


@pytest.mark.parametrize("size", [0, 1, 3])
def test_nibbles_refuse_another_number_of_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"3 elements of 4 bits: got {size} bytes"):
        unpack_nibbles(bytes(size), 3)


@pytest.mark.parametrize("name", GRAPHS)
def test_int4_file_answers_as_the_int8_file(name: str) -> None:
    graph = GRAPHS[name]
    model = quantized(graph)
    wide, narrow = build_tflite(model, CARD), build_tflite(model, CARD, compute="int4")
    x = np.random.default_rng(7).integers(-128, 128, graph.shapes[graph.input]).astype(np.int8)
    expected, found = run_builtin(wide, to_nhwc(x)), run_builtin(narrow, to_nhwc(x))

    assert np.unique(expected).size >= 3
    np.testing.assert_array_equal(found, expected)
    # with XNNPACK, which rounds another way, on the layers that it takes
    assert np.abs(run(narrow, to_nhwc(x)).astype(int) - run(wide, to_nhwc(x))).max() <= 2


def test_int4_file_stores_two_weights_a_byte_and_depthwise_ones_in_int8() -> None:
    model = quantized(GRAPHS["mixed"])
    content = build_tflite(model, CARD, compute="int4")
    conv, depthwise, dense = (node for node in model.graph.nodes if node.op in {"Conv", "Gemm"})
    found = tensors(content)
    parsed = parse(content)
    buffers: Any = parsed.buffers
    types = {node.name: found[node.inputs[1]].type for node in (conv, depthwise, dense)}
    narrow, wide = schema.TensorType.INT4, schema.TensorType.INT8

    assert types == {conv.name: narrow, depthwise.name: wide, dense.name: narrow}
    assert int4_layers(model) == (conv.name, dense.name)
    assert len(buffers[found[conv.inputs[1]].buffer].data) == (12 * 3 * 3 * 3) // 2
    codes: Any = parsed.operatorCodes
    versions = {OPERATOR_NAMES[code.builtinCode]: code.version for code in codes}
    assert (versions["CONV_2D"], versions["DEPTHWISE_CONV_2D"], versions["FULLY_CONNECTED"]) == (7, 3, 10)


@pytest.mark.parametrize("name", GRAPHS)
def test_stored_reads_int4_weights_as_the_onnx_file_has_them(name: str, tmp_path: Path) -> None:
    model = quantized(GRAPHS[name])
    write_tflite(model, tmp_path / "net.tflite", CARD, compute="int4")
    write_onnx(model, tmp_path / "net.onnx", CARD)
    stored = read_stored(tmp_path / "net.tflite")

    assert first_difference(model.graph, read_stored(tmp_path / "net.onnx"), stored) is None
    assert stored.float_layers == ()
    for node in model.graph.nodes:
        if node.name in int4_layers(model):
            weight = stored.constants[node.inputs[1]]
            assert weight.storage_bits == 4
            assert weight.size_bytes == (weight.values.size + 1) // 2


@pytest.mark.parametrize("channels", [15, 16])
def test_int4_weights_are_packed_as_integers_and_come_back(channels: int) -> None:
    builder = GraphBuilder((1, channels, 4, 4), seed=6)
    graph = builder.build(builder.conv("input", 2 * channels + 1, 3, pads=1))
    model = quantized(graph)
    narrow, wide = build_tflite(model, CARD, compute="int4"), build_tflite(model, CARD)
    packed = pack(narrow)
    sink = MemorySink()
    unpack(io.BytesIO(packed.content), len(packed.content), sink)
    elements = {tensor.name: tensor.element for tensor in find_tensors(narrow)[1] if tensor.role == "tensor"}

    assert bytes(sink.content) == narrow
    assert elements[graph.nodes[0].inputs[1]] == "i4"
    # the same information either way; the half byte of padding and the last row cost a description of their own
    assert abs(len(packed.content) - len(pack(wide).content)) < 100


@given(
    hnp.arrays(np.int8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=9), elements=st.integers(-8, 7)),
    st.integers(1, 100),
)
@settings(max_examples=25, deadline=None)
def test_packing_gives_back_int4_tensors_of_any_shape(values: npt.NDArray[np.int8], repeats: int) -> None:
    params = QuantParams(scale=np.ones(1, np.float32), zero_point=np.zeros(1, np.int32), num_bits=4)
    builder = TfliteBuilder()
    x = builder.add_activation("x", (1, 2), np.float32)
    builder.add_nibbles("w", np.repeat(values, repeats, axis=0), params)
    content = bytes(builder.build("net", [x], [x], {}))
    packed = pack(content)
    sink = MemorySink()
    unpack(io.BytesIO(packed.content), len(packed.content), sink)

    assert bytes(sink.content) == content


def test_int4_is_refused_when_no_layer_has_four_bits() -> None:
    model = quantized(GRAPHS["mixed"], num_bits=5)

    with pytest.raises(UsageError, match="no convolution or fully-connected layer has weights of 4 bits") as caught:
        build_tflite(model, CARD, compute="int4")
    assert caught.value.hint is not None
    assert "--bits 4" in caught.value.hint
    with pytest.raises(UsageError, match="compute int4"):
        build_tflite(GRAPHS["mixed"], CARD, compute="int4")


def test_int4_takes_only_the_layers_that_have_four_bits() -> None:
    four, eight = quantized(GRAPHS["mixed"]), quantized(GRAPHS["mixed"], num_bits=8)
    dense = GRAPHS["mixed"].nodes[-1].inputs[1]
    mixed = QuantizedGraph(
        graph=eight.graph,
        scheme="static_wi8_ai8",
        activations=eight.activations,
        constants={**eight.constants, dense: four.constants[dense]},
    )

    assert int4_layers(mixed) == (GRAPHS["mixed"].nodes[-1].name,)
