from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import GraphError
from edgekit.core.graph import Graph, Node
from edgekit.core.quant import QuantizedGraph, QuantParams, QuantTensor
from edgekit.quantize.execute import run_float
from edgekit.quantize.reference import activation_limits, quantize_input, round_half_away, run_integer


def grid(scale: float, zero_point: int) -> QuantParams:
    return QuantParams(scale=np.array([scale], dtype=np.float32), zero_point=np.array([zero_point], dtype=np.int32))


def per_channel(values: npt.NDArray[np.integer], scale: npt.NDArray[np.float32]) -> QuantTensor:
    params = QuantParams(scale=scale, zero_point=np.zeros(scale.size, dtype=np.int32), axis=0)
    return QuantTensor(values=values, params=params)


def round_fraction(value: Fraction) -> int:
    """Nearest whole number, ties away from zero, without floating point."""
    magnitude = (2 * abs(value) + 1) // 2
    return int(magnitude if value >= 0 else -magnitude)


def naive_convolution(model: QuantizedGraph, x: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """One Conv in Python integers and fractions, loop by loop."""
    node = model.graph.nodes[0]
    weight, bias = (model.constants[name] for name in node.inputs[1:])
    source, target = model.activations["x"], model.activations["y"]
    stride, (top, left, _, _), group = node.ints("strides")[0], node.ints("pads"), node.int("group")
    _, out_channels, out_h, out_w = model.graph.shapes["y"]
    in_per_group = weight.values.shape[1]
    result = np.zeros((x.shape[0], out_channels, out_h, out_w), dtype=np.int8)
    for n, o, row, column in np.ndindex(*result.shape):
        total = int(bias.values[o])
        for i, ky, kx in np.ndindex(*weight.values.shape[1:]):
            y, z = row * stride + ky - top, column * stride + kx - left
            if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                channel = o // (out_channels // group) * in_per_group + i
                total += int(weight.values[o, i, ky, kx]) * (int(x[n, channel, y, z]) - int(source.zero_point[0]))
        multiplier = Fraction(float(source.scale[0])) * Fraction(float(weight.params.scale[o]))
        steps = round_fraction(total * multiplier / Fraction(float(target.scale[0])))
        result[n, o, row, column] = min(max(steps + int(target.zero_point[0]), -128), 127)
    return result


@given(
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    zero_points=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    seed=st.integers(0, 9999),
)
def test_convolution_matches_naive_integer_loops(
    *,
    groups: int,
    channels: tuple[int, int],
    kernel: int,
    stride: int,
    pads: tuple[int, int, int, int],
    zero_points: tuple[int, int],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    shape = (groups * channels[1], channels[0], kernel, kernel)
    attrs = {"strides": (stride, stride), "pads": pads, "dilations": (1, 1), "group": groups}
    node = Node(name="conv", op="Conv", inputs=("x", "w", "b"), outputs=("y",), attrs=attrs)
    constants = {"w": np.zeros(shape, dtype=np.float32), "b": np.zeros(shape[0], dtype=np.float32)}
    input_shape = (1, groups * channels[0], 4, 5)
    sizes = {"x": input_shape}
    graph = Graph(name="g", input="x", output="y", nodes=(node,), constants=constants, shapes=sizes)
    sizes["y"] = run_float(graph, np.zeros(input_shape, dtype=np.float32))["y"].shape
    scale = rng.uniform(1e-3, 2e-2, size=shape[0]).astype(np.float32)
    model = QuantizedGraph(
        graph=graph,
        scheme="static_wi8_ai8",
        activations={"x": grid(0.02, zero_points[0]), "y": grid(0.03, zero_points[1])},
        constants={
            "w": per_channel(rng.integers(-127, 128, size=shape).astype(np.int8), scale),
            "b": per_channel(rng.integers(-5000, 5000, size=shape[0]).astype(np.int32), scale),
        },
    )
    x = rng.integers(-128, 128, size=(2, *input_shape[1:])).astype(np.int8)
    np.testing.assert_array_equal(run_integer(model, x)["y"], naive_convolution(model, x))


@pytest.mark.parametrize(
    ("x", "expected"), [(0.5, 1), (-0.5, -1), (1.5, 2), (2.5, 3), (-2.5, -3), (0.49, 0), (-7.2, -7)]
)
def test_ties_round_away_from_zero(x: float, expected: int) -> None:
    assert round_half_away(np.array([x]))[0] == expected


def test_integer_execution_follows_float(mobile: Any, quantize_float: Any) -> None:
    graph, pictures = mobile
    model = quantize_float(graph, pictures)
    exact = run_float(graph, pictures)
    integers = run_integer(model, quantize_input(model, pictures))
    assert set(integers) == set(model.activations)
    for name, values in integers.items():
        assert values.dtype == np.int8
        error = model.activations[name].dequantize(values) - exact[name]
        sqnr = 10 * np.log10((exact[name] ** 2).mean() / (error**2).mean())
        assert sqnr > 30, f"{name}: {sqnr:.1f} dB"


def test_every_operator_stays_within_a_step_of_float_on_its_own(graph_builder: Any, quantize_float: Any) -> None:
    cases = {
        "Relu": {},
        "Clip": {"min": -1.0, "max": 1.0},
        "Sigmoid": {},
        "HardSwish": {},
        "HardSigmoid": {"alpha": 1 / 6, "beta": 0.5},
        "Softmax": {"axis": 1},
        "GlobalAveragePool": {},
        "MaxPool": {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0)},
        "AveragePool": {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "count_include_pad": 1},
        "Pad": {"pads": (1, 1, 1, 1), "value": 0.0},
        "Transpose": {"perm": (0, 2, 3, 1)},
        "Reshape": {"shape": (1, 12, 4, 4)},
    }
    for op, attrs in cases.items():
        builder = graph_builder()
        builder.add("y", op, "x", **attrs)
        graph, pictures = builder.finish(), builder.pictures(8)
        model = quantize_float(graph, pictures, ranges="minmax")
        x = quantize_input(model, pictures)
        exact = run_float(graph, model.activations["x"].dequantize(x))["y"]
        result = model.activations["y"].dequantize(run_integer(model, x)["y"])
        assert np.abs(result - exact).max() <= float(model.activations["y"].scale[0]) * 1.01, op


def test_fused_clip_saturates_below_the_grid_end() -> None:
    node = Node(name="act", op="Clip", inputs=("a",), outputs=("b",), attrs={"min": 0.0, "max": 6.0})
    assert activation_limits(grid(0.1, -50), node) == (-50, 10)
    assert activation_limits(grid(6 / 255, -128), node) == (-128, 127)
    assert activation_limits(grid(0.1, -50), None) == (-128, 127)


def test_activation_without_a_grid_is_named(mobile: Any, quantize_float: Any) -> None:
    graph, pictures = mobile
    model = quantize_float(graph, pictures[:4])
    grids = {name: params for name, params in model.activations.items() if name != "dw.act"}
    holed = QuantizedGraph(graph=model.graph, scheme=model.scheme, activations=grids, constants=model.constants)
    with pytest.raises(GraphError, match=r"dw\.act has no grid"):
        run_integer(holed, quantize_input(holed, pictures[:1]))


def test_moving_operator_across_grids_is_refused(mobile: Any, quantize_float: Any) -> None:
    graph, pictures = mobile
    model = quantize_float(graph, pictures[:4])
    grids = {**model.activations, "shuffle": grid(0.5, 3)}
    broken = QuantizedGraph(graph=model.graph, scheme=model.scheme, activations=grids, constants=model.constants)
    with pytest.raises(GraphError, match="node shuffle: ChannelShuffle needs one grid"):
        run_integer(broken, quantize_input(broken, pictures[:1]))
