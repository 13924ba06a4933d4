"""A builder of small hub graphs, and runs of them, for the tests of quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.core.graph import Attribute, Graph, Node
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QuantizeSection
from edgekit.quantize.calibration import Calibration, calibrate
from edgekit.quantize.execute import run_float
from edgekit.quantize.ptq import quantize_static


class GraphBuilder:
    """Adds nodes one after the other; every node is named like its output."""

    def __init__(self, input_shape: tuple[int, ...] = (1, 3, 8, 8), *, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.input_shape = input_shape
        self.nodes: list[Node] = []
        self.constants: dict[str, npt.NDArray[np.float32]] = {}

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value, dtype=np.float32)
        return name

    def add(self, name: str, op: str, *inputs: str, outputs: tuple[str, ...] = (), **attrs: Attribute) -> str:
        self.nodes.append(Node(name=name, op=op, inputs=inputs, outputs=outputs or (name,), attrs=attrs))
        return name

    def conv(
        self,
        name: str,
        source: str,
        shape: tuple[int, int, int, int],
        *,
        stride: int = 1,
        group: int = 1,
        bias: bool = True,
    ) -> str:
        inputs = [self.constant(f"{name}.weight", self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])))]
        if bias:
            inputs.append(self.constant(f"{name}.bias", self.rng.normal(size=shape[0]) * 0.2))
        padding = shape[2] // 2
        return self.add(
            name,
            "Conv",
            source,
            *inputs,
            strides=(stride, stride),
            pads=(padding,) * 4,
            dilations=(1, 1),
            group=group,
        )

    def gemm(self, name: str, source: str, shape: tuple[int, int]) -> str:
        weight = self.constant(f"{name}.weight", self.rng.normal(size=shape) / np.sqrt(shape[1]))
        return self.add(name, "Gemm", source, weight, self.constant(f"{name}.bias", self.rng.normal(size=shape[0])))

    def finish(self, output: str | None = None) -> Graph:
        graph = Graph(
            name="small",
            input="x",
            output=output or self.nodes[-1].output,
            nodes=tuple(self.nodes),
            constants=self.constants,
            shapes={"x": self.input_shape},
        )
        values = run_float(graph, np.zeros(self.input_shape, dtype=np.float32))
        return graph.replace(shapes={name: value.shape for name, value in values.items()})

    def pictures(self, n: int) -> npt.NDArray[np.float32]:
        return self.rng.normal(size=(n, *self.input_shape[1:])).astype(np.float32)


def _mobile_graph() -> tuple[Graph, npt.NDArray[np.float32]]:
    """A bit of everything: ReLU6, depthwise, residual add, concat, shuffle, pools, classifier; and 64 pictures."""
    builder = GraphBuilder((1, 3, 16, 16))
    builder.conv("stem", "x", (8, 3, 3, 3), stride=2)
    builder.add("stem.act", "Clip", "stem", min=0.0, max=6.0)
    builder.conv("dw", "stem.act", (8, 1, 3, 3), group=8, bias=False)
    builder.add("dw.act", "Relu", "dw")
    builder.conv("project", "dw.act", (8, 8, 1, 1))
    builder.add("sum", "Add", "project", "stem.act")
    builder.add("cat", "Concat", "sum", "dw.act", axis=1)
    builder.add("shuffle", "ChannelShuffle", "cat", groups=2)
    builder.add("split", "Split", "shuffle", outputs=("left", "right"), axis=1, split=(8, 8))
    builder.add("pool", "MaxPool", "left", kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    window = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "count_include_pad": 0}
    builder.add("average", "AveragePool", "right", **window)
    builder.add("swish", "HardSwish", "average")
    builder.add("product", "Mul", "pool", "swish")
    builder.add("mean", "GlobalAveragePool", "product")
    builder.add("flat", "Flatten", "mean")
    builder.gemm("fc", "flat", (5, 8))
    return builder.finish(), builder.pictures(64)


def _calibrate(graph: Graph, pictures: npt.NDArray[np.float32], *, batch_size: int = 16) -> Calibration:
    batches = (run_float(graph, pictures[start : start + batch_size]) for start in range(0, len(pictures), batch_size))
    return calibrate(graph, batches)


def _quantize(graph: Graph, pictures: npt.NDArray[np.float32], **options: Any) -> QuantizedGraph:
    return quantize_static(graph, _calibrate(graph, pictures), QuantizeSection(**options))


@pytest.fixture(scope="session")
def graph_builder() -> type[GraphBuilder]:
    return GraphBuilder


@pytest.fixture(scope="session")
def mobile() -> tuple[Graph, npt.NDArray[np.float32]]:
    return _mobile_graph()


@pytest.fixture(scope="session")
def calibrate_float() -> Any:
    """Calibrate(graph, pictures, batch_size=16) on the numpy executor."""
    return _calibrate


@pytest.fixture(scope="session")
def quantize_float() -> Any:
    """Quantize(graph, pictures, **options of QuantizeSection) on the numpy executor."""
    return _quantize
