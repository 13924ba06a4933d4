"""Every family at 224 pixels: right, wholly delegated, without float operators and stray transposes, and quick."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.core.graph import Graph
from edgekit.export.tflite import build_tflite
from edgekit.export.torch_graph import trace
from edgekit.export.unshuffle import unshuffle
from edgekit.models.zoo import build_model, parse_model_name
from edgekit.quantize.execute import run_float
from graphs import quantize_for_test
from tflite_runs import CARD, is_wholly_delegated, operators, run, tensors, to_nhwc

VARIANTS = (
    "mobilenet_v1",
    "mobilenet_v2",
    "squeezenet1_0",
    "squeezenet1_1",
    "shufflenet_v1_x1_0_g3",
    "shufflenet_v1_x0_25_g8",
    "shufflenet_v2_x1_0",
    "efficientnet_lite0",
)
NUM_UNITS = 16
"""Shuffle units of a ShuffleNet V1, each of which may keep one TRANSPOSE."""


@pytest.fixture(scope="module", params=VARIANTS)
def network(request: pytest.FixtureRequest) -> tuple[Graph, np.ndarray]:
    """A graph with seeded weights, and a picture."""
    torch.manual_seed(0)
    module = build_model(parse_model_name(request.param)).eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.8, 1.2)
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    return unshuffle(trace(module, (3, 224, 224), name=request.param)), x


def test_float_file_is_right_and_one_partition(network: tuple[Graph, np.ndarray]) -> None:
    graph, x = network
    content = build_tflite(graph, CARD)

    np.testing.assert_allclose(run(content, to_nhwc(x)), run_float(graph, x)[graph.output], atol=1e-4)
    assert is_wholly_delegated(content)
    assert operators(content)["TRANSPOSE"] <= (NUM_UNITS if graph.name.startswith("shufflenet_v1") else 0)


def test_int8_file_is_close_integer_throughout_and_one_partition(network: tuple[Graph, np.ndarray]) -> None:
    graph, x = network
    model = quantize_for_test(graph, x)
    content = build_tflite(model, CARD)
    integers = model.activations[graph.input].quantize(x).astype(np.int8)

    real = run_float(graph, x)[graph.output]
    answer = model.activations[graph.output].dequantize(run(content, to_nhwc(integers)))
    assert 10 * np.log10(np.sum(real**2) / np.sum((answer - real) ** 2)) > 20
    assert is_wholly_delegated(content)
    assert all(tensor.type != 0 for tensor in tensors(content).values())
    assert operators(content)["TRANSPOSE"] <= (NUM_UNITS if graph.name.startswith("shufflenet_v1") else 0)
