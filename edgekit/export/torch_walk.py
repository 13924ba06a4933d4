"""What the conversions of torch layers and of torch functions share: a graph in the making, and where the walk is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edgekit.core.errors import UnsupportedOpError
from edgekit.core.graph import Attribute
from edgekit.export.builder import GraphBuilder, Value

Pair = int | tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A parameter or buffer that a forward() uses directly.

    Args:
        path: Its name in the state dict.
        tensor: Its content.
    """

    path: str
    tensor: torch.Tensor


class Walk:
    """Emits nodes under the name of the module or function that the walk has reached.

    Args:
        builder: The graph in the making.
    """

    def __init__(self, builder: GraphBuilder) -> None:
        self.builder = builder
        self.path = ""
        self._is_layer = False

    def enter(self, path: str, *, is_layer: bool) -> None:
        """Say where the walk is: at a layer, or in the forward() of the module at `path`."""
        self.path, self._is_layer = path, is_layer

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Attribute] | None = None,
        *,
        step: str = "",
        num_outputs: int = 1,
    ) -> tuple[Value, ...]:
        """Append a node.

        Args:
            op: Canonical operator.
            inputs: Names of activations, then constants.
            attrs: Canonical attributes.
            step: Names the node when a layer takes more than one; the last one carries the bare path.
            num_outputs: More than 1 for Split.
        """
        parts = [self.path] if self._is_layer else [self.path, step or op.lower()]
        if self._is_layer and step:
            parts.append(step)
        name = ".".join(part for part in parts if part)
        outputs = None if num_outputs == 1 else [f"{name}.{index}" for index in range(num_outputs)]
        return self.builder.add(op, name, inputs, attrs, outputs=outputs)

    def emit_one(
        self, op: str, inputs: Sequence[str], attrs: Mapping[str, Attribute] | None = None, *, step: str = ""
    ) -> Value:
        """Append a node with one output; arguments as for `emit`."""
        return self.emit(op, inputs, attrs, step=step)[0]

    def constant(self, path: str, tensor: torch.Tensor) -> str:
        """Add a parameter under its own name."""
        return self.builder.constant(path, tensor.detach().cpu().to(torch.float32).numpy())

    def operand(self, operand: Value | Parameter | torch.Tensor | float, rank: int) -> str:
        """Name of an operand of Add or Mul; numbers and tensors become constants of full rank."""
        if isinstance(operand, Value):
            return operand.name
        tensor = operand.tensor if isinstance(operand, Parameter) else torch.as_tensor(operand)
        array = tensor.detach().cpu().to(torch.float32).numpy()
        if array.ndim > rank:
            raise self.unsupported("broadcasting a constant of more dimensions than the activation")
        path = operand.path if isinstance(operand, Parameter) else f"{self.path or self.builder.name}.constant"
        return self.builder.constant(path, np.reshape(array, (1,) * (rank - array.ndim) + array.shape))

    def unsupported(self, what: str) -> UnsupportedOpError:
        """The error for a use of a supported layer or function that the hub graph cannot hold."""
        where = repr(self.path) if self.path else "the model's forward()"
        return UnsupportedOpError(f"{what} at {where} is not supported", hint="use the plain form of the layer")


def pair(value: Pair) -> tuple[int, int]:
    """(height, width) of what torch gives as one number or two.

    >>> pair(3)
    (3, 3)
    """
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])
