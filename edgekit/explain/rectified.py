"""A float network in the form that guided backpropagation and deconvolution need: every rectifier a module of its own.

Both methods change how the gradient passes rectifiers, and captum finds those by their module (`torch.nn.ReLU`). In a
torch model they may be functions, work in place, be called from several places or be capped (ReLU6), and a user's ONNX
file has no modules at all. So the hub graph is run instead, which is the same network: in it, each rectifier is hung in
as a module.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgekit.core.graph import Graph, Node
from edgekit.explain.maps import Maps, TokenMaps
from edgekit.quantize.network import GraphNetwork

_SMOOTH_OPS = frozenset({"Sigmoid", "HardSwish", "HardSigmoid", "Gelu", "Tanh", "Clip"})
"""Activations that are no rectifiers (a Clip that starts elsewhere than at 0): their gradient stays as it is."""


class Rectifier(nn.Module):
    """max(x, 0), or min(max(x, 0), cap): ReLU6 is a rectifier, then a cap that passes no gradient where it is reached.

    Args:
        cap: Upper bound; None for none.
    """

    def __init__(self, cap: float | None = None) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        """The shape stays."""
        # captum changes the gradient of the tensor that the module reads. A copy of its own keeps the gradients of
        # other readers (a shortcut around the rectifier) out of that.
        rectified = self.relu(x.clone())
        return rectified if self.cap is None else rectified.clamp(max=self.cap)


class RectifiedNetwork(nn.Module):
    """The network of a float graph, up to its logits, with rectifiers as modules and places to look at.

    Args:
        graph: Canonical float graph. A softmax at its end is left out: gradients are those of logits.

    Raises:
        UnsupportedOpError: When it runs: an operator that torch does not have here.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = _without_softmax(graph)
        caps = {node.output: _cap(node) for node in self.graph.nodes if _is_rectifier(node)}
        nodes = [_passed_on(node) if node.output in caps else node for node in self.graph.nodes]
        self.network = GraphNetwork(self.graph.replace(nodes=nodes))
        for name, cap in caps.items():
            self.network.quantize_activation(name, Rectifier(cap))
        self.num_rectifiers = len(caps)
        others = {node.op for node in nodes if node.op in _SMOOTH_OPS and node.output not in caps}
        self.smooth_ops = tuple(sorted(others))
        self._token_maps: dict[str, TokenMaps] = {}
        self.network.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Normalized pictures [n, c, h, w] -> logits [n, classes]."""
        return self.network(x).flatten(1)

    def module_of(self, activation: str) -> nn.Module:
        """The module whose output is an activation; one that passes it on is hung in where there is none."""
        module = self.network.activation_quantizer(activation)
        if module is None:
            module = nn.Identity()
            self.network.quantize_activation(activation, module)
        return module

    def module_of_maps(self, maps: Maps) -> nn.Module:
        """The module whose output is maps [n, c, h, w]; tokens are laid out as such on their way."""
        if maps.grid is None:
            return self.module_of(maps.activation)
        module = self._token_maps.get(maps.activation)
        if module is None:
            module = self._token_maps[maps.activation] = TokenMaps(maps)
            hung = nn.Sequential(self.module_of(maps.activation), module)
            self.network.quantize_activation(maps.activation, hung)
        return module.maps

    @torch.no_grad()
    def activation(self, name: str, x: Tensor) -> Tensor:
        """Value of one activation for normalized pictures."""
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            kept.append(output)

        hook = self.module_of(name).register_forward_hook(keep)
        try:
            self(x)
        finally:
            hook.remove()
        return kept[-1]


def _without_softmax(graph: Graph) -> Graph:
    producer = graph.producers().get(graph.output)
    if producer is None or producer.op != "Softmax":
        return graph
    return graph.replace(nodes=[node for node in graph.nodes if node is not producer], output=producer.inputs[0])


def _is_rectifier(node: Node) -> bool:
    return node.op == "Relu" or (node.op == "Clip" and node.float("min") == 0.0)


def _cap(node: Node) -> float | None:
    return None if node.op == "Relu" or math.isinf(node.float("max")) else node.float("max")


def _passed_on(node: Node) -> Node:
    """A node that gives what it gets: the rectifier is hung in behind it."""
    attrs = {"min": -math.inf, "max": math.inf}
    return Node(name=node.name, op="Clip", inputs=node.inputs, outputs=node.outputs, attrs=attrs)
