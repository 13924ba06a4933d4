"""Small hub graphs for tests: a builder that works out shapes, seeded weights, and their int8 form.

Usage, from any test: `from graphs import GraphBuilder, quantize_for_test` (tests/ is on the path of pytest).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgekit.core.graph import Array, Attribute, Graph, Node
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QuantizeSection
from edgekit.quantize.calibration import calibrate
from edgekit.quantize.execute import run_float
from edgekit.quantize.ptq import quantize_static


class GraphBuilder:
    """Writes a graph node by node; every method takes and returns activation names."""

    def __init__(self, input_shape: Sequence[int], *, seed: int = 0, name: str = "net") -> None:
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {"input": tuple(input_shape)}

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        shapes: Sequence[Sequence[int]],
        attrs: Mapping[str, Attribute] | None = None,
    ) -> tuple[str, ...]:
        name = f"{op.lower()}_{len(self.nodes)}"
        outputs = tuple(name if len(shapes) == 1 else f"{name}_{part}" for part in range(len(shapes)))
        self.nodes.append(Node(name=name, op=op, inputs=tuple(inputs), outputs=outputs, attrs=dict(attrs or {})))
        for output, shape in zip(outputs, shapes, strict=True):
            self.shapes[output] = tuple(int(size) for size in shape)
        return outputs

    def constant(self, name: str, values: npt.ArrayLike) -> str:
        self.constants[name] = np.asarray(values, np.float32)
        return name

    def same(self, op: str, x: str, **attrs: Attribute) -> str:
        """An operator whose output has its input's shape."""
        return self.node(op, [x], [self.shapes[x]], attrs)[0]

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int | tuple[int, int] = 3,
        *,
        stride: int = 1,
        pads: int | tuple[int, int, int, int] = 0,
        dilation: int = 1,
        group: int = 1,
        bias: bool = True,
    ) -> str:
        _, in_channels, height, width = self.shapes[x]
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        edges = (pads, pads, pads, pads) if isinstance(pads, int) else pads
        label = f"layer{len(self.nodes)}"
        shape = (channels, in_channels // group, *size)
        fan_in = math.prod(shape[1:])
        inputs = [x, self.constant(f"{label}.weight", self.rng.normal(0, fan_in**-0.5, shape))]
        if bias:
            inputs.append(self.constant(f"{label}.bias", self.rng.normal(0, 0.1, channels)))
        out = window_shape((height, width), size, (stride, stride), edges, (dilation, dilation))
        attrs: dict[str, Attribute] = {"strides": (stride, stride), "pads": edges, "group": group}
        attrs["dilations"] = (dilation, dilation)
        return self.node("Conv", inputs, [(1, channels, *out)], attrs)[0]

    def gemm(self, x: str, features: int, *, bias: bool = True) -> str:
        label = f"layer{len(self.nodes)}"
        in_features = self.shapes[x][1]
        weight = self.rng.normal(0, in_features**-0.5, (features, in_features))
        inputs = [x, self.constant(f"{label}.weight", weight)]
        if bias:
            inputs.append(self.constant(f"{label}.bias", self.rng.normal(0, 0.1, features)))
        return self.node("Gemm", inputs, [(1, features)])[0]

    def pool(
        self,
        op: str,
        x: str,
        kernel: int,
        *,
        stride: int = 1,
        pads: int | tuple[int, int, int, int] = 0,
        count_include_pad: int = 1,
    ) -> str:
        _, channels, height, width = self.shapes[x]
        edges = (pads, pads, pads, pads) if isinstance(pads, int) else pads
        attrs: dict[str, Attribute] = {"kernel_shape": (kernel, kernel), "strides": (stride, stride), "pads": edges}
        if op == "AveragePool":
            attrs["count_include_pad"] = count_include_pad
        out = window_shape((height, width), (kernel, kernel), (stride, stride), edges, (1, 1))
        return self.node(op, [x], [(1, channels, *out)], attrs)[0]

    def global_pool(self, x: str) -> str:
        return self.node("GlobalAveragePool", [x], [(1, self.shapes[x][1], 1, 1)])[0]

    def flatten(self, x: str) -> str:
        return self.node("Flatten", [x], [(1, math.prod(self.shapes[x]))])[0]

    def relu(self, x: str) -> str:
        return self.same("Relu", x)

    def relu6(self, x: str) -> str:
        return self.same("Clip", x, min=0.0, max=6.0)

    def binary(self, op: str, a: str, b: str) -> str:
        shape = self.shapes[a] if a in self.shapes else self.shapes[b]
        other = self.shapes.get(b, self.constants[b].shape if b in self.constants else shape)
        return self.node(op, [a, b], [np.broadcast_shapes(shape, other)])[0]

    def concat(self, parts: Sequence[str], axis: int = 1) -> str:
        shape = list(self.shapes[parts[0]])
        shape[axis] = sum(self.shapes[part][axis] for part in parts)
        return self.node("Concat", parts, [shape], {"axis": axis})[0]

    def split(self, x: str, sizes: Sequence[int], axis: int = 1) -> tuple[str, ...]:
        shape = self.shapes[x]
        shapes = [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]
        return self.node("Split", [x], shapes, {"axis": axis, "split": tuple(sizes)})

    def slice(self, x: str, start: int, end: int, axis: int = 1) -> str:
        shape = list(self.shapes[x])
        shape[axis] = end - start
        return self.node("Slice", [x], [shape], {"axis": axis, "start": start, "end": end})[0]

    def shuffle(self, x: str, groups: int) -> str:
        return self.same("ChannelShuffle", x, groups=groups)

    def build(self, output: str | None = None) -> Graph:
        return Graph(
            name=self.name,
            input="input",
            output=self.nodes[-1].output if output is None else output,
            nodes=tuple(self.nodes),
            constants=dict(self.constants),
            shapes=dict(self.shapes),
        )


def window_shape(
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilations: tuple[int, int],
) -> tuple[int, int]:
    out = [
        (size[axis] + pads[axis] + pads[2 + axis] - (kernel[axis] - 1) * dilations[axis] - 1) // strides[axis] + 1
        for axis in (0, 1)
    ]
    return (out[0], out[1])


def quantize_for_test(
    graph: Graph, x: npt.NDArray[np.float32], section: QuantizeSection | None = None
) -> QuantizedGraph:
    """The graph as the real quantizer makes it, calibrated on one batch; ranges are min-max unless said otherwise."""
    calibration = calibrate(graph, [run_float(graph, x)])
    return quantize_static(graph, calibration, section or QuantizeSection(ranges="minmax", bias_correction=False))
