"""Local response normalization is the same in torch, the hub graph, ONNX and TFLite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from edgekit.core.errors import UnsupportedOpError
from edgekit.export.onnx_reader import read_onnx
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import build_tflite
from edgekit.export.torch_graph import trace
from edgekit.quantize.execute import run_float
from edgekit.quantize.network import GraphNetwork
from graphs import quantize_for_test
from tflite_runs import CARD, operators, run, tensors, to_nhwc


class Normalized(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 3)
        self.norm = nn.LocalResponseNorm(size, alpha=0.3, beta=0.6, k=1.5)
        self.classifier = nn.Linear(7 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.norm(self.conv(x)).flatten(1))


@pytest.mark.parametrize("size", [1, 3, 5, 9])
@torch.inference_mode()
def test_every_form_computes_what_torch_does(size: int, tmp_path: Path) -> None:
    torch.manual_seed(size)
    module = Normalized(size).eval()
    x = 3 * np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    expected = module(torch.from_numpy(x)).numpy()

    graph = trace(module, (3, 4, 4), name="norm")
    write_onnx(graph, tmp_path / "norm.onnx", CARD)
    session = onnxruntime.InferenceSession(str(tmp_path / "norm.onnx"), providers=["CPUExecutionProvider"])
    again, _ = read_onnx(tmp_path / "norm.onnx")

    np.testing.assert_allclose(run_float(graph, x)[graph.output], expected, atol=1e-5)
    np.testing.assert_allclose(run_float(again, x)[again.output], expected, atol=1e-5)
    np.testing.assert_allclose(GraphNetwork(graph)(torch.from_numpy(x)).numpy(), expected, atol=1e-5)
    from_onnx = np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])
    np.testing.assert_allclose(from_onnx, expected, atol=1e-5)
    np.testing.assert_allclose(run(build_tflite(graph, CARD), to_nhwc(x)), expected, atol=1e-5)


def test_int8_file_holds_no_float() -> None:
    torch.manual_seed(0)
    graph = trace(Normalized(5).eval(), (3, 4, 4), name="norm")
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)

    content = build_tflite(quantize_for_test(graph, x), CARD)

    assert all(tensor.type != 0 for tensor in tensors(content).values())
    assert "LOCAL_RESPONSE_NORMALIZATION" not in operators(content)


def test_even_window_is_refused_because_its_middle_is_not_agreed_on() -> None:
    with pytest.raises(UnsupportedOpError, match="over 4 channels"):
        trace(Normalized(4).eval(), (3, 4, 4), name="norm")
