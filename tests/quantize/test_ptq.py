from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.core.errors import QuantizationError, UsageError
from edgekit.core.quant import QuantizedGraph, QuantParams
from edgekit.core.recipe import QuantizeSection
from edgekit.quantize.execute import run_float
from edgekit.quantize.plan import SHARING_OPS, Layer
from edgekit.quantize.ptq import quantize_static, unshare_constants
from edgekit.quantize.reference import quantize_input, run_integer


def scale_of(model: QuantizedGraph, name: str) -> float:
    return float(model.activations[name].scale[0])


def test_quantized_graph_obeys_the_rules_of_int8_kernels(mobile: Any, quantize_float: Any) -> None:
    model = quantize_float(*mobile)
    for node in model.graph.nodes:
        if node.op in SHARING_OPS and node.inputs[0] in model.activations:
            names = (*node.inputs, *node.outputs)
            assert len({(scale_of(model, name), int(model.activations[name].zero_point[0])) for name in names}) == 1
        if node.op in ("Conv", "Gemm"):
            weight, bias = (model.constants[name] for name in node.inputs[1:])
            assert weight.values.dtype == np.int8
            assert weight.values.min() >= -127
            assert weight.params.axis == 0
            assert not weight.params.zero_point.any()
            assert bias.values.dtype == np.int32
            expected = np.float32(scale_of(model, node.inputs[0])) * weight.params.scale
            np.testing.assert_array_equal(bias.params.scale, expected)
            np.testing.assert_allclose(bias.dequantize(), model.graph.constants[node.inputs[2]], atol=expected.max())


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse"])
def test_every_range_method_keeps_the_answers(mobile: Any, quantize_float: Any, ranges: str) -> None:
    graph, pictures = mobile
    model = quantize_float(graph, pictures, ranges=ranges)
    logits = run_integer(model, quantize_input(model, pictures))["fc"]
    exact = run_float(graph, pictures)["fc"]
    gap = np.sort(exact, axis=1)
    clear = gap[:, -1] - gap[:, -2] > 4 * scale_of(model, "fc")
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(logits.argmax(axis=1)[clear], exact.argmax(axis=1)[clear])


def test_bias_is_added_only_where_correction_needs_one(mobile: Any, quantize_float: Any) -> None:
    graph, pictures = mobile
    corrected = quantize_float(graph, pictures)
    plain = quantize_float(graph, pictures, bias_correction=False)
    assert "dw.bias" in corrected.constants
    assert "dw.bias" not in plain.constants
    assert "dw.bias" not in graph.constants


@pytest.mark.parametrize(("scheme", "reduced", "largest"), [("static_wi8_ai8", True, 63), ("static_wi4_ai8", True, 7)])
def test_grid_bits_limit_the_integers(
    mobile: Any, quantize_float: Any, scheme: str, reduced: bool, largest: int
) -> None:
    model = quantize_float(*mobile, scheme=scheme, reduce_range=reduced)
    weights = [tensor for tensor in model.constants.values() if tensor.values.dtype == np.int8]
    assert {int(np.abs(tensor.values).max()) for tensor in weights} == {largest}
    assert {2 ** (tensor.params.num_bits - 1) - 1 for tensor in weights} == {largest}


def test_rounding_is_replaceable(mobile: Any, calibrate_float: Any) -> None:
    graph, pictures = mobile
    seen: list[str] = []

    def towards_zero(layer: Layer, weight: npt.NDArray[np.floating], grid: QuantParams) -> npt.NDArray[np.int8]:
        seen.append(layer.node.name)
        return np.fix(weight / grid.scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)

    calibration = calibrate_float(graph, pictures)
    model = quantize_static(graph, calibration, QuantizeSection(), rounding=towards_zero)
    assert seen == ["stem", "dw", "project", "fc"]
    nearest = quantize_static(graph, calibration, QuantizeSection())
    assert np.all(np.abs(model.constants["fc.weight"].values) <= np.abs(nearest.constants["fc.weight"].values))


def test_quantization_is_deterministic(mobile: Any, calibrate_float: Any) -> None:
    graph, pictures = mobile
    calibration = calibrate_float(graph, pictures)
    first, second = (quantize_static(graph, calibration, QuantizeSection()) for _ in range(2))
    for name, tensor in first.constants.items():
        np.testing.assert_array_equal(tensor.values, second.constants[name].values)


def test_shared_constants_are_given_to_each_layer(graph_builder: Any, quantize_float: Any) -> None:
    builder = graph_builder((1, 4, 6, 6))
    builder.conv("first", "x", (4, 4, 3, 3))
    builder.add("act", "Relu", "first")
    attrs = builder.nodes[0].attrs
    builder.add("second", "Conv", "act", "first.weight", "first.bias", **attrs)
    graph, pictures = builder.finish(), builder.pictures(8)
    assert len(set(unshare_constants(graph).constants)) == 4
    model = quantize_float(graph, pictures)
    scales = [model.constants[node.inputs[2]].params.scale for node in model.graph.nodes if node.op == "Conv"]
    assert not np.array_equal(scales[0], scales[1])
    exact = run_float(graph, pictures)["second"]
    result = model.activations["second"].dequantize(run_integer(model, quantize_input(model, pictures))["second"])
    assert np.abs(result - exact).max() < 0.1 * np.abs(exact).max()


def test_one_black_picture_quantizes(mobile: Any, quantize_float: Any) -> None:
    graph, pictures = mobile
    model = quantize_float(graph, np.zeros_like(pictures[:1]))
    assert all(np.isfinite(grid.scale).all() and (grid.scale > 0).all() for grid in model.activations.values())
    run_integer(model, quantize_input(model, pictures[:1]))


def test_dead_channel_with_a_bias_survives(graph_builder: Any, quantize_float: Any) -> None:
    builder = graph_builder((1, 4, 6, 6))
    builder.conv("conv", "x", (4, 4, 3, 3))
    builder.constants["conv.weight"][1] = 0.0
    builder.constants["conv.weight"][2] *= 1e-20
    builder.constants["conv.bias"][:] = (0.1, 0.7, 0.7, 0.2)
    graph, pictures = builder.finish(), builder.pictures(8)
    model = quantize_float(graph, pictures)
    result = model.activations["conv"].dequantize(run_integer(model, quantize_input(model, pictures))["conv"])
    np.testing.assert_allclose(result[:, 1:3], 0.7, atol=scale_of(model, "conv"))


@pytest.mark.parametrize("name", ["fc.weight", "stem.bias"])
def test_constant_that_is_not_finite_is_named(mobile: Any, calibrate_float: Any, name: str) -> None:
    graph, pictures = mobile
    calibration = calibrate_float(graph, pictures[:4])
    damaged = graph.constants[name].copy()
    damaged.flat[0] = np.nan
    with pytest.raises(QuantizationError, match=name.replace(".", r"\.")):
        quantize_static(graph.replace(constants={**graph.constants, name: damaged}), calibration, QuantizeSection())


def test_calibration_of_another_graph_is_an_error(mobile: Any, graph_builder: Any, calibrate_float: Any) -> None:
    builder = graph_builder()
    builder.conv("other", "x", (4, 3, 3, 3))
    graph = builder.finish()
    with pytest.raises(QuantizationError, match="another graph"):
        quantize_static(graph, calibrate_float(*mobile), QuantizeSection())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scheme": "dynamic_wi8_ai8"}, UsageError),
        ({"scheme": "int8"}, UsageError),
        ({"ranges": "percentile", "percentile": 0.0}, QuantizationError),
        ({"ranges": "percentile", "percentile": 101.0}, QuantizationError),
    ],
)
def test_bad_options_are_refused(
    mobile: Any, calibrate_float: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    graph, pictures = mobile
    calibration = calibrate_float(graph, pictures[:2])
    with pytest.raises(error):
        quantize_static(graph, calibration, QuantizeSection(**options))


def test_largest_logits_never_saturate(mobile: Any, quantize_float: Any) -> None:
    graph, pictures = mobile
    exact = run_float(graph, pictures)["fc"]
    grid = quantize_float(graph, pictures, ranges="percentile", percentile=90.0).activations["fc"]
    ends = float(grid.scale[0]) * (np.array([grid.qmin, grid.qmax]) - int(grid.zero_point[0]))
    assert ends[0] <= exact.min() + float(grid.scale[0])
    assert ends[1] >= exact.max() - float(grid.scale[0])
