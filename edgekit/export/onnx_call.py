"""One operator call of a foreign ONNX file, with its inputs resolved to activations or constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.core.graph import Array, Attribute
from edgekit.export.builder import GraphBuilder, Value

Operand: TypeAlias = Value | Array | None
"""What an input can be: an activation, a constant, or left out."""

OnnxAttribute: TypeAlias = int | float | str | bytes | list[int] | list[float] | Array


@dataclass(frozen=True, slots=True, eq=False)
class OnnxCall:
    """A node of the file, ready to convert.

    Args:
        builder: The graph in the making.
        op: ONNX operator.
        name: Node name, or its first output where the file gives none.
        inputs: Resolved inputs; None for those left out.
        input_names: Their names in the file.
        outputs: Names of its outputs in the file.
        attrs: Attributes.
        opset: Version of the default operator set.
        batch: Batch size that the file was made for; None when open.
    """

    builder: GraphBuilder
    op: str
    name: str
    inputs: Sequence[Operand]
    input_names: Sequence[str]
    outputs: Sequence[str]
    attrs: Mapping[str, OnnxAttribute] = field(default_factory=dict)
    opset: int = 17
    batch: int | None = None

    def fail(self, what: str, hint: str = "replace the operator before exporting") -> UnsupportedOpError:
        """The error for a use that the hub graph cannot hold."""
        return UnsupportedOpError(f"{self.op} node {self.name!r}: {what}", hint=hint)

    def operand(self, index: int) -> Operand:
        """An input; None when the call has fewer."""
        return self.inputs[index] if index < len(self.inputs) else None

    def value(self, index: int = 0) -> Value:
        """An input that must be an activation."""
        found = self.operand(index)
        if not isinstance(found, Value):
            raise self.fail(f"input {index} must be an activation, got a constant or nothing")
        return found

    def optional_array(self, index: int) -> Array | None:
        """An input that must be constant if it is there."""
        found = self.operand(index)
        if isinstance(found, Value):
            raise self.fail(f"input {index} ({self.input_names[index]!r}) must be constant, it is computed")
        return found

    def array(self, index: int) -> Array:
        """An input that must be there and constant."""
        found = self.optional_array(index)
        if found is None:
            raise self.fail(f"input {index} is missing")
        return found

    def integer(self, key: str, default: int) -> int:
        """An integer attribute."""
        found = self.attrs.get(key, default)
        if not isinstance(found, int):
            raise self.fail(f"attribute {key} must be an integer, got {found!r}")
        return found

    def number(self, key: str, default: float) -> float:
        """A number attribute."""
        found = self.attrs.get(key, default)
        if not isinstance(found, int | float):
            raise self.fail(f"attribute {key} must be a number, got {found!r}")
        return float(found)

    def text(self, key: str, default: str) -> str:
        """A string attribute."""
        found = self.attrs.get(key, default)
        return found.decode() if isinstance(found, bytes) else str(found)

    def ints(self, key: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """A list attribute; without a default it must be there."""
        found = self.attrs.get(key, default)
        if not isinstance(found, list | tuple):
            raise self.fail(f"attribute {key} must be a list of integers, got {found!r}")
        return tuple(int(item) for item in found)

    def ints_or_input(self, key: str, index: int) -> tuple[int, ...] | None:
        """What old operator sets give as an attribute and newer ones as a constant input; None when in neither."""
        if key in self.attrs:
            return self.ints(key)
        array = self.optional_array(index)
        return None if array is None else tuple(int(item) for item in array.reshape(-1))

    def constant(self, index: int, array: Array | None = None) -> str:
        """Add a constant input to the graph, as it is or in another form, and return its name."""
        content = self.array(index) if array is None else array
        if not np.all(np.isfinite(content)):
            raise GraphError(
                f"{self.op} node {self.name!r}: constant {self.input_names[index]!r} holds NaN or infinity",
                hint="the model file is damaged, or training diverged",
            )
        return self.builder.constant(self.input_names[index], content)

    def emit(self, op: str, inputs: Sequence[str], attrs: Mapping[str, Attribute] | None = None) -> Value:
        """Append the canonical node that stands for this call."""
        return self.builder.add(op, self.name, inputs, attrs, outputs=self.outputs[:1])[0]

    def step(self, op: str, inputs: Sequence[str], attrs: Mapping[str, Attribute] | None = None) -> Value:
        """Append a node that this call needs on its way to the last one."""
        return self.builder.add(op, f"{self.name}/{op.lower()}", inputs, attrs)[0]


def attributes(node: onnx.NodeProto) -> dict[str, OnnxAttribute]:
    """Attributes of a node as Python values; tensors become arrays, subgraphs are left out."""
    found: dict[str, OnnxAttribute] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            found[attribute.name] = numpy_helper.to_array(value)
        elif not isinstance(value, onnx.GraphProto):
            found[attribute.name] = value
    return found


def evaluate_constant(node: onnx.NodeProto, inputs: Mapping[str, Array], opset: int) -> list[Array]:
    """Run one node whose inputs are all constant (shape arithmetic, transposed weights).

    Raises:
        UnsupportedOpError: It cannot be computed.
    """
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "constant", infos, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        results = ReferenceEvaluator(model).run(None, dict(inputs))
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError, KeyError, ArithmeticError) as error:
        raise UnsupportedOpError(
            f"{node.op_type} node {node.name or node.output[0]!r}: cannot compute it from constants: {error}",
            hint="simplify the model before compressing it",
        ) from error
    return [np.asarray(result) for result in results]  # type: ignore[union-attr]
