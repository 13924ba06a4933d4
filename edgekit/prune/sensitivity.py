"""How much each layer's zeros cost: one layer at a time is pruned, and the loss measured on fixed pictures.

Where the pictures go through does not matter here: the loss is asked of a function that is given the weights to use
instead of the network's own, by layer (`module_loss` for a torch module, `with_weights` for a hub graph).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from edgekit.core.errors import DataError, GraphError, RecipeError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.core.progress import Progress, Silent
from edgekit.prune.gradients import Batch, evaluation_mode
from edgekit.prune.sparsity import SensitivityPoint, mask_of

SHARES = (0.3, 0.5, 0.7, 0.9)

Weight: TypeAlias = npt.NDArray[np.float32]
Weights: TypeAlias = Mapping[str, Weight]
"""Layer name -> weight [out, in, ...]."""
Evaluate: TypeAlias = Callable[[Weights], float]
"""Loss of the network with some layers' weights exchanged; all its own for an empty mapping."""


def scan_sensitivity(
    evaluate: Evaluate,
    weights: Weights,
    *,
    shares: Sequence[float] = SHARES,
    dense_layers: Iterable[str] = (),
    progress: Progress | None = None,
) -> tuple[SensitivityPoint, ...]:
    """Prune each layer alone by magnitude, to each share, and note how much the loss rises (Han et al. 2015, figure 6).

    A share at which the loss is no number any more is left out, with those above it: `plan_layer_wise` goes no further
    than the points reach.

    Args:
        evaluate: The loss, always on the same pictures.
        weights: Weights of the network's layers, in the order wanted (`weights_of_graph`, `weights_of_module`).
        shares: Shares of zeros to try, above 0 and below 1.
        dense_layers: Layers that are not tried.
        progress: Shows how far it is; None for nothing.

    Returns:
        A point for each layer and share, in the order of the weights, shares ascending.

    Raises:
        RecipeError: A share out of range.
        DataError: The loss of the dense network is no number.
    """
    odd = [share for share in shares if not 0 < share < 1]
    if odd:
        raise RecipeError(f"share {odd[0]:g} to try is out of range, expected above 0 and below 1")
    baseline = evaluate({})
    if not math.isfinite(baseline):
        raise DataError(f"the loss of the dense model is {baseline}", hint="are its weights or its pictures damaged?")
    dense = set(dense_layers)
    tried = [name for name in weights if name not in dense]
    progress = progress or Silent()
    progress.begin("sensitivity of each layer", len(tried) * len(shares))
    points: list[SensitivityPoint] = []
    try:
        for name in tried:
            is_number = True
            for share in sorted(shares):
                if is_number:
                    weight = weights[name]
                    loss = evaluate({name: weight * mask_of(weight, share)})
                    is_number = math.isfinite(loss)
                if is_number:
                    points.append(SensitivityPoint(layer=name, sparsity=share, loss=loss - baseline))
                progress.advance()
    finally:
        progress.end()
    return tuple(points)


def weights_of_graph(graph: Graph) -> dict[str, Weight]:
    """Weights of every weighted node, in order of execution."""
    return {
        node.name: np.asarray(graph.constants[node.inputs[1]], np.float32)
        for node in graph.nodes
        if node.op in WEIGHTED_OPS
    }


def weights_of_module(module: nn.Module, graph: Graph) -> dict[str, Weight]:
    """Weights of the same layers as they are in the torch module, where BatchNorm may not be folded.

    Raises:
        GraphError: The graph is another network's.
    """
    return {name: _parameter(module, name).detach().cpu().numpy().copy() for name in weights_of_graph(graph)}


def with_weights(graph: Graph, weights: Weights) -> Graph:
    """The network with some layers' weights exchanged.

    Raises:
        GraphError: A layer that the network does not have.
    """
    names = {node.name: node.inputs[1] for node in graph.nodes if node.op in WEIGHTED_OPS}
    unknown = next((layer for layer in weights if layer not in names), None)
    if unknown is not None:
        raise GraphError(f"the model has no layer {unknown!r}")
    return graph.replace(constants={**graph.constants, **{names[layer]: each for layer, each in weights.items()}})


def module_loss(module: nn.Module, batches: Iterable[Batch]) -> Evaluate:
    """Mean cross-entropy of a torch module in evaluation mode; it is left as it was after every call.

    Args:
        module: The network.
        batches: Fixed pictures and labels; all are held in memory.

    Raises:
        DataError: No pictures.
    """
    held = list(batches)
    num_pictures = sum(len(labels) for _, labels in held)
    if num_pictures == 0:
        raise DataError("a loss needs at least one picture")

    @torch.no_grad()
    def evaluate(weights: Weights) -> float:
        parameters = {name: _parameter(module, name) for name in weights}
        own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.copy_(torch.from_numpy(weights[name]))
            with evaluation_mode(module):
                return sum(_batch_loss(module, batch) for batch in held) / num_pictures
        finally:
            for name, parameter in parameters.items():
                parameter.copy_(own[name])

    return evaluate


def _batch_loss(module: nn.Module, batch: Batch) -> float:
    pictures, labels = batch
    device = next(module.parameters()).device
    return float(functional.cross_entropy(module(pictures.to(device)).float(), labels.to(device), reduction="sum"))


def _parameter(module: nn.Module, layer: str) -> nn.Parameter:
    try:
        return module.get_parameter(f"{layer}.weight")
    except AttributeError as error:
        raise GraphError(f"the model has no layer {layer!r}") from error
