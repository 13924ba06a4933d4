"""What the one input of a foreign ONNX file is: name, shape, layout."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import helper

from edgekit.core.errors import GraphError
from edgekit.export.shapes import Shape

_TO_NCHW = [0, 3, 1, 2]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The input.

    Args:
        name: Its name.
        shape: [1, C, H, W].
        batch: Batch size that the file was made for, None when open.
        aliases: Values that are the input in NCHW, when the file itself takes NHWC.
    """

    name: str
    shape: Shape
    batch: int | None
    aliases: frozenset[str] = field(default_factory=frozenset)


def find_input(model: onnx.ModelProto, path: Path, input_size: int | None) -> InputSpec:
    """Find the picture input and fix its size.

    Raises:
        GraphError: There is no such input, or several, or its size stays open.
    """
    info = _only_input(model, path)
    tensor = info.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = helper.tensor_dtype_to_string(tensor.elem_type).removeprefix("TensorProto.").lower()
        raise GraphError(
            f"{path}: input {info.name!r} is {kind}, expected float (float32)",
            hint="export the model in float32, with casts and normalization outside",
        )
    dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim]
    aliases = _turned_to_nchw(model.graph, info.name)
    if len(dims) != 4:
        raise GraphError(
            f"{path}: input {info.name!r} has {len(dims)} dimensions, expected pictures [N, C, H, W]",
            hint="only image classifiers are supported",
        )
    if aliases:
        dims = [dims[axis] for axis in _TO_NCHW]
    batch, channels, *size = dims
    if channels is None:
        raise GraphError(
            f"{path}: the number of channels of input {info.name!r} is open",
            hint="export the model with a fixed number of channels",
        )
    height, width = (_fixed(length, input_size, info.name, path) for length in size)
    return InputSpec(info.name, (1, channels, height, width), batch, aliases)


def _only_input(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(info.name for info in inputs) or "none"
        raise GraphError(
            f"{path} has {len(inputs)} inputs ({names}); expected one batch of pictures",
            hint="export a model that takes the picture only",
        )
    return inputs[0]


def _fixed(length: int | None, input_size: int | None, name: str, path: Path) -> int:
    if length is None and input_size is None:
        raise GraphError(
            f"{path}: height or width of input {name!r} is open (dynamic)",
            hint="give the size in pixels with --input-size",
        )
    if length is not None and input_size is not None and length != input_size:
        raise GraphError(
            f"{path}: input {name!r} is {length} pixels, expected {input_size} as asked for",
            hint=f"leave --input-size out, or export the model for {input_size} pixels",
        )
    return input_size if length is None else length  # type: ignore[return-value]


def _turned_to_nchw(graph: onnx.GraphProto, name: str) -> frozenset[str]:
    """Outputs of the Transposes to NCHW, if nothing else reads the input."""
    outputs: set[str] = set()
    for node in graph.node:
        if name in node.input:
            perm = next((list(entry.ints) for entry in node.attribute if entry.name == "perm"), None)
            if node.op_type != "Transpose" or perm != _TO_NCHW:
                return frozenset()
            outputs.add(node.output[0])
    return frozenset(outputs)
