"""Canonical nodes -> ONNX nodes (opset 17), and the initializers that they need."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgekit.core.errors import UnsupportedOpError
from edgekit.core.graph import Array, Attribute, Graph, Node
from edgekit.export.builder import unique_name

Emit: TypeAlias = Callable[["OnnxSink", Node, Sequence[str], Sequence[str]], None]


class OnnxSink:
    """Collects ONNX nodes, and initializers as arrays.

    Args:
        graph: The graph that is lowered; its names are reserved.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self._taken = {*graph.shapes, *graph.constants}
        self._turned: dict[str, str] = {}
        self._pool: dict[tuple[str, bytes, tuple[int, ...]], str] = {}

    def name(self, wanted: str) -> str:
        """Reserve a value name."""
        name = unique_name(wanted, self._taken)
        self._taken.add(name)
        return name

    def initializer(self, name: str, array: Array) -> str:
        """Store an array under a name that the caller has reserved, once."""
        if name not in self.initializers:
            self.initializers[name] = array
        return name

    def turned(self, name: str) -> str:
        """Store a weight [out, in] as MatMul reads it, [in, out], once; under its own name where all readers are such.

        Args:
            name: Of a constant of the graph.
        """
        if name not in self._turned:
            readers = [node for node in self.graph.nodes if name in node.inputs]
            alone = all(self.graph.is_token_layer(node) for node in readers)
            self._turned[name] = name if alone else self.name(f"{name}_turned")
            self.initializer(self._turned[name], np.ascontiguousarray(self.graph.constants[name].T))
        return self._turned[name]

    def real_inputs(self, node: Node) -> list[str]:
        """Store a node's constants in float. Returns the names of its inputs."""
        names: list[str] = []
        for position, name in enumerate(node.inputs):
            is_weight = position == 1 and self.graph.is_token_layer(node)
            if is_weight:
                names.append(self.turned(name))
            else:
                in_graph = name in self.graph.constants
                names.append(self.initializer(name, self.graph.constants[name]) if in_graph else name)
        return names

    def pooled(self, wanted: str, array: Array) -> str:
        """Store a small array, or reuse an equal one that is there already (limits, shapes)."""
        key = (str(array.dtype), array.tobytes(), array.shape)
        if key not in self._pool:
            self._pool[key] = self.name(wanted)
            self.initializers[self._pool[key]] = array
        return self._pool[key]

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        name: str = "",
        attrs: Mapping[str, Attribute | str] | None = None,
    ) -> None:
        """Append one ONNX node."""
        node = helper.make_node(op, inputs, outputs, name=name or None)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted((attrs or {}).items()))
        self.nodes.append(node)


def lower(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Append the ONNX form of a canonical node.

    Args:
        sink: Where to.
        node: What; its own input and output names are not used.
        inputs: ONNX value names to read.
        outputs: ONNX value names to make.

    Raises:
        UnsupportedOpError: The operator is not canonical.
    """
    emit = _LOWERINGS.get(node.op)
    if emit is None:
        raise UnsupportedOpError(
            f"operator {node.op} of node {node.name!r} cannot be written as ONNX",
            hint="canonicalize the graph first (edgekit.export.passes.canonicalize)",
        )
    emit(sink, node, inputs, outputs)


def _direct(*keys: str) -> Emit:
    """The ONNX operator has the same name and these of our attributes."""

    def emit(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        sink.emit(node.op, inputs, outputs, name=node.name, attrs={key: node.attrs[key] for key in keys})

    return emit


def _gemm(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if sink.graph.is_token_layer(node):
        lower_token_layer(sink, node, inputs, outputs)
        return
    sink.emit("Gemm", inputs, outputs, name=node.name, attrs={"transB": 1})


def _flatten(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    sink.emit("Flatten", inputs, outputs, name=node.name, attrs={"axis": 1})


def _clip(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    limits = [sink.pooled("limit", np.asarray(node.float(key), np.float32)) for key in ("min", "max")]
    sink.emit("Clip", [*inputs, *limits], outputs, name=node.name)


def _split(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    sizes = sink.pooled("sizes", np.asarray(node.ints("split"), np.int64))
    sink.emit("Split", [*inputs, sizes], outputs, name=node.name, attrs={"axis": node.int("axis")})


def _slice(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    keys = ("start", "end", "axis")
    limits = [sink.pooled("index", np.asarray([node.int(key)], np.int64)) for key in keys]
    sink.emit("Slice", [*inputs, *limits], outputs, name=node.name)


def _pad(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    top, left, bottom, right = node.ints("pads")
    before = (0,) * (len(sink.graph.shapes[node.output]) - 2)
    amounts = sink.pooled("pads", np.asarray((*before, top, left, *before, bottom, right), np.int64))
    value = sink.pooled("limit", np.asarray(node.float("value"), np.float32))
    sink.emit("Pad", [*inputs, amounts, value], outputs, name=node.name, attrs={"mode": "constant"})


def _reshape(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    shape = _batch_shape(sink, node.ints("shape"))
    sink.emit("Reshape", [*inputs, shape], outputs, name=node.name)


def _batch_shape(sink: OnnxSink, shape: tuple[int, ...]) -> str:
    """A Reshape target that takes the batch from the input (0 copies the dimension)."""
    return sink.pooled("shape", np.asarray((0, *shape[1:]), np.int64))


def _channel_shuffle(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """One Gather: as fast as Reshape, Transpose, Reshape (docs/decisions/0006), and one node instead of three."""
    order = sink.pooled("order", shuffle_order(sink.graph.shapes[node.output][1], node.int("groups")))
    sink.emit("Gather", [*inputs, order], outputs, name=node.name, attrs={"axis": 1})


def shuffle_order(num_channels: int, groups: int) -> npt.NDArray[np.int32]:
    """Which input channel each output channel of a ChannelShuffle is (Zhang et al. 2018, sec. 3.1).

    >>> shuffle_order(6, 2).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    return np.arange(num_channels, dtype=np.int32).reshape(groups, -1).T.reshape(-1)


def _conv(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    keys = ("strides", "pads", "dilations", "group")
    kernel = sink.graph.constants[node.inputs[1]].shape[2:]
    attrs = {key: node.attrs[key] for key in keys} | {"kernel_shape": kernel}
    sink.emit("Conv", inputs, outputs, name=node.name, attrs=attrs)


def lower_token_layer(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """A Gemm on tokens: MatMul, whose weight lies as [in, out], and the bias added."""
    if len(inputs) == 2:
        sink.emit("MatMul", inputs, outputs, name=node.name)
        return
    product = sink.name(f"{outputs[0]}_product")
    sink.emit("MatMul", inputs[:2], [product], name=node.name)
    sink.emit("Add", [product, inputs[2]], outputs)


def _layer_norm(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    attrs: dict[str, Attribute | str] = {"axis": -1, "epsilon": node.float("epsilon")}
    sink.emit("LayerNormalization", inputs, outputs, name=node.name, attrs=attrs)


def _gelu(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """X * (1 + erf(x / sqrt 2)) / 2, in the spelling that ONNX Runtime fuses; opset 17 has no Gelu."""
    root, one, half = (sink.pooled("limit", np.asarray(value, np.float32)) for value in (math.sqrt(2), 1.0, 0.5))
    steps = [sink.name(f"{outputs[0]}_{step}") for step in ("scaled", "erf", "raised", "doubled")]
    sink.emit("Div", [inputs[0], root], [steps[0]])
    sink.emit("Erf", [steps[0]], [steps[1]])
    sink.emit("Add", [steps[1], one], [steps[2]])
    sink.emit("Mul", [inputs[0], steps[2]], [steps[3]])
    sink.emit("Mul", [steps[3], half], outputs, name=node.name)


def _attention(sink: OnnxSink, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Heads side by side become matrices of their own, [N, heads, T, d], and go back."""
    heads = node.int("heads")
    channels = sink.graph.shapes[node.output][2]
    turns = {"query": (0, 2, 1, 3), "key": (0, 2, 3, 1), "value": (0, 2, 1, 3)}
    query = sink.name(f"{outputs[0]}_scaled")
    scale = sink.pooled("limit", np.asarray(node.float("scale"), np.float32))
    sink.emit("Mul", [inputs[0], scale], [query])
    parts: list[str] = []
    for (part, perm), source, name in zip(turns.items(), (query, *inputs[1:]), node.inputs, strict=True):
        split, turned = (sink.name(f"{outputs[0]}_{part}{step}") for step in ("_heads", ""))
        tokens = sink.graph.shapes[name][1]
        shape = _batch_shape(sink, (1, tokens, heads, channels // heads))
        sink.emit("Reshape", [source, shape], [split])
        sink.emit("Transpose", [split], [turned], attrs={"perm": perm})
        parts.append(turned)
    steps = [sink.name(f"{outputs[0]}_{step}") for step in ("scores", "shares", "mixed", "joined")]
    sink.emit("MatMul", parts[:2], [steps[0]])
    sink.emit("Softmax", [steps[0]], [steps[1]], attrs={"axis": -1})
    sink.emit("MatMul", [steps[1], parts[2]], [steps[2]])
    sink.emit("Transpose", [steps[2]], [steps[3]], attrs={"perm": (0, 2, 1, 3)})
    shape = _batch_shape(sink, sink.graph.shapes[node.output])
    sink.emit("Reshape", [steps[3], shape], outputs, name=node.name)


_LOWERINGS: Mapping[str, Emit] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MaxPool": _direct("kernel_shape", "strides", "pads"),
    "AveragePool": _direct("kernel_shape", "strides", "pads", "count_include_pad"),
    "GlobalAveragePool": _direct(),
    "Flatten": _flatten,
    "Relu": _direct(),
    "Clip": _clip,
    "Sigmoid": _direct(),
    "HardSwish": _direct(),
    "HardSigmoid": _direct("alpha", "beta"),
    "LayerNormalization": _layer_norm,
    "Gelu": _gelu,
    "Attention": _attention,
    "LRN": _direct("size", "alpha", "beta", "bias"),
    "Softmax": _direct("axis"),
    "Add": _direct(),
    "Mul": _direct(),
    "Concat": _direct("axis"),
    "Split": _split,
    "Slice": _slice,
    "ChannelShuffle": _channel_shuffle,
    "Reshape": _reshape,
    "Transpose": _direct("perm"),
    "Pad": _pad,
}
