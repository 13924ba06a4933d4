"""What the tests of the ONNX exporter and reader share: a card, a runner, small torch nets, files written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import parser
from torch import nn

from edgekit.core.artifact import ModelCard
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.quant import QuantizedGraph
from edgekit.export.onnx_writer import build_onnx

FloatArray = npt.NDArray[np.float32]


def card_for(num_classes: int = 0) -> ModelCard:
    return ModelCard(
        model="net",
        scheme="float",
        labels=tuple(f"class {index}" for index in range(num_classes)),
        preprocess=PreprocessSpec(input_size=(16, 16), mean=(0.5, 0.25, 0.125), std=(0.5, 0.5, 0.25)),
    )


def session(model: onnx.ModelProto | Path) -> ort.InferenceSession:
    """As edgekit runs files where 16-bit sums would saturate: exact integers, one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(str(model) if isinstance(model, Path) else model.SerializeToString(), options)


def run(model: onnx.ModelProto | Path, x: npt.NDArray[np.float32]) -> dict[str, FloatArray]:
    """All outputs by name."""
    loaded = session(model)
    names = [output.name for output in loaded.get_outputs()]
    results = loaded.run(None, {loaded.get_inputs()[0].name: x})
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}


def run_graph(model: Graph | QuantizedGraph, x: npt.NDArray[np.float32]) -> FloatArray:
    """The graph's output, through our writer and ONNX Runtime."""
    graph = model.graph if isinstance(model, QuantizedGraph) else model
    return run(build_onnx(model, card_for()), x)[graph.output]


def pictures(shape: tuple[int, ...], seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def settle(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give BatchNorms statistics that a mistake in folding would show, and go to evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                if part.running_mean is not None and part.running_var is not None:
                    part.running_mean.normal_(0, 0.3, generator=generator)
                    part.running_var.uniform_(0.3, 2, generator=generator)
                if part.affine:
                    part.weight.uniform_(0.5, 1.5, generator=generator)
                    part.bias.normal_(0, 0.3, generator=generator)
    return module.eval()


def run_torch(module: nn.Module, x: npt.NDArray[np.float32]) -> FloatArray:
    with torch.inference_mode():
        return module(torch.from_numpy(x)).numpy()


def write_text(
    path: Path,
    body: str,
    weights: Mapping[str, npt.ArrayLike] | None = None,
    *,
    input: str = "float[N,3,8,8] x",
    output: str = "float[N,K] y",
    opset: int = 17,
) -> Path:
    """Write an ONNX file from the text form of its nodes and arrays for its initializers."""
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> net ({input}) => ({output}) {{ {body} }}'
    )
    for name, values in (weights or {}).items():
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path.write_bytes(model.SerializeToString())
    return path


HEAD = "p = GlobalAveragePool(h) y = Flatten(p)"
"""Text that makes a classifier of a map h."""

_RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": _RNG.normal(size=(4, 3, 3, 3)),
    "w1": _RNG.normal(size=(6, 3, 1, 1)),
    "w6": _RNG.normal(size=(6, 6, 1, 1)),
    "b": _RNG.normal(size=4),
    "f": _RNG.normal(size=(3, 5)),
    "ft": _RNG.normal(size=(5, 3)),
    "fb": _RNG.normal(size=5),
    "scale": _RNG.uniform(0.5, 2, size=3),
    "shift": _RNG.normal(size=3),
    "mean": _RNG.normal(size=3),
    "var": _RNG.uniform(0.5, 2, size=3),
    "c3": _RNG.normal(size=(3, 1, 1)),
    "c4": _RNG.normal(size=(1, 4, 1, 1)),
    "six": np.float32(6),
    "three": np.float32(3),
    "zero": np.float32(0),
    "one": np.float32(1),
    "rows": np.array([2, 3], np.int64),
    "all": np.array([0, -1], np.int64),
    "pads": np.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64),
    "swap": np.array([0, 3, 1, 4, 2, 5], np.int64),
    "from1": np.array([1], np.int64),
    "from0": np.array([0], np.int64),
    "to3": np.array([3], np.int64),
    "axis1": np.array([1], np.int64),
    "groups": np.array([0, 2, 3, 8, 8], np.int64),
    "joined": np.array([0, 6, 8, 8], np.int64),
}
"""Initializers for files written as text; ONNX allows unused ones."""


class ShuffleUnit(nn.Module):
    """ShuffleNet V2's basic unit, the shuffle written as views."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, worked = x.chunk(2, dim=1)
        worked = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(worked)))))
        joined = torch.cat([kept, self.relu(worked)], dim=1)
        n, channels, height, width = joined.shape
        grouped = joined.view(n, 2, channels // 2, height, width)
        return grouped.transpose(1, 2).reshape(n, channels, height, width)


class SqueezeExcite(nn.Module):
    """Hu et al. 2018, with MobileNet V3's hard activations."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(channels, 4, 1)
        self.up = nn.Conv2d(4, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.up(nn.functional.relu(self.down(self.pool(x)))))


class SmallNet(nn.Module):
    """A bit of everything: stem, ceil-mode pool, shuffle unit, squeeze-excite, residual, pre-activation BatchNorm."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )
        self.unit = ShuffleUnit(8)
        self.excite = SqueezeExcite(8)
        self.before = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.swish = nn.Hardswish()
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.excite(self.unit(self.stem(x)))
        x = x + self.swish(self.conv(nn.functional.relu(self.before(x))))
        x = nn.functional.adaptive_avg_pool2d(self.pool(x), 1)
        return self.classifier(self.dropout(torch.flatten(x, 1)))
