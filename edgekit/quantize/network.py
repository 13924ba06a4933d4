"""The hub graph as a torch module, float or with fake quantization: what needs gradients or layer inputs runs here.

A network that was read from somebody's ONNX file is trained and calibrated by the same code as one of ours. What is
computed is what the exported integers compute (`edgekit.quantize.reference`): activations are put on their grid where
the plan says so, and nowhere else, so between a layer and its fused Relu nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.errors import UnsupportedOpError
from edgekit.core.graph import WEIGHTED_OPS, Graph, Node
from edgekit.core.quant import QuantParams
from edgekit.quantize.plan import plan_quantization

Watcher: TypeAlias = Callable[[Node, Tensor], None]
"""Called before a layer runs, with its node and its input [n, channels, ...]."""


class GraphNetwork(nn.Module):
    """A hub graph that torch runs.

    Weights and biases are parameters, reached by layer name through `weight` and `bias`. `quantize_activation` and
    `quantize_weight` hang modules that quantize in between; without them the network is the float one.

    Args:
        graph: Canonical float graph; its constants are copied.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.layers = {node.name: node for node in graph.nodes if node.op in WEIGHTED_OPS}
        self._indices = {name: str(index) for index, name in enumerate(self.layers)}
        self._weights = nn.ParameterDict()
        self._biases = nn.ParameterDict()
        for name, node in self.layers.items():
            weight = np.array(graph.constants[node.inputs[1]], np.float32)
            bias = np.array(graph.constants[node.inputs[2]], np.float32) if len(node.inputs) > 2 else None
            index = self._indices[name]
            self._weights[index] = nn.Parameter(torch.from_numpy(weight))
            self._biases[index] = nn.Parameter(
                torch.zeros(len(weight)) if bias is None else torch.from_numpy(bias.reshape(-1))
            )
        self._operands = {
            name: torch.from_numpy(np.array(graph.constants[name], np.float32))
            for node in graph.nodes
            if node.op not in WEIGHTED_OPS
            for name in node.inputs
            if name in graph.constants
        }
        self._positions = {name: str(index) for index, name in enumerate(graph.activations())}
        self._activation_quantizers = nn.ModuleDict()
        self._weight_quantizers = nn.ModuleDict()
        self._bias_quantizers = nn.ModuleDict()
        self._result_modules = nn.ModuleDict()
        self._last_reader = _last_readers(graph)

    def weight(self, layer: str) -> nn.Parameter:
        """Float weights of a layer, OIHW or [out, in]."""
        return self._weights[self._indices[layer]]

    def bias(self, layer: str) -> nn.Parameter:
        """Bias of a layer, [out]; zeros where the graph has none."""
        return self._biases[self._indices[layer]]

    def set_operand(self, name: str, value: Tensor) -> None:
        """Exchange a constant operand of an Add or Mul."""
        self._operands[name] = value

    def quantize_activation(self, name: str, quantizer: nn.Module | None) -> None:
        """Let an activation pass through a module whenever it is computed; None takes it away."""
        _hang(self._activation_quantizers, self._positions[name], quantizer)

    def quantize_weight(self, layer: str, quantizer: nn.Module | None) -> None:
        """Let a layer's weights pass through a module before they are multiplied; None takes it away."""
        _hang(self._weight_quantizers, self._indices[layer], quantizer)

    def quantize_bias(self, layer: str, quantizer: nn.Module | None) -> None:
        """Let a layer's bias pass through a module before it is added; None takes it away."""
        _hang(self._bias_quantizers, self._indices[layer], quantizer)

    def pass_result(self, layer: str, module: nn.Module | None) -> None:
        """Let what a layer computes, before its activation, pass through a module; None takes it away."""
        _hang(self._result_modules, self._indices[layer], module)

    def result_module(self, layer: str) -> nn.Module | None:
        """The module that a layer's result passes through."""
        return dict(self._result_modules.items()).get(self._indices[layer])

    def activation_quantizer(self, name: str) -> nn.Module | None:
        """The module that an activation passes through."""
        return dict(self._activation_quantizers.items()).get(self._positions[name])

    def weight_quantizer(self, layer: str) -> nn.Module | None:
        """The module that a layer's weights pass through."""
        return dict(self._weight_quantizers.items()).get(self._indices[layer])

    def effective_weight(self, layer: str) -> Tensor:
        """The weights that a layer multiplies with."""
        quantizer = self.weight_quantizer(layer)
        return self.weight(layer) if quantizer is None else quantizer(self.weight(layer))

    def forward(self, x: Tensor, watch: Watcher | None = None) -> Tensor:
        """The graph's output, [n, classes].

        Args:
            x: Normalized pictures, float [n, c, h, w].
            watch: Sees the input of every layer.
        """
        return self.run(self.begin(x), 0, len(self.graph.nodes), watch)[self.graph.output]

    def begin(self, x: Tensor) -> dict[str, Tensor]:
        """What is known before the first node: the pictures, on their grid if they have one."""
        return {self.graph.input: self._quantized(self.graph.input, x)}

    def run(self, known: Mapping[str, Tensor], first: int, end: int, watch: Watcher | None = None) -> dict[str, Tensor]:
        """Run the nodes first..end-1.

        Args:
            known: The activations that live before node `first` (`live_before`).
            first: Index of the first node.
            end: Index after the last.
            watch: Sees the input of every layer among them.

        Returns:
            The activations that live before node `end`.
        """
        values = dict(known)
        for node in self.graph.nodes[first:end]:
            if watch is not None and node.name in self.layers:
                watch(node, values[node.inputs[0]])
            for name, value in zip(node.outputs, self._run(node, values), strict=True):
                values[name] = self._quantized(name, value)
            for name in self._last_reader.get(node.name, ()):
                values.pop(name, None)
        return values

    def live_before(self, index: int) -> tuple[str, ...]:
        """Activations made before a node that it, or a later one, reads."""
        made = {self.graph.input, *(name for node in self.graph.nodes[:index] for name in node.outputs)}
        read = {name for node in self.graph.nodes[index:] for name in node.inputs} | {self.graph.output}
        return tuple(name for name in self.graph.activations() if name in made and name in read)

    def _quantized(self, name: str, value: Tensor) -> Tensor:
        position = self._positions[name]
        return self._activation_quantizers[position](value) if position in self._activation_quantizers else value

    def _run(self, node: Node, values: Mapping[str, Tensor]) -> Sequence[Tensor]:
        x = values[node.inputs[0]] if node.inputs[0] in values else self._operands[node.inputs[0]]
        if node.op in WEIGHTED_OPS:
            result, index = self._layer(node, x), self._indices[node.name]
            return (self._result_modules[index](result) if index in self._result_modules else result,)
        if node.op == "Split":
            return torch.split(x, list(node.ints("split")), node.int("axis"))
        inputs = [values[name] if name in values else self._operands[name].to(x) for name in node.inputs]
        operator = _OPERATORS.get(node.op)
        if operator is None:
            raise UnsupportedOpError(f"node {node.name}: no torch implementation of {node.op}")
        return (operator(node, inputs),)

    def _layer(self, node: Node, x: Tensor) -> Tensor:
        weight, bias, index = self.effective_weight(node.name), self.bias(node.name), self._indices[node.name]
        if index in self._bias_quantizers:
            bias = self._bias_quantizers[index](bias)
        if node.op == "Gemm":
            return functional.linear(x, weight, bias)
        x, padding = _padded(x, node.ints("pads"))
        return functional.conv2d(
            x, weight, bias, node.ints("strides"), padding, node.ints("dilations"), node.int("group")
        )


class FixedGrid(nn.Module):
    """Puts values on a grid that stays as it is; gradients pass where nothing saturates (straight through).

    Args:
        grid: per_tensor, or per_channel along its axis.
        is_narrow: Whether the lowest integer is left out, as for weights.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: QuantParams, *, is_narrow: bool = False) -> None:
        super().__init__()
        self.register_buffer("scale", torch.from_numpy(np.array(grid.scale, np.float32)))
        self.register_buffer("zero_point", torch.from_numpy(np.array(grid.zero_point, np.float32)))
        self.axis = grid.axis
        self.lowest, self.highest = (-grid.qmax if is_narrow else grid.qmin), grid.qmax

    def forward(self, x: Tensor) -> Tensor:
        """Real values on the grid, in the shape of x."""
        scale, zero_point = self.scale, self.zero_point
        if self.axis is not None and scale.numel() > 1:
            shape = [1] * x.ndim
            shape[self.axis] = -1
            scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
        levels = torch.clamp(x / scale + zero_point, self.lowest, self.highest)
        rounded = levels + (torch.round(levels) - levels).detach() if levels.requires_grad else torch.round(levels)
        return (rounded - zero_point) * scale


def fake_quantize_activations(network: GraphNetwork, grids: Mapping[str, QuantParams]) -> None:
    """Put every activation that has a grid on it where the exported file rounds: not inside fused pairs.

    Activations that share a grid share the module.
    """
    fused = plan_quantization(network.graph).fused
    modules: dict[int, FixedGrid] = {}
    for name in network.graph.activations():
        if name in fused or name not in grids:
            continue
        grid = grids[name]
        network.quantize_activation(name, modules.setdefault(id(grid), FixedGrid(grid)))


def _hang(modules: nn.ModuleDict, key: str, module: nn.Module | None) -> None:
    if module is not None:
        modules[key] = module
    elif key in modules:
        del modules[key]


def _last_readers(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Node name -> activations that nothing reads after it: their memory is free then."""
    last: dict[str, str] = {}
    for node in graph.nodes:
        for name in (*graph.data_inputs(node), *node.outputs):
            last[name] = node.name
    freed: dict[str, tuple[str, ...]] = {}
    for name, node_name in last.items():
        if name != graph.output:
            freed[node_name] = (*freed.get(node_name, ()), name)
    return freed


def _padded(x: Tensor, pads: Sequence[int]) -> tuple[Tensor, tuple[int, int]]:
    """Input and what padding with zeros is left to the operator: torch's own where both sides are alike."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return x, (top, left)
    return _pad_all(x, pads), (0, 0)


def _max_pool(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    x = _pad_all(inputs[0], node.ints("pads"), float("-inf"))
    return functional.max_pool2d(x, node.ints("kernel_shape"), node.ints("strides"))


def _average_pool(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    kernel, strides, pads = node.ints("kernel_shape"), node.ints("strides"), node.ints("pads")
    x = inputs[0]
    sums = functional.avg_pool2d(_pad_all(x, pads), kernel, strides)
    if node.int("count_include_pad") or not any(pads):
        return sums
    ones = _pad_all(torch.ones_like(x[:1, :1]), pads)
    return sums / functional.avg_pool2d(ones, kernel, strides)


def _pad_all(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    top, left, bottom, right = pads
    return functional.pad(x, (left, right, top, bottom), value=value) if any(pads) else x


def _shuffle(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    n, channels, height, width = inputs[0].shape
    groups = node.int("groups")
    grouped = inputs[0].reshape(n, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(n, channels, height, width)


def _response_norm(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    size, before = node.int("size"), (node.int("size") - 1) // 2
    squares = functional.pad(inputs[0].square(), (0, 0, 0, 0, before, size - 1 - before))
    channels = inputs[0].shape[1]
    total = torch.stack([squares[:, shift : shift + channels] for shift in range(size)]).sum(0)
    return inputs[0] * (node.float("bias") + node.float("alpha") / size * total) ** -node.float("beta")


def _attention(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    query, key, value = (part.unflatten(2, (node.int("heads"), -1)).transpose(1, 2) for part in inputs)
    attended = functional.scaled_dot_product_attention(query, key, value, scale=node.float("scale"))
    return attended.transpose(1, 2).flatten(2)


def _slice(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    index = [slice(None)] * inputs[0].ndim
    index[node.int("axis")] = slice(node.int("start"), node.int("end"))
    return inputs[0][tuple(index)]


_OPERATORS: dict[str, Callable[[Node, Sequence[Tensor]], Tensor]] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda _, inputs: inputs[0].mean((2, 3), keepdim=True),
    "Pad": lambda node, inputs: _pad_all(inputs[0], node.ints("pads"), node.float("value")),
    "Concat": lambda node, inputs: torch.cat(list(inputs), node.int("axis")),
    "Slice": _slice,
    "Reshape": lambda node, inputs: inputs[0].reshape(len(inputs[0]), *node.ints("shape")[1:]),
    "Flatten": lambda _, inputs: inputs[0].flatten(1),
    "Transpose": lambda node, inputs: inputs[0].permute(node.ints("perm")),
    "ChannelShuffle": _shuffle,
    "Add": lambda _, inputs: inputs[0] + inputs[1],
    "Mul": lambda _, inputs: inputs[0] * inputs[1],
    "Relu": lambda _, inputs: functional.relu(inputs[0]),
    "Clip": lambda node, inputs: torch.clamp(inputs[0], node.float("min"), node.float("max")),
    "Sigmoid": lambda _, inputs: torch.sigmoid(inputs[0]),
    "HardSwish": lambda _, inputs: functional.hardswish(inputs[0]),
    "HardSigmoid": lambda node, inputs: torch.clamp(inputs[0] * node.float("alpha") + node.float("beta"), 0.0, 1.0),
    "LRN": _response_norm,
    "LayerNormalization": lambda node, inputs: functional.layer_norm(
        inputs[0], inputs[0].shape[-1:], inputs[1], inputs[2], node.float("epsilon")
    ),
    "Gelu": lambda _, inputs: functional.gelu(inputs[0]),
    "Attention": _attention,
    "Softmax": lambda node, inputs: torch.softmax(inputs[0], node.int("axis")),
}
