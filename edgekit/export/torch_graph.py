"""torch module -> hub graph, by a walk over its torch.fx graph. No export, no forward pass: milliseconds.

Layers keep their module path as node name, weights their parameter name; functions are named after the module in
which they are called ("stage2.0.add"). The leaves are `nn` layers, modules that declare `is_channel_shuffle = True` and
`groups`, and `SelfAttention`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate, map_arg
from torch.fx.proxy import TraceError

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.core.graph import Graph
from edgekit.export.builder import GraphBuilder, Value
from edgekit.export.passes import canonicalize, classifier_output
from edgekit.export.torch_calls import CALLS
from edgekit.export.torch_layers import LAYERS
from edgekit.export.torch_walk import Parameter, Walk
from edgekit.models.layers import SelfAttention

Result: TypeAlias = Any
"""What a torch.fx node evaluates to here: a Value, a tuple of them, or plain Python data (sizes, tensors)."""


def trace(module: nn.Module, input_shape: tuple[int, int, int], *, name: str) -> Graph:
    """Read a torch module as it computes in evaluation mode.

    The module is not changed and not run; BatchNorm is folded in float64.

    Args:
        module: A classifier made of supported layers and functions; one image batch in, [N, classes] out.
        input_shape: (channels, height, width) of one picture.
        name: Model name for the graph.

    Returns:
        The canonical graph: input "input", batch 1, parameters under their module paths.

    Raises:
        UnsupportedOpError: A layer or function that the hub graph cannot hold; the message names its path.
        GraphError: The shapes do not fit, or there are several inputs or outputs.
    """
    with _evaluation_mode(module):
        tracer = _Tracer()
        try:
            traced = tracer.trace(module)
        except TraceError as error:
            raise UnsupportedOpError(
                f"{type(module).__name__} cannot be traced: {str(error).partition('. ')[0]}",
                hint="its forward() must not branch on the values of tensors",
            ) from error
    walk = Walk(GraphBuilder(name, Value("input", (1, *input_shape))))
    output = _run(walk, module, traced, tracer)
    return classifier_output(canonicalize(walk.builder.build(output.name)))


def _is_shuffle(module: nn.Module) -> bool:
    return bool(getattr(module, "is_channel_shuffle", False))


class _Tracer(fx.Tracer):
    """Looks into everything except `nn` layers, channel shuffles and attention."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_shuffle(m) or isinstance(m, SelfAttention) or super().is_leaf_module(m, module_qualified_name)


@contextlib.contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Trace `if self.training:` branches as in evaluation, and leave every flag as it was."""
    flags = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in flags:
            part.training = False
        yield
    finally:
        for part, training in flags:
            part.training = training


def _run(walk: Walk, module: nn.Module, traced: fx.Graph, tracer: _Tracer) -> Value:
    results: dict[fx.Node, Result] = {}
    num_inputs = 0
    for node in traced.nodes:
        args = map_arg(node.args, lambda used: results[used])
        kwargs = map_arg(node.kwargs, lambda used: results[used])
        if node.op == "placeholder":
            num_inputs += 1
            if num_inputs > 1 and not node.args:
                raise GraphError(
                    f"{type(module).__name__}.forward takes several inputs; {node.name!r} is the second",
                    hint="export a module that takes one image batch",
                )
            results[node] = walk.builder.input if num_inputs == 1 else node.args[0]
        elif node.op == "get_attr":
            results[node] = Parameter(str(node.target), _attribute(module, str(node.target)))
        elif node.op == "call_module":
            path = str(node.target)
            results[node] = _call_layer(walk, module.get_submodule(path), path, args, kwargs)
        elif node.op == "output":
            if not isinstance(args[0], Value):
                raise GraphError(
                    f"{type(module).__name__} returns {type(args[0]).__name__}; expected one tensor of logits",
                    hint="export a module that returns the logits only",
                )
            return args[0]
        else:
            scope = tracer.node_name_to_scope.get(node.name, ("", None))[0]
            results[node] = _call(walk, node, scope, args, kwargs)
    raise GraphError(f"{type(module).__name__} has no output")


def _call_layer(walk: Walk, layer: nn.Module, path: str, args: tuple[Result, ...], kwargs: dict[str, Result]) -> Result:
    kind = "shuffle" if _is_shuffle(layer) else type(layer)
    convert = LAYERS.get(kind)
    if convert is None or kwargs or len(args) != 1 or not isinstance(args[0], Value):
        known = ", ".join(sorted(entry.__name__ for entry in LAYERS if isinstance(entry, type)))
        raise UnsupportedOpError(
            f"layer {type(layer).__name__} at {path!r} is not supported; supported: {known}",
            hint="build the model from supported layers",
        )
    walk.enter(path, is_layer=True)
    return convert(walk, layer, args[0])


def _call(walk: Walk, node: fx.Node, scope: str, args: tuple[Result, ...], kwargs: dict[str, Result]) -> Result:
    """A function or method: on plain Python data run it, on activations convert it."""
    values: list[Result] = []
    map_aggregate((args, kwargs), values.append)  # type: ignore[arg-type]
    if not any(isinstance(value, Value) for value in values):
        args, kwargs = map_aggregate((args, kwargs), _tensor_of)
        if callable(node.target):
            return node.target(*args, **kwargs)
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    convert = CALLS.get(node.target)
    called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    place = f"{called}() in {scope!r}" if scope else f"{called}() in the model's forward()"
    if convert is None:
        raise UnsupportedOpError(
            f"{place} (node {node.name!r}) is not supported",
            hint="write the model with supported layers and functions",
        )
    walk.enter(scope, is_layer=False)
    try:
        bound = inspect.signature(convert).bind(walk, *args, **kwargs)
    except TypeError as error:
        raise UnsupportedOpError(
            f"{place} (node {node.name!r}) is not supported with these arguments: {error}",
            hint="call it with fewer options",
        ) from error
    return convert(*bound.args, **bound.kwargs)


def _tensor_of(leaf: Result) -> Result:
    return leaf.tensor if isinstance(leaf, Parameter) else leaf


def _attribute(module: nn.Module, path: str) -> torch.Tensor:
    owner, _, attribute = path.rpartition(".")
    return getattr(module.get_submodule(owner), attribute)
