"""BatchNorm folded into the convolution before it, in the torch module itself.

What is trained afterwards is what is exported: weights that must stay shared, or be counted, may not be scaled behind
their back. Layers keep their paths, a folded norm becomes an `Identity`. A norm that follows no convolution (DenseNet's
read joined maps) becomes a 1x1 depthwise convolution, as in the hub graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the common base of all

from edgekit.core.errors import GraphError


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every BatchNorm, in place; in evaluation mode the answers stay the same.

    Ioffe and Szegedy 2015: at inference y = (x - mean) / sqrt(var + eps) * gamma + beta, an affine map per channel.
    Folded in float64 and rounded once, as the exporter folds, so that the hub graph is the same before and after.

    Raises:
        GraphError: A norm follows a convolution whose output is read elsewhere too, is called twice, keeps no running
            statistics, or is for vectors; nothing is changed then.
    """
    pairs, alone = _pairs(module)
    for path, norm_path in pairs.items():
        _fold(_conv(module, path), _norm(module, norm_path))
    for norm_path in alone:
        norm = _norm(module, norm_path)
        _fold(_as_depthwise(module, norm_path), norm)
    _drop(module, pairs)


def fold_structure(module: nn.Module) -> None:
    """Give a network the layers that folding leaves, without looking at its weights: a folded checkpoint fits it.

    Raises:
        GraphError: As `fold_batch_norms`.
    """
    pairs, alone = _pairs(module)
    for path in pairs:
        _add_bias(_conv(module, path))
    for path in alone:
        _as_depthwise(module, path)
    _drop(module, pairs)


def following_norms(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """For each layer, by path, the BatchNorms that read it directly."""
    found: dict[str, tuple[str, ...]] = {}
    for source, norm in _norm_calls(trace_layers(module), module):
        if source is not None:
            path = str(source.target)
            found[path] = (*found.get(path, ()), norm)
    return found


def lone_norms(module: nn.Module) -> tuple[str, ...]:
    """Paths of the BatchNorms with a scale that read no layer's output: depthwise convolutions in the hub graph."""
    calls = _norm_calls(trace_layers(module), module)
    return tuple(
        norm
        for source, norm in calls
        if _norm(module, norm).affine
        and (source is None or not isinstance(module.get_submodule(str(source.target)), nn.Conv2d | nn.Linear))
    )


def trace_layers(module: nn.Module) -> fx.Graph:
    """The calls of a network's layers, in order; every module without parts, ours or torch's, is one node."""
    return _LayerTracer().trace(module)


class _LayerTracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - torch names it
        return next(m.children(), None) is None


def _norm_calls(graph: fx.Graph, module: nn.Module) -> list[tuple[fx.Node | None, str]]:
    """(the layer's call that a BatchNorm reads or None, path of the norm) for every call of a norm."""
    calls: list[tuple[fx.Node | None, str]] = []
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), nn.BatchNorm2d):
            source = node.args[0]
            is_layer = isinstance(source, fx.Node) and source.op == "call_module"
            calls.append((source if is_layer else None, str(node.target)))
    return calls


def _pairs(module: nn.Module) -> tuple[dict[str, str], list[str]]:
    """Convolution path -> path of its norm; and the paths of the norms that follow no convolution."""
    graph = trace_layers(module)
    num_calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            num_calls[str(node.target)] = num_calls.get(str(node.target), 0) + 1
    pairs: dict[str, str] = {}
    alone: list[str] = []
    for source, norm_path in _norm_calls(graph, module):
        if _norm(module, norm_path).running_var is None:
            raise _unfoldable(norm_path, "it keeps no running statistics")
        if num_calls[norm_path] > 1:
            raise _unfoldable(norm_path, "it is called more than once")
        if source is None or not isinstance(module.get_submodule(str(source.target)), nn.Conv2d):
            alone.append(norm_path)
            continue
        path = str(source.target)
        if len(source.users) > 1 or num_calls[path] > 1:
            raise _unfoldable(norm_path, f"{path} is read elsewhere too")
        pairs[path] = norm_path
    for path, part in module.named_modules():
        if isinstance(part, _BatchNorm) and path not in pairs.values() and path not in alone:
            raise _unfoldable(path, "it is no BatchNorm of maps that the network calls")
    return pairs, alone


def _unfoldable(path: str, reason: str) -> GraphError:
    return GraphError(f"{path} cannot be folded: {reason}", hint="fold a network whose norms follow convolutions")


def _as_depthwise(module: nn.Module, norm_path: str) -> nn.Conv2d:
    """Put a 1x1 depthwise convolution that changes nothing in the place of a norm."""
    norm = _norm(module, norm_path)
    channels = norm.num_features
    conv = nn.Conv2d(channels, channels, 1, groups=channels)
    nn.init.ones_(conv.weight)
    nn.init.zeros_(_add_bias(conv))
    statistics = norm.running_mean
    conv = conv.to(conv.weight.device if statistics is None else statistics.device).train(norm.training)
    _set(module, norm_path, conv)
    return conv


def _conv(module: nn.Module, path: str) -> nn.Conv2d:
    layer = module.get_submodule(path)
    if not isinstance(layer, nn.Conv2d):
        raise GraphError(f"{path} is no convolution")
    return layer


def _norm(module: nn.Module, path: str) -> nn.BatchNorm2d:
    layer = module.get_submodule(path)
    if not isinstance(layer, nn.BatchNorm2d):
        raise GraphError(f"{path} is no BatchNorm")
    return layer


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    if norm.running_mean is None or norm.running_var is None:
        raise GraphError("a BatchNorm without running statistics cannot be folded")
    gamma = norm.weight if norm.affine else torch.ones_like(norm.running_var)
    beta = norm.bias if norm.affine else torch.zeros_like(norm.running_var)
    # The exporter's order of operations (edgekit/export/folding.py), so that every bit is the same.
    scale = gamma.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    shift = beta.double() - norm.running_mean.double() * scale
    bias = _add_bias(conv)
    bias.copy_(bias.double() * scale + shift)
    conv.weight.copy_(conv.weight.double() * scale.reshape(-1, 1, 1, 1))


def _add_bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        conv.bias = nn.Parameter(conv.weight.detach().new_zeros(conv.out_channels))
    return conv.bias


def _drop(module: nn.Module, pairs: dict[str, str]) -> None:
    for norm_path in pairs.values():
        _set(module, norm_path, nn.Identity())


def _set(module: nn.Module, path: str, part: nn.Module) -> None:
    parent_path, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent_path), name, part)
