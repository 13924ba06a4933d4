"""MobileNets built by TensorFlow's conventions: torch, ONNX and TFLite pad alike, no file has an operator for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.graph import Graph
from edgekit.export.tflite import build_tflite
from edgekit.export.tflite_window import WindowAxis
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.layers import same_padding
from edgekit.models.zoo import build_model
from graphs import quantize_for_test
from onnx_files import pictures, run_graph, run_torch, settle
from tflite_runs import CARD, operators, run, run_float_file, to_nhwc

SIZES = (96, 99, 31)
"""Even at every step; odd and even in turns; the small-image stem."""

OPTIONS = {
    f"{variant}-{size}": BuildOptions(
        variant=variant,
        width=0.25,
        num_classes=5,
        input_size=size,
        padding="same",
        activation="relu6",
        batch_norm=variant == "mobilenet_v1",
    )
    for variant in ("mobilenet_v1", "mobilenet_v2")
    for size in SIZES
}


def network(options: BuildOptions) -> tuple[torch.nn.Module, Graph]:
    """Seeded weights, biases that are not 0."""
    torch.manual_seed(0)
    module = settle(build_model(options))
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None:
                layer.bias.normal_(0, 0.1)
    size = options.input_size
    return module, trace(module, (options.in_channels, size, size), name=options.variant)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_format_computes_what_torch_computes(name: str) -> None:
    options = OPTIONS[name]
    module, graph = network(options)
    x = pictures((1, 3, options.input_size, options.input_size))

    expected = run_torch(module, x)

    tolerance = 1e-5 * float(np.abs(expected).max()) + 1e-6
    np.testing.assert_allclose(run_graph(graph, x), expected, atol=tolerance)
    np.testing.assert_allclose(run_float_file(graph, x), expected, atol=tolerance)


@pytest.mark.parametrize("name", OPTIONS)
def test_no_file_holds_a_padding_operator(name: str) -> None:
    options = OPTIONS[name]
    _, graph = network(options)
    x = pictures((1, 3, options.input_size, options.input_size))
    model = quantize_for_test(graph, x)

    assert "Pad" not in {node.op for node in graph.nodes}
    for content in (build_tflite(graph, CARD), build_tflite(model, CARD)):
        assert not operators(content).keys() & {"PAD", "PADV2", "TRANSPOSE"}


def test_int8_file_pads_as_the_float_file_does() -> None:
    _, graph = network(OPTIONS["mobilenet_v2-96"])
    x = pictures((1, 3, 96, 96))
    model = quantize_for_test(graph, x)
    integers = model.activations[graph.input].quantize(x).astype(np.int8)

    answer = model.activations[graph.output].dequantize(run(build_tflite(model, CARD), to_nhwc(integers)))

    real = run_graph(graph, x)
    assert 10 * np.log10(np.sum(real**2) / np.sum((answer - real) ** 2)) > 15


@given(size=st.integers(1, 400), kernel_size=st.sampled_from([1, 3, 5, 7]), stride=st.integers(1, 3))
def test_padding_is_what_tflite_calls_same(size: int, kernel_size: int, stride: int) -> None:
    before, after = same_padding(size, kernel_size, stride)

    out_size = (size + before + after - kernel_size) // stride + 1
    axis = WindowAxis(in_size=size, out_size=out_size, kernel=kernel_size, stride=stride, before=before)
    assert axis.is_same
    assert axis.after == after
    assert before <= after <= before + 1
