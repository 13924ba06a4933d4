"""A network small enough to compress in a moment, whose answers are right: it tells blue, green and red pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import helper, numpy_helper

COLOURS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}
SIZE = 16
QUICK = ("--no-bench", "--set", "quantize.num_calibration=16")


def paint(path: Path, rgb: tuple[int, int, int], seed: int, size: int = SIZE) -> None:
    noise = np.random.default_rng(seed).integers(-30, 31, (size, size, 3))
    pixels = np.clip(np.asarray(rgb) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[:, :, ::-1])


def write_network(path: Path, *, batch: int | str = "n", size: int | str = SIZE, op: str = "Relu") -> Path:
    """Conv, activation, depthwise Conv, Relu, GlobalAveragePool, Gemm: as a user's exporter writes them, card-less."""
    rng = np.random.default_rng(0)
    stem = rng.normal(0, 0.02, (8, 3, 3, 3))
    for output, channel in enumerate((2, 1, 0)):  # classes in alphabetical order: blue, green, red
        stem[output, channel, 1, 1] = 1.0
    depthwise = np.full((8, 1, 3, 3), 1 / 9) + rng.normal(0, 0.01, (8, 1, 3, 3))
    head = rng.normal(0, 0.02, (3, 8))
    head[:3, :3] += 4 * np.eye(3)
    weights = {"stem.w": stem, "stem.b": np.full(8, 2.0), "dw.w": depthwise, "fc.w": head, "fc.b": np.zeros(3)}
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["a"], "stem", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node(op, ["a"], ["b"], "activation"),
        helper.make_node("Conv", ["b", "dw.w"], ["c"], "dw", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Relu", ["c"], ["d"], "relu"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "fc.w", "fc.b"], ["y"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def write_wide_network(path: Path) -> Path:
    """The same task with enough weights for their bits to count: two layers of 4,096 and 9,216 weights in between."""
    rng = np.random.default_rng(1)
    stem = rng.normal(0, 0.05, (64, 3, 3, 3))
    wide = rng.normal(0, 0.02, (64, 64, 1, 1))
    grouped = rng.normal(0, 0.02, (64, 16, 3, 3))
    head = rng.normal(0, 0.02, (3, 64))
    for output, channel in enumerate((2, 1, 0)):  # classes in alphabetical order: blue, green, red
        stem[output, channel, 1, 1] = wide[output, output, 0, 0] = grouped[output, output, 1, 1] = 1.0
        head[output, output] = 4.0
    weights = {"stem.w": stem, "stem.b": np.full(64, 2.0), "wide.w": wide, "grouped.w": grouped}
    weights |= {"fc.w": head, "fc.b": np.zeros(3)}
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["a"], "stem", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "wide.w"], ["c"], "wide"),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
        helper.make_node("Conv", ["d", "grouped.w"], ["e"], "grouped", pads=[1, 1, 1, 1], group=4),
        helper.make_node("Relu", ["e"], ["f"], "relu3"),
        helper.make_node("GlobalAveragePool", ["f"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["h"], "flatten"),
        helper.make_node("Gemm", ["h", "fc.w", "fc.b"], ["y"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "wide_colours",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path
