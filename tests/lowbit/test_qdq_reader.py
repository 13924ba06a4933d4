"""Decisions read back from QDQ files: of our own writer exactly, of others as far as our formats can say them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import GraphError
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.quant import QuantizedGraph, QuantParams
from edgekit.export.onnx_qdq import ActivationType
from edgekit.export.onnx_writer import build_onnx, write_onnx
from edgekit.export.tflite import build_tflite
from edgekit.lowbit.foreign_grids import Adopted, adopt
from edgekit.lowbit.qdq_reader import QdqFile, read_qdq
from edgekit.quantize.execute import run_float
from edgekit.quantize.plan import plan_quantization
from edgekit.quantize.ranges import grid_of_range
from edgekit.quantize.reference import quantize_input, run_integer
from graphs import GraphBuilder, quantize_for_test

CARD = ModelCard(
    model="net",
    scheme="float",
    labels=(),
    preprocess=PreprocessSpec(input_size=(8, 8), mean=(0.0,) * 3, std=(1.0,) * 3),
)


def network() -> Graph:
    """Fused and plain layers, a depthwise one, a join, a concatenation, a shuffle, a pool, a constant operand."""
    builder = GraphBuilder((1, 3, 8, 8), seed=1)
    stem = builder.relu6(builder.conv("input", 8, 3, pads=1))
    left = builder.conv(builder.relu(builder.conv(stem, 8, 3, pads=1, group=8)), 8, 1, bias=False)
    joined = builder.concat([builder.binary("Add", stem, left), stem])
    scaled = builder.binary("Mul", builder.shuffle(joined, 2), builder.constant("factor", np.linspace(0.5, 2, 1)))
    pooled = builder.global_pool(builder.pool("MaxPool", scaled, 2, stride=2))
    return builder.build(builder.gemm(builder.flatten(pooled), 5))


def quantized(graph: Graph) -> QuantizedGraph:
    shape = (16, *graph.shapes[graph.input][1:])
    return quantize_for_test(graph, np.random.default_rng(0).normal(0, 1, shape).astype(np.float32))


GRAPH = network()
MODEL = quantized(GRAPH)
FALLBACK = {name: grid_of_range(-3.0, 5.0) for group in plan_quantization(GRAPH).groups for name in group.members}


def own_file(activations: ActivationType = "uint8") -> onnx.ModelProto:
    return build_onnx(MODEL, CARD, activations=activations)


def weight_node(index: int) -> str:
    return plan_quantization(GRAPH).layers[index].node.name


def weight_name(index: int) -> str:
    return plan_quantization(GRAPH).layers[index].weight


def changed(**fields: Any) -> Adopted:
    """What is made of our own decisions with some of them replaced."""
    own = read_qdq(own_file(), GRAPH.activations())
    parts: dict[str, Any] = {"weights": own.weights, "biases": own.biases, "activations": own.activations}
    for key, value in fields.items():
        parts[key] = {**parts[key], **value}
    return adopt(GRAPH, QdqFile(**parts), FALLBACK)


def with_grid(index: int, **fields: Any) -> Adopted:
    """As `changed`, with other values or another grid in one weight."""
    tensor = read_qdq(own_file(), GRAPH.activations()).weights[weight_node(index)]
    values = fields.pop("values", tensor.values)
    params = QuantParams(**{"scale": tensor.params.scale, "zero_point": tensor.params.zero_point, "axis": 0, **fields})
    return changed(weights={weight_node(index): type(tensor)(values=values, params=params)})


def assert_same_grids(found: QuantizedGraph, expected: QuantizedGraph) -> None:
    assert found.activations.keys() == expected.activations.keys()
    for name, grid in expected.activations.items():
        np.testing.assert_array_equal(found.activations[name].scale, grid.scale)
        np.testing.assert_array_equal(found.activations[name].zero_point, grid.zero_point)


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_own_file_comes_back_integer_by_integer(activations: ActivationType) -> None:
    adopted = adopt(GRAPH, read_qdq(own_file(activations), GRAPH.activations()), FALLBACK)
    found = adopted.model

    assert adopted.notes == ()
    assert adopted.num_exact == 4
    assert_same_grids(found, MODEL)
    assert found.constants.keys() == MODEL.constants.keys()
    for name, tensor in MODEL.constants.items():
        np.testing.assert_array_equal(found.constants[name].values, tensor.values)
        assert found.constants[name].values.dtype == tensor.values.dtype
        np.testing.assert_array_equal(found.constants[name].params.scale, tensor.params.scale)
    assert build_onnx(found, CARD) == own_file()
    assert build_tflite(found, CARD) == build_tflite(MODEL, CARD)


def test_activation_left_in_float_gets_the_grid_of_calibration() -> None:
    own = read_qdq(own_file(), GRAPH.activations())
    kept = {name: grids for name, grids in own.activations.items() if name != GRAPH.output}
    adopted = adopt(GRAPH, QdqFile(weights=own.weights, biases=own.biases, activations=kept), FALLBACK)

    assert adopted.model.activations[GRAPH.output] is FALLBACK[GRAPH.output]
    assert adopted.notes == (
        f"1 x activations left in float have a grid from edgekit's calibration (first: {GRAPH.output})",
    )


def test_different_grids_of_a_concatenation_become_one_that_spans_both() -> None:
    concat = next(node for node in GRAPH.nodes if node.op == "Concat")
    narrow, wide = grid_of_range(0.0, 6.0), grid_of_range(-2.0, 4.0)
    adopted = changed(activations={concat.inputs[0]: (narrow,), concat.inputs[1]: (wide,), concat.output: (wide,)})
    grid = adopted.model.activations[concat.output]

    assert adopted.model.activations[concat.inputs[0]] is grid
    assert adopted.model.activations[concat.inputs[1]] is grid
    low, high = (float(grid.scale[0]) * (end - int(grid.zero_point[0])) for end in (-128, 127))
    # the other members of the group keep what they had, so the range is at least this
    assert low <= -2.0 + 0.05
    assert high >= 6.0 - 0.05
    assert any("only moved" in note for note in adopted.notes)
    build_tflite(adopted.model, CARD)


def test_grid_per_channel_of_an_activation_becomes_one_that_spans_all() -> None:
    grid = QuantParams(
        scale=np.array([0.01, 0.02], np.float32), zero_point=np.array([-128, 0], np.int32), axis=1, num_bits=8
    )
    layer = plan_quantization(GRAPH).layers[1]
    found = changed(activations={layer.output: (grid,)}).model.activations[layer.output]

    # channel ends: 0..2.55 and -2.56..2.54
    np.testing.assert_allclose(found.scale, [(2.55 + 2.56) / 255], rtol=1e-5)


def test_weights_with_one_scale_keep_their_integers() -> None:
    adopted = with_grid(0, scale=np.array([0.25], np.float32), zero_point=np.zeros(1, np.int32), axis=None)
    tensor = adopted.model.constants[weight_name(0)]

    np.testing.assert_array_equal(tensor.values, MODEL.constants[weight_name(0)].values)
    np.testing.assert_array_equal(tensor.params.scale, np.full(8, 0.25, np.float32))
    assert adopted.num_exact == 4
    build_tflite(adopted.model, CARD)


def test_asymmetric_weights_are_rounded_again_to_the_same_real_values() -> None:
    scale = MODEL.constants[weight_name(0)].params.scale
    adopted = with_grid(0, zero_point=np.full(scale.size, 3, np.int32))
    real = (MODEL.constants[weight_name(0)].values.astype(np.float64) - 3) * scale.reshape(-1, 1, 1, 1)
    tensor = adopted.model.constants[weight_name(0)]

    assert not tensor.params.zero_point.any()
    assert np.abs(tensor.dequantize() - real).max() <= float(tensor.params.scale.max()) * 0.51
    assert adopted.num_exact == 3
    assert any("asymmetric weights" in note and weight_node(0) in note for note in adopted.notes)


def test_weights_per_input_channel_are_rounded_again_per_output_channel() -> None:
    scale = np.array([0.01, 0.02, 0.03], np.float32)
    adopted = with_grid(0, scale=scale, zero_point=np.zeros(3, np.int32), axis=1)

    assert adopted.model.constants[weight_name(0)].params.scale.size == 8
    assert any("per input channel" in note for note in adopted.notes)


def test_weights_of_minus_128_become_minus_127() -> None:
    values = MODEL.constants[weight_name(0)].values.copy()
    values.flat[0] = -128
    adopted = with_grid(0, values=values)

    assert adopted.model.constants[weight_name(0)].values.min() == -127
    assert any("-128" in note for note in adopted.notes)


def test_weights_left_in_float_are_rounded_here() -> None:
    own = read_qdq(own_file(), GRAPH.activations())
    weights = {name: tensor for name, tensor in own.weights.items() if name != weight_node(2)}
    adopted = adopt(GRAPH, QdqFile(weights=weights, biases=own.biases, activations=own.activations), FALLBACK)

    # by the same rule as ours, so the integers are ours
    np.testing.assert_array_equal(
        adopted.model.constants[weight_name(2)].values, MODEL.constants[weight_name(2)].values
    )
    assert any("left in float" in note for note in adopted.notes)


def foreign_conv(bias: bool = True) -> onnx.ModelProto:
    """A convolution as other tools write it: the copy has the new name, the bias is float, the axis negative."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "s": np.array(0.5, np.float32),
        "z": np.array(131, np.uint8),
        "w_q": np.arange(-4, 4, dtype=np.int8).reshape(4, 2, 1, 1),
        "w_s": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        "w_z": np.zeros(4, np.int8),
        "b": np.arange(4, dtype=np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "s", "z"], ["x_dq"]),
        helper.make_node("DequantizeLinear", ["w_q", "w_s", "w_z"], ["w"], axis=-4),
        helper.make_node("Conv", ["x_dq", "w", *(["b"] if bias else [])], ["y"], name="conv"),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], initializer=tensors))


def test_foreign_file_is_read_under_the_names_of_the_graph() -> None:
    found = read_qdq(foreign_conv(), ("x", "y"))
    (grid,) = found.activations["x"]

    assert (float(grid.scale[0]), int(grid.zero_point[0]), grid.axis) == (0.5, 3, None)
    assert found.weights["conv"].params.axis == 0
    np.testing.assert_array_equal(found.biases["conv"], [0, 1, 2, 3])
    assert found.unknown == ()
    assert read_qdq(foreign_conv(bias=False), ("x",)).biases == {}


def test_grid_of_an_unknown_value_is_reported() -> None:
    assert read_qdq(foreign_conv(), ("y",)).unknown == ("x",)


def test_unsigned_weights_come_back_signed() -> None:
    model = foreign_conv()
    for tensor in model.graph.initializer:
        if tensor.name in {"w_q", "w_z"}:
            array = (numpy_helper.to_array(tensor).astype(np.int16) + 128).astype(np.uint8)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    weight = read_qdq(model, ("x",)).weights["conv"]

    np.testing.assert_array_equal(weight.values.reshape(-1), np.arange(-4, 4))
    assert not weight.params.zero_point.any()


def test_integers_of_sixteen_bits_are_refused() -> None:
    model = foreign_conv()
    for tensor in model.graph.initializer:
        if tensor.name == "z":
            tensor.CopyFrom(numpy_helper.from_array(np.array(0, np.uint16), "z"))

    with pytest.raises(GraphError, match="expected integers of 8 bits, got uint16"):
        read_qdq(model, ("x",))


def test_file_of_onnxruntimes_quantizer_is_adopted(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization", reason="this ONNX Runtime has no quantizer")
    pictures = np.random.default_rng(0).normal(0, 1, (16, *GRAPH.shapes[GRAPH.input][1:])).astype(np.float32)

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(pictures)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            row = next(self.rows, None)
            return None if row is None else {GRAPH.input: row[None]}

    write_onnx(GRAPH, tmp_path / "float.onnx", CARD)
    options = {"WeightSymmetric": True}
    files = (tmp_path / "float.onnx", tmp_path / "qdq.onnx")
    quantization.quantize_static(*files, Reader(), per_channel=True, extra_options=options)
    found = read_qdq(onnx.load(tmp_path / "qdq.onnx"), GRAPH.activations())
    adopted = adopt(GRAPH, found, FALLBACK)
    exact = run_float(GRAPH, pictures)[GRAPH.output]
    grid = adopted.model.activations[GRAPH.output]
    integers = run_integer(adopted.model, quantize_input(adopted.model, pictures))[GRAPH.output]

    assert found.weights.keys() == {layer.node.name for layer in plan_quantization(GRAPH).layers}
    assert adopted.num_exact == 4, adopted.notes
    assert np.corrcoef(exact.ravel(), grid.dequantize(integers).ravel())[0, 1] > 0.99
    build_tflite(adopted.model, CARD)
