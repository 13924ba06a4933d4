"""Parameters and multiply-accumulates of a network, from shapes alone: nothing is multiplied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from edgekit.models.architecture import BuildOptions
from edgekit.models.layers import AuxiliaryHead
from edgekit.models.zoo import build_model

_SKIPPED = {
    functional.batch_norm,
    functional.layer_norm,
    functional.gelu,
    functional.relu,
    functional.relu6,
    functional.hardtanh,
    functional.hardsigmoid,
    functional.hardswish,
    functional.local_response_norm,
    torch.relu,
    torch.sigmoid,
    functional.dropout,
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
}
"""Functions that change values but no shapes."""


class _ShapesOnly(TorchFunctionMode):
    """Follows shapes and counts multiply-accumulates; what costs time and changes no shape is skipped.

    Tensors are empty memory that is hardly touched. (`torch.device("meta")` is meant for this, but goes through Python
    decompositions whose import alone takes seconds.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_macs = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        kwargs = kwargs or {}
        if func in _SKIPPED or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func is functional.linear:
            x, weight = args[:2]
            self.num_macs += x[0].numel() // x.shape[-1] * weight.numel()
            return x.new_empty(*x.shape[:-1], len(weight))
        if func is functional.scaled_dot_product_attention:
            query, key, value = args
            # Scores and their product with the values: each as many products as queries times keys.
            self.num_macs += (
                query[0].numel() * key.shape[-2] + query[0].numel() // query.shape[-1] * value[0, 0].numel()
            )
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        if func is functional.conv2d:
            output = _convolve_shape(*args, **kwargs)
            # Each output value is one product with the weights of its channel (of its group only).
            self.num_macs += output[0].numel() * args[1][0].numel()
            return output
        return func(*args, **kwargs)


def _convolve_shape(
    x: Tensor,
    weight: Tensor,
    _bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    *_: int,
) -> Tensor:
    """An empty tensor of a convolution's shape; the arguments are those of `functional.conv2d`."""
    sizes = [
        (x.shape[2 + axis] + 2 * padding[axis] - dilation[axis] * (weight.shape[2 + axis] - 1) - 1) // stride[axis] + 1
        for axis in (0, 1)
    ]
    return x.new_empty(len(x), len(weight), *sizes)


def count_params(module: nn.Module) -> int:
    """Number of parameters (BatchNorm's scale and shift included, its running statistics not, as papers count).

    Classifiers that serve training only are not counted.
    """
    heads = [part for part in module.modules() if isinstance(part, AuxiliaryHead)]
    return sum(parameter.numel() for parameter in module.parameters()) - sum(
        parameter.numel() for head in heads for parameter in head.parameters()
    )


def count_macs(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of all convolutions, linear layers and attention for one picture; exact, without biases.

    Args:
        module: The network, in eval mode.
        input_shape: (channels, height, width).
    """
    with torch.inference_mode(), _ShapesOnly() as shapes:
        module(torch.empty(1, *input_shape, device=next(module.parameters()).device))
    return shapes.num_macs


def sketch(options: BuildOptions) -> nn.Module:
    """The layers of a network over empty memory, in no time: to look at, not to run.

    Raises:
        UnknownNameError: No such variant.
        UsageError: Sizes that make no network.
    """
    with _ShapesOnly():
        return build_model(options)


def measure(options: BuildOptions) -> tuple[int, int]:
    """Parameters and multiply-accumulates (one picture) of a network that is not there yet.

    Raises:
        UnknownNameError: No such variant.
        UsageError: Sizes that make no network.
    """
    module = sketch(options).eval()
    return count_params(module), count_macs(module, (options.in_channels, options.input_size, options.input_size))
