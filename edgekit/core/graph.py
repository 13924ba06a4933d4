"""The hub graph: a small, canonical form of an inference network, in numpy only.

Every stage after training works on it. It is read from an ONNX file or from a torch module, and lowered to ONNX and
TFLite. Operators carry ONNX names and ONNX meaning (opset 20), restricted to one canonical spelling each:

- Layout is NCHW; dimension 0 of every activation is the batch and is 1 in `shapes` (writers may make it symbolic).
  Sequences of tokens are [N, T, C]: their channels are the last axis (`channel_axis`).
- BatchNorm is folded, dropout and identities are gone, constants are in `constants`, padding is explicit.
- `Conv`: inputs (x, weight OIHW[, bias]); attributes strides, pads (top, left, bottom, right), dilations, group.
- `Gemm`: inputs (x [N, in] or [N, T, in], weight [out, in][, bias]): y = x @ weight.T + bias. No attributes.
- `MaxPool`, `AveragePool`: kernel_shape, strides, pads; AveragePool also count_include_pad. `ceil_mode` is resolved
  into pads. `GlobalAveragePool` keeps [N, C, 1, 1]. `Flatten` gives [N, rest].
- `Relu`; `Clip`: attributes min, max (ReLU6 is Clip 0 to 6); `Sigmoid`; `HardSwish`; `HardSigmoid` (alpha, beta);
  `Softmax` (axis).
- `LRN` (size, alpha, beta, bias): x / (bias + alpha / size * sum of the squares of `size` neighbour channels) ** beta.
- `LayerNormalization` (epsilon): inputs (x, scale, shift), over the last axis of [N, C] or [N, T, C] (Ba et al. 2016).
- `Gelu`: x * Phi(x), with the normal distribution's function itself (Hendrycks and Gimpel 2016), not its tanh form.
- `Attention` (heads, scale): inputs (query, key, value), each [N, T, heads * d]; for every head
  softmax(scale * query @ key.T) @ value, the heads side by side (Vaswani et al. 2017, eq. 1 and section 3.2.2).
- `Add`, `Mul`: two inputs, one of which may be a constant or broadcast [N, C, 1, 1].
- `Concat`: axis. `Split`: axis, split (sizes), several outputs. `Slice`: axis, start, end (step 1).
- `ChannelShuffle`: groups (Zhang et al. 2018): [N, g * n, H, W] -> view [g, n] -> transpose -> [N, n * g, H, W].
- `Reshape`: shape (batch first, 1), `Transpose`: perm. `Pad`: pads (top, left, bottom, right) of the last two axes,
  value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.generic]
Attribute: TypeAlias = int | float | tuple[int, ...]

WEIGHTED_OPS = ("Conv", "Gemm")
TRANSFORMER_OPS = frozenset({"Attention", "Gelu", "LayerNormalization"})
"""Operators that stay in float in every quantized form: only the weights around them become integers."""
TOKEN_RANK = 3
"""Rank of a sequence of tokens [N, T, C]."""


def channel_axis(rank: int) -> int:
    """Axis of the channels: 1 of [N, C] and of maps, the last of tokens.

    >>> channel_axis(4), channel_axis(3), channel_axis(2)
    (1, 2, 1)
    """
    return 2 if rank == TOKEN_RANK else 1


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One operator.

    Args:
        name: Unique in the graph; for layers of a torch model the module path ("features.3.conv.0").
        op: Canonical operator name (module docstring).
        inputs: Names of activations, then of constants.
        outputs: Names of the activations it makes.
        attrs: Attributes as the module docstring lists them.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Attribute] = msgspec.field(default_factory=dict[str, Attribute])

    @property
    def output(self) -> str:
        """The first (for all but `Split` the only) output."""
        return self.outputs[0]

    def ints(self, key: str) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        value = self.attrs[key]
        if not isinstance(value, tuple):
            raise TypeError(f"attribute {key} of {self.name} is no list")
        return value

    def int(self, key: str) -> int:
        """An attribute that is one integer."""
        value = self.attrs[key]
        if not isinstance(value, int):
            raise TypeError(f"attribute {key} of {self.name} is no integer")
        return value

    def float(self, key: str) -> float:
        """An attribute that is one number."""
        value = self.attrs[key]
        if isinstance(value, tuple):
            raise TypeError(f"attribute {key} of {self.name} is no number")
        return float(value)


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A network in canonical form, nodes in topological order.

    Args:
        name: Model name.
        input: Name of the one input activation.
        output: Name of the one output activation (logits, [1, classes]).
        nodes: Operators in execution order.
        constants: float32 arrays by name (weights and biases).
        shapes: Shape of every activation by name, batch 1, NCHW.
    """

    name: str
    input: str
    output: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]

    def producers(self) -> dict[str, Node]:
        """Activation name -> the node that makes it (the graph input has none)."""
        return {output: node for node in self.nodes for output in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """Activation name -> the nodes that read it, in order."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name not in self.constants:
                    readers.setdefault(name, []).append(node)
        return readers

    def activations(self) -> tuple[str, ...]:
        """All activation names, the input first, in execution order."""
        return (self.input, *(output for node in self.nodes for output in node.outputs))

    def data_inputs(self, node: Node) -> tuple[str, ...]:
        """The inputs of a node that are activations, not constants."""
        return tuple(name for name in node.inputs if name not in self.constants)

    def replace(
        self,
        *,
        nodes: Iterable[Node] | None = None,
        constants: Mapping[str, Array] | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        output: str | None = None,
    ) -> Graph:
        """A copy with some fields changed (graphs are frozen)."""
        return Graph(
            name=self.name,
            input=self.input,
            output=self.output if output is None else output,
            nodes=self.nodes if nodes is None else tuple(nodes),
            constants=self.constants if constants is None else constants,
            shapes=self.shapes if shapes is None else shapes,
        )

    @property
    def num_params(self) -> int:
        """Number of constants' elements (BatchNorm is folded, so it may differ from the torch model's count)."""
        return sum(int(array.size) for array in self.constants.values())

    def macs(self, node: Node) -> int:
        """Multiply-accumulates of one Conv, Gemm or Attention at batch 1; 0 for every other operator."""
        if node.op == "Attention":  # scores, then the weighted sum of the values
            _, queries, channels = self.shapes[node.output]
            return 2 * queries * self.shapes[node.inputs[1]][1] * channels
        if node.op not in WEIGHTED_OPS:
            return 0
        weight = self.constants[node.inputs[1]]
        shape = self.shapes[node.output]
        positions = int(np.prod(shape[2:] if node.op == "Conv" else shape[1:-1]))
        return int(weight.size) * positions

    @property
    def num_macs(self) -> int:
        """Multiply-accumulates of the whole network at batch 1."""
        return sum(self.macs(node) for node in self.nodes)

    def is_token_layer(self, node: Node) -> bool:
        """Whether a node is a Gemm on tokens, one by one."""
        return node.op == "Gemm" and len(self.shapes[node.output]) == TOKEN_RANK

    @property
    def is_transformer(self) -> bool:
        """Whether it computes on tokens: then it has no static integer form (`TRANSFORMER_OPS`)."""
        return any(node.op in TRANSFORMER_OPS or self.is_token_layer(node) for node in self.nodes)

    def is_depthwise(self, node: Node) -> bool:
        """Whether a Conv has one input channel per group and several groups."""
        if node.op != "Conv":
            return False
        return node.int("group") > 1 and self.constants[node.inputs[1]].shape[1] == 1
