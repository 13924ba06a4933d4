"""Every family at its own size: right, wholly delegated, without float operators and stray transposes, and quick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edgekit.core.graph import Graph
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import build_tflite
from edgekit.export.torch_graph import trace
from edgekit.export.unshuffle import unshuffle
from edgekit.models.zoo import build_model, parse_model_name, with_sizes
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
    "mobilenet_v3_small",
    "mobilenet_v3_large_w0.5",
    "efficientnet_lite0",
    "alexnet_w0.25",
    "zfnet_w0.25",
    "nin_w0.25",
    "googlenet_w0.25",
    "vgg16_w0.125",
    "resnet18_w0.25",
    "resnet50_w0.25",
    "se_resnet50_w0.25",
    "se_efficientnet_lite0",
    "se_mobilenet_v2_w0.5",
    "se_shufflenet_v1_x0_5_g3",
    "densenet121_w0.25",
    "lenet_300_100",
    "lenet5",
)
NUM_UNITS = 16
"""Shuffle units of a ShuffleNet V1, each of which may keep one TRANSPOSE."""


@pytest.fixture(scope="module", params=VARIANTS)
def network(request: pytest.FixtureRequest) -> tuple[Graph, np.ndarray]:
    """A graph with seeded weights, and a picture."""
    torch.manual_seed(0)
    options = parse_model_name(request.param)
    module = build_model(options).eval()
    if request.param.startswith("densenet"):  # whose joined maps grow layer by layer unless every norm has seen them
        settle_norms(module, (options.in_channels, options.input_size, options.input_size))
    for layer in () if request.param.startswith("densenet") else module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.8, 1.2)
    shape = (options.in_channels, options.input_size, options.input_size)
    x = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return unshuffle(trace(module, shape, name=request.param)), x


@torch.no_grad()
def settle_norms(module: torch.nn.Module, shape: tuple[int, int, int]) -> None:
    """Give every BatchNorm the statistics of one random batch."""
    norms = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = 1.0
    module.train()(torch.randn(2, *shape))
    module.eval()


def test_float_file_is_right_and_one_partition(network: tuple[Graph, np.ndarray]) -> None:
    graph, x = network
    content = build_tflite(graph, CARD)

    np.testing.assert_allclose(run(content, to_nhwc(x)), run_float(graph, x)[graph.output], atol=1e-4)
    assert is_wholly_delegated(content) or "LRN" in {node.op for node in graph.nodes}
    assert operators(content)["TRANSPOSE"] <= (NUM_UNITS if "shufflenet_v1" in graph.name else 0)


def test_int8_file_is_close_integer_throughout_and_one_partition(network: tuple[Graph, np.ndarray]) -> None:
    graph, x = network
    model = quantize_for_test(graph, x)
    content = build_tflite(model, CARD)
    integers = model.activations[graph.input].quantize(x).astype(np.int8)

    real = run_float(graph, x)[graph.output]
    answer = model.activations[graph.output].dequantize(run(content, to_nhwc(integers)))
    # All maps of a dense block share one grid, through 58 additions of maps: 18.5 dB were measured.
    floor = 15 if graph.name.startswith("densenet") else 20
    assert 10 * np.log10(np.sum(real**2) / np.sum((answer - real) ** 2)) > floor
    assert is_wholly_delegated(content) or "LRN" in {node.op for node in graph.nodes}
    assert all(tensor.type != 0 for tensor in tensors(content).values())
    assert operators(content)["TRANSPOSE"] <= (NUM_UNITS if "shufflenet_v1" in graph.name else 0)


@pytest.mark.parametrize(("num_channels", "size"), [(1, 28), (3, 29), (3, 32)])
@pytest.mark.parametrize("variant", ["lenet_300_100", "lenet5"])
def test_flattened_map_is_read_alike_in_torch_onnx_and_tflite(
    variant: str, num_channels: int, size: int, tmp_path: Path
) -> None:
    """A linear layer behind a map wider than one pixel: ONNX flattens NCHW, TFLite NHWC."""
    torch.manual_seed(0)
    options = with_sizes(parse_model_name(variant), in_channels=num_channels, input_size=size)
    module = build_model(options).eval()
    x = np.random.default_rng(0).normal(size=(1, num_channels, size, size)).astype(np.float32)
    graph = trace(module, x.shape[1:], name=variant)

    write_onnx(graph, tmp_path / "float.onnx", CARD)
    session = onnxruntime.InferenceSession(str(tmp_path / "float.onnx"), providers=["CPUExecutionProvider"])
    from_onnx = np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])
    content = build_tflite(graph, CARD)

    with torch.inference_mode():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(from_onnx, expected, atol=1e-5)
    np.testing.assert_allclose(run(content, to_nhwc(x)), expected, atol=1e-5)
    assert operators(content)["TRANSPOSE"] == 0
