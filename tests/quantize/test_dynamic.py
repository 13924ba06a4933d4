"""Dynamic quantization: integer weights, and the reference for what kernels do with them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.entropy import order0_bits
from edgekit.core.errors import GraphError, QuantizationError, UnsupportedOpError, UsageError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.core.recipe import QuantizeSection
from edgekit.quantize.calibration import observed_activations
from edgekit.quantize.dynamic import Span, dynamic_grid, quantize_dynamic, run_dynamic
from edgekit.quantize.entropy import limit_bytes
from edgekit.quantize.execute import run_float
from edgekit.quantize.plan import plan_quantization
from edgekit.quantize.ptq import quantize_static
from transformers import SIZE, small_graph

FINITE = st.floats(-1e6, 1e6, width=32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return small_graph()


@pytest.fixture(scope="module")
def pictures() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(4, 1, SIZE, SIZE)).astype(np.float32)


def section(bits: int = 8) -> QuantizeSection:
    return QuantizeSection(scheme=f"dynamic_wi{bits}_ai8")


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_weights_lie_within_half_a_step_or_saturate_and_all_else_stays_float(graph: Graph, bits: int) -> None:
    model = quantize_dynamic(graph, section(bits))

    layers = [node for node in graph.nodes if node.op in WEIGHTED_OPS]
    assert model.constants.keys() == {node.inputs[1] for node in layers}
    assert model.activations == {}
    assert model.is_dynamic
    for name, tensor in model.constants.items():
        qmax = 2 ** (bits - 1) - 1
        assert tensor.values.dtype == np.int8
        assert np.abs(tensor.values).max() <= qmax
        scale = tensor.params.scale.reshape(-1, *[1] * (tensor.values.ndim - 1))
        off = np.abs(tensor.dequantize() - np.asarray(graph.constants[name], np.float32)) / scale
        assert off[np.abs(tensor.values) < qmax].max() <= 0.501
        if bits == 8:  # the largest weight of every channel is the last level
            assert off.max() <= 0.501
            assert np.abs(tensor.values).reshape(len(tensor.values), -1).max(1).min() == qmax


@settings(deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=6), elements=FINITE))
def test_run_time_grid_holds_zero_exactly_and_every_value_within_a_step(x: npt.NDArray[np.float32]) -> None:
    scale, zero_point = dynamic_grid(x, (x.ndim - 1,))

    assert scale.shape == (*x.shape[:-1], 1)
    assert np.all((zero_point >= 0) & (zero_point <= 255) & (zero_point == np.rint(zero_point)))
    steps = np.clip(np.rint(x / scale) + zero_point, 0, 255)
    assert np.all(np.abs((steps - zero_point) * scale - x) <= 1.001 * scale)  # half from rounding, half from the ends


@pytest.mark.parametrize("span", ["tensor", "token"])
def test_reference_is_close_to_float_and_a_picture_apart_from_others(
    graph: Graph, pictures: npt.NDArray[np.float32], span: Span
) -> None:
    model = quantize_dynamic(graph, section())
    real = run_float(graph, pictures)[graph.output]

    found = run_dynamic(model, pictures, span)[graph.output]

    assert 10 * math.log10(np.square(real).sum() / np.square(found - real).sum()) > 20
    alone = run_dynamic(model, pictures[:1], span)[graph.output]
    assert np.allclose(alone, found[:1], rtol=1e-4, atol=1e-5) == (span == "token")


def test_grids_of_their_own_serve_tokens_better(graph: Graph, pictures: npt.NDArray[np.float32]) -> None:
    model = quantize_dynamic(graph, section())
    real = run_float(graph, pictures[:1])[graph.output]

    noise = {
        span: float(np.square(run_dynamic(model, pictures[:1], span)[graph.output] - real).sum())
        for span in ("tensor", "token")
    }

    assert noise["token"] < noise["tensor"]


def test_fewer_bits_are_fewer_bytes_and_more_noise(graph: Graph, pictures: npt.NDArray[np.float32]) -> None:
    models = [quantize_dynamic(graph, section(bits)) for bits in (8, 6, 4)]
    real = run_float(graph, pictures)[graph.output]

    sizes = [sum(order0_bits(tensor.values) for tensor in model.constants.values()) for model in models]
    noise = [np.square(run_dynamic(model, pictures, "token")[graph.output] - real).sum() for model in models]

    assert sizes == sorted(sizes, reverse=True)
    assert noise == sorted(noise)


def test_limit_counts_what_stays_in_float(graph: Graph) -> None:
    model = quantize_dynamic(graph, section())

    in_float = sum(4 * array.size for name, array in graph.constants.items() if name not in model.constants)
    integers = sum(math.ceil(order0_bits(t.values) / 8) + 4 * t.params.scale.size for t in model.constants.values())
    assert limit_bytes(model) == in_float + integers


def test_one_scale_and_a_reduced_range_are_taken(graph: Graph) -> None:
    layer = next(node for node in graph.nodes if node.op == "Gemm")
    config = QuantizeSection(scheme="dynamic_wi8_ai8", reduce_range=True)

    model = quantize_dynamic(graph, config, one_scale=[layer.name])

    assert np.unique(model.constants[layer.inputs[1]].params.scale).size == 1
    assert max(int(np.abs(tensor.values).max()) for tensor in model.constants.values()) == 63


@pytest.mark.parametrize(
    "scheme", ["static_wi8_ai8", "dynamic_wi3_ai8", "dynamic_wimixed_ai8", "weight_only_wi8_afp32"]
)
def test_other_schemes_are_refused(graph: Graph, scheme: str) -> None:
    with pytest.raises(UsageError, match=scheme) as error:
        quantize_dynamic(graph, QuantizeSection(scheme=scheme))

    assert error.value.hint


def test_weights_that_are_no_numbers_are_refused_by_name(graph: Graph) -> None:
    name = "blocks.1.perceptron.0.weight"
    spoiled = graph.constants[name].copy()
    spoiled[3, 5] = np.nan

    with pytest.raises(QuantizationError, match=name):
        quantize_dynamic(graph.replace(constants={**graph.constants, name: spoiled}), section())


def test_input_of_another_shape_is_refused(graph: Graph) -> None:
    with pytest.raises(GraphError, match="expected"):
        run_dynamic(quantize_dynamic(graph, section()), np.zeros((1, 3, SIZE, SIZE), np.float32), "token")


def test_static_quantization_names_the_layer_and_the_scheme_to_take(graph: Graph) -> None:
    for refuse in (plan_quantization, observed_activations):
        with pytest.raises(UnsupportedOpError, match=r"attention_norm.*no static integer form") as error:
            refuse(graph)
        assert "dynamic_wi8_ai8" in (error.value.hint or "")


def test_static_quantizer_refuses_a_dynamic_scheme(mobile: tuple[Graph, npt.NDArray[np.float32]]) -> None:
    graph, _ = mobile

    with pytest.raises(UsageError, match="not static"):
        quantize_static(graph, None, section())  # pyright: ignore[reportArgumentType] - refused before it is read
