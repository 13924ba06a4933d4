"""Small real model files for the runtime's tests, written by edgekit's own exporters or by onnx.helper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.core.artifact import ModelCard
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from graphs import GraphBuilder, quantize_for_test

CARD = ModelCard(
    model="tiny",
    scheme="float",
    labels=("ant", "bee", "cat", "dog", "emu", "fox", "gnu"),
    preprocess=PreprocessSpec(input_size=(8, 8), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
)

OnnxMaker = Callable[..., Path]


def _tiny_graph() -> Graph:
    build = GraphBuilder((1, 3, 8, 8), seed=3, name="tiny")
    x = build.relu(build.conv("input", 8, stride=2, pads=1))
    x = build.conv(x, 8, pads=1, group=8)
    return build.build(build.gemm(build.flatten(build.global_pool(x)), 7))


@pytest.fixture(scope="session")
def card() -> ModelCard:
    """Card of the tiny models: 7 classes, 8x8 RGB."""
    return CARD


@pytest.fixture(scope="session")
def tiny_graph() -> Graph:
    """The network of all tiny models."""
    return _tiny_graph()


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory, tiny_graph: Graph) -> dict[str, Path]:
    """The same network as float.onnx, int8.onnx, float.tflite and int8.tflite. Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("tiny")
    pictures = np.random.default_rng(0).standard_normal((16, 3, 8, 8), dtype=np.float32) * 2
    quantized = quantize_for_test(tiny_graph, pictures)
    paths = {name: folder / name for name in ("float.onnx", "int8.onnx", "float.tflite", "int8.tflite")}
    write_onnx(tiny_graph, paths["float.onnx"], CARD)
    int8_card = msgspec.structs.replace(CARD, scheme=quantized.scheme)
    write_onnx(quantized, paths["int8.onnx"], int8_card)
    write_tflite(tiny_graph, paths["float.tflite"], CARD)
    write_tflite(quantized, paths["int8.tflite"], int8_card)
    return paths


@pytest.fixture
def make_onnx(tmp_path: Path) -> OnnxMaker:
    """Write an ONNX file by hand: the mean over height and width of each of `num_inputs` inputs' channels, added up."""

    def make(
        *,
        shape: tuple[int | str, ...] = ("n", 3, 8, 8),
        num_inputs: int = 1,
        num_outputs: int = 1,
        dtype: int = TensorProto.FLOAT,
        metadata: dict[str, str] | None = None,
    ) -> Path:
        inputs = [helper.make_tensor_value_info(f"x{index}", dtype, shape) for index in range(num_inputs)]
        nodes = [
            helper.make_node("Cast", [f"x{index}"], [f"f{index}"], to=TensorProto.FLOAT) for index in range(num_inputs)
        ]
        nodes.append(helper.make_node("Sum", [f"f{index}" for index in range(num_inputs)], ["sum"]))
        nodes.append(helper.make_node("ReduceMean", ["sum", "axes"], ["y0"], keepdims=0))
        nodes += [helper.make_node("Neg", ["y0"], [f"y{index}"]) for index in range(1, num_outputs)]
        outputs = [
            helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, (shape[0], shape[1]))
            for index in range(num_outputs)
        ]
        axes = numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
        graph = helper.make_graph(nodes, "mean", inputs, outputs, [axes])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        helper.set_model_props(model, metadata or {})
        path = tmp_path / "mean.onnx"
        onnx.save(model, path)
        return path

    return make
