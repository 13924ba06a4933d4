from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from edgekit.core.quant import QuantizedGraph, QuantParams
from edgekit.export.onnx_qdq import ActivationType, integer_bounds
from edgekit.export.onnx_writer import build_onnx, with_all_outputs
from edgekit.export.torch_graph import trace
from edgekit.quantize.reference import quantize_input, run_integer
from graphs import GraphBuilder, quantize_for_test
from onnx_files import ShuffleUnit, SmallNet, card_for, pictures, run, settle

ACTIVATION_TYPES = get_args(ActivationType)


def quantized_net(module: nn.Module, x: np.ndarray) -> QuantizedGraph:
    return quantize_for_test(trace(settle(module), x.shape[1:], name="net"), x)


def conv_relu(zero_point: int, *, num_bits: int = 8, op: str = "Relu") -> QuantizedGraph:
    """One fused pair, its output on a grid with a given zero-point."""
    net = GraphBuilder((1, 2, 6, 6))
    conv = net.conv("input", 4)
    activation = net.relu(conv) if op == "Relu" else net.relu6(conv)
    net.flatten(activation)
    model = quantize_for_test(net.build(), pictures((1, 2, 6, 6)))
    grid = QuantParams(
        scale=np.array([0.02], np.float32), zero_point=np.array([zero_point], np.int32), num_bits=num_bits
    )
    grids = {name: grid if name != "input" else params for name, params in model.activations.items()}
    return QuantizedGraph(graph=model.graph, scheme=model.scheme, activations=grids, constants=model.constants)


def integers(model: QuantizedGraph, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: np.rint(values / model.activations[name].scale).astype(int) + model.activations[name].zero_point
        for name, values in outputs.items()
    }


def ops(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def optimized_ops(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Operators that are left after ONNX Runtime fused integers."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(model.SerializeToString(), options)
    return ops(onnx.load(folder / "optimized.onnx"))


@pytest.mark.parametrize("activations", ACTIVATION_TYPES)
def test_qdq_file_stays_within_one_step_of_the_integer_reference_layer_by_layer(activations: ActivationType) -> None:
    net = GraphBuilder((1, 3, 17, 17), seed=3)
    x = net.relu6(net.conv("input", 16, stride=2, pads=1))
    x = net.relu(net.conv(x, 16, 3, pads=1, group=16))
    x = net.conv(x, 8, 1)
    x = net.relu(net.binary("Add", x, net.conv(x, 8, 3, pads=1, group=2)))
    net.gemm(net.flatten(net.global_pool(x)), 6)
    x_values = pictures((2, 3, 17, 17))
    model = quantize_for_test(net.build(), x_values)

    outputs = run(with_all_outputs(build_onnx(model, card_for(), activations=activations)), x_values)

    expected = run_integer(model, quantize_input(model, x_values))
    assert set(outputs) == set(expected) - {"input"}
    for name, found in integers(model, outputs).items():
        difference = np.abs(found - expected[name])
        assert difference.max() <= 1, name
        assert np.mean(difference > 0) < 0.02, name


@pytest.mark.parametrize("activations", ACTIVATION_TYPES)
def test_qdq_file_holds_exactly_the_integers_and_scales_that_were_decided(activations: ActivationType) -> None:
    model = quantized_net(SmallNet(), pictures((2, 3, 32, 32)))

    proto = build_onnx(model, card_for(), activations=activations)

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        name = node.output[0].removesuffix("_dequantized")
        tensor = model.constants.get(name)
        grid = tensor.params if tensor is not None else model.activations[name]
        np.testing.assert_array_equal(arrays[node.input[1]].reshape(-1), grid.scale)
        shift = 128 if activations == "uint8" and tensor is None else 0
        if len(node.input) > 2:
            np.testing.assert_array_equal(arrays[node.input[2]].reshape(-1), grid.zero_point + shift)
        if tensor is not None:
            np.testing.assert_array_equal(arrays[node.input[0]], tensor.values)
            assert arrays[node.input[0]].dtype == tensor.values.dtype
    assert set(model.constants) <= {name for node in proto.graph.node for name in node.output}
    assert not set(model.constants) & set(arrays)


def test_both_activation_types_mean_the_same_integers() -> None:
    x = pictures((2, 3, 32, 32))
    model = quantized_net(SmallNet(), x)

    found = [run(build_onnx(model, card_for(), activations=kind), x) for kind in ACTIVATION_TYPES]

    step = model.activations[model.graph.output].scale
    np.testing.assert_allclose(found[0][model.graph.output], found[1][model.graph.output], atol=1.01 * float(step[0]))


def test_constant_operand_takes_the_type_of_activations() -> None:
    net = GraphBuilder((1, 3, 6, 6))
    x = net.binary("Mul", "input", net.constant("gain", np.array([[[[0.5]], [[1.0]], [[-2.0]]]])))
    net.flatten(net.global_pool(x))
    x_values = pictures((1, 3, 6, 6))
    model = quantize_for_test(net.build(), x_values)

    protos = {kind: build_onnx(model, card_for(), activations=kind) for kind in ACTIVATION_TYPES}

    for kind, proto in protos.items():
        stored = next(item for item in proto.graph.initializer if item.name == "gain_quantized")
        assert numpy_helper.to_array(stored).dtype == np.dtype(kind)
    outputs = [run(proto, x_values)[model.graph.output] for proto in protos.values()]
    np.testing.assert_allclose(
        outputs[0], outputs[1], atol=1.01 * float(model.activations[model.graph.output].scale[0])
    )


def test_runtime_fuses_every_layer_into_integers_by_default(tmp_path: Path) -> None:
    class Net(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(
                nn.Conv2d(3, 8, 3, 2, 1),
                nn.ReLU6(),
                nn.MaxPool2d(3, 2, 1),
                ShuffleUnit(8),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(8, 4),
            )

    model = quantized_net(Net(), pictures((1, 3, 32, 32)))

    found = optimized_ops(build_onnx(model, card_for()), tmp_path)

    assert found["QLinearConv"] == 3
    assert found["QGemm"] == 1
    assert found["QuantizeLinear"] == 1
    assert found["DequantizeLinear"] == 1
    assert not found.keys() & {"Conv", "Gemm", "Relu", "Clip", "GlobalAveragePool"}


@pytest.mark.parametrize("op", ["Relu", "Clip"])
def test_fused_activation_vanishes_when_the_grid_implies_it(op: str) -> None:
    model = conv_relu(-128, op=op)

    found = ops(build_onnx(model, card_for()))

    assert found["Relu"] == found["Clip"] == 0


@pytest.mark.parametrize("activations", ACTIVATION_TYPES)
@pytest.mark.parametrize(("zero_point", "num_bits"), [(-40, 8), (-8, 4), (0, 4)])
def test_fused_activation_becomes_an_integer_clip_when_the_grid_is_wider(
    zero_point: int, num_bits: int, activations: ActivationType, tmp_path: Path
) -> None:
    x = pictures((1, 2, 6, 6))
    model = conv_relu(zero_point, num_bits=num_bits)
    proto = build_onnx(model, card_for(), activations=activations)

    found = integers(model, run(proto, x))[model.graph.output]

    expected = run_integer(model, quantize_input(model, x))[model.graph.output]
    assert np.abs(found - expected).max() <= 1
    assert found.min() == zero_point
    assert found.max() <= model.activations[model.graph.output].qmax
    assert ops(proto)["Clip"] >= 1
    if activations == "uint8":  # ONNX Runtime on x86 leaves some int8 layers in float.
        assert optimized_ops(proto, tmp_path)["QLinearConv"] == 1


def test_activation_without_a_grid_stays_float() -> None:
    x = pictures((1, 2, 6, 6))
    model = conv_relu(-128)
    weights_only = QuantizedGraph(graph=model.graph, scheme="weight_only", activations={}, constants=model.constants)

    proto = build_onnx(weights_only, card_for())

    assert ops(proto)["QuantizeLinear"] == 0
    assert ops(proto)["Relu"] == 1
    constants = {name: tensor.dequantize() for name, tensor in model.constants.items()}
    expected = run(build_onnx(model.graph.replace(constants=constants), card_for()), x)
    np.testing.assert_allclose(run(proto, x)[model.graph.output], expected[model.graph.output], atol=1e-5)


def test_with_all_outputs_does_not_change_what_a_quantized_file_computes() -> None:
    x = pictures((2, 3, 32, 32))
    proto = build_onnx(quantized_net(SmallNet(), x), card_for())

    every = run(with_all_outputs(proto), x)

    for name, values in run(proto, x).items():
        np.testing.assert_array_equal(every[name], values)


def test_quantized_file_gives_the_same_bytes_for_the_same_graph() -> None:
    x = pictures((1, 3, 32, 32))
    model = quantized_net(SmallNet(), x)

    first, second = (build_onnx(model, card_for()).SerializeToString(deterministic=True) for _ in range(2))

    assert first == second


@given(
    scale=st.floats(1e-4, 10.0),
    zero_point=st.integers(-128, 127),
    num_bits=st.integers(4, 8),
    low=st.floats(-20.0, 20.0),
    width=st.floats(0.0, 40.0),
)
def test_integer_bounds_clip_integers_as_real_values_are_clipped(
    scale: float, zero_point: int, num_bits: int, low: float, width: float
) -> None:
    grid = QuantParams(
        scale=np.array([scale], np.float32), zero_point=np.array([zero_point], np.int32), num_bits=num_bits
    )
    real = np.linspace(-50, 50, 201, dtype=np.float32)
    bounds = (float(np.float32(low)), float(np.float32(low + width)))

    ends = integer_bounds(grid, bounds)

    expected = grid.quantize(np.clip(real, *bounds))
    np.testing.assert_array_equal(np.clip(grid.quantize(real), *ends), expected)


@settings(max_examples=15)
@given(
    channels=st.integers(1, 4),
    groups=st.sampled_from([1, 2, 4]),
    stride=st.integers(1, 2),
    pads=st.integers(0, 1),
    op=st.sampled_from(["MaxPool", "AveragePool", None]),
    seed=st.integers(0, 99),
)
def test_qdq_file_equals_the_integer_reference_for_random_layers(
    channels: int, groups: int, stride: int, pads: int, op: str | None, seed: int
) -> None:
    net = GraphBuilder((1, 4, 9, 8), seed=seed)
    x = net.relu(net.conv("input", channels * groups, stride=stride, pads=pads, group=groups))
    if op is not None:
        x = net.pool(op, x, 2, stride=2)
    net.gemm(net.flatten(x), 3)
    x_values = pictures((1, 4, 9, 8), seed)
    model = quantize_for_test(net.build(), x_values)

    found = integers(model, run(build_onnx(model, card_for()), x_values))[model.graph.output]

    expected = run_integer(model, quantize_input(model, x_values))[model.graph.output]
    # One step in the layer itself, and what a step or two in the layers before it can move.
    assert np.abs(found - expected).max() <= 2
