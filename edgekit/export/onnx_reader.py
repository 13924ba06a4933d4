"""A user's float ONNX file -> canonical hub graph.

The file is walked once with all shapes known (batch 1), so shape arithmetic (Shape, Gather, Concat, Unsqueeze, ...)
turns into constants on the way, and so do transposed or cast weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edgekit.core.artifact import CARD_KEY, ModelCard
from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.core.graph import Array, Graph
from edgekit.export.builder import GraphBuilder, Value
from edgekit.export.onnx_call import OnnxCall, attributes, evaluate_constant
from edgekit.export.onnx_input import InputSpec, find_input
from edgekit.export.onnx_layers import LAYER_CONVERSIONS, Conversion
from edgekit.export.onnx_views import VIEW_CONVERSIONS
from edgekit.export.passes import canonicalize, classifier_output, require_canonical

CONVERSIONS: Mapping[str, Conversion] = {**LAYER_CONVERSIONS, **VIEW_CONVERSIONS}

QUANTIZED_OPS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
        "QGemm",
    }
)


def read_onnx(path: Path, *, input_size: int | None = None) -> tuple[Graph, ModelCard | None]:
    """Read a float classifier.

    Args:
        path: The .onnx file; weights in external files are read from beside it.
        input_size: Height and width in pixels, needed when the file leaves them open.

    Returns:
        The canonical graph (batch 1), and the card if edgekit wrote the file.

    Raises:
        GraphError: No such file, no valid ONNX, missing weights, several inputs or outputs, an input that is no float
            picture batch, open sizes without `input_size`, or shapes that do not fit.
        UnsupportedOpError: An operator that the hub graph cannot hold, or a model that is quantized already; the
            message names operator and node.
    """
    model = _load(path)
    card = _card(model, path)
    spec = find_input(model, path, input_size)
    walk = _OnnxWalk(model, path, spec)
    return classifier_output(require_canonical(canonicalize(walk.run()))), card


def _load(path: Path) -> onnx.ModelProto:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GraphError(f"cannot read {path}: {error.strerror}", hint="check the path of the .onnx file") from error
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise GraphError(
            f"{path} is no ONNX file, or it is truncated: {error}", hint="export or download the file again"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise GraphError(f"{path} is no ONNX model: it holds no operators", hint="export the file again")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise GraphError(
            f"{path} keeps its weights in other files, which cannot be read: {error}",
            hint="put the .data file beside the .onnx file, or export with the weights inside",
        ) from error
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        first_line = str(error).strip().splitlines()[0]
        raise GraphError(f"{path} is no valid ONNX model: {first_line}", hint="export the file again") from error
    return model


def _card(model: onnx.ModelProto, path: Path) -> ModelCard | None:
    for entry in model.metadata_props:
        if entry.key == CARD_KEY:
            try:
                return msgspec.json.decode(entry.value, type=ModelCard)
            except msgspec.DecodeError as error:
                raise GraphError(
                    f"{path}: metadata {CARD_KEY!r} is no model card: {error}", hint="export the file again"
                ) from error
    return None


class _OnnxWalk:
    """Converts node by node; knows every value as an activation or as a constant."""

    def __init__(self, model: onnx.ModelProto, path: Path, spec: InputSpec) -> None:
        self.graph = model.graph
        self.path = path
        self.batch = spec.batch
        self.opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
        self.builder = GraphBuilder(model.graph.name or path.stem, Value(spec.name, spec.shape))
        self.values: dict[str, Value | Array] = {spec.name: self.builder.input}
        # Channels-last files turn the picture first thing: the hub graph starts behind that.
        self.values.update(dict.fromkeys(spec.aliases, self.builder.input))
        self.skipped = spec.aliases
        self.origin: dict[str, str] = {}
        for tensor in model.graph.initializer:
            self.values[tensor.name] = numpy_helper.to_array(tensor)

    def run(self) -> Graph:
        for node in self.graph.node:
            if not self.skipped.intersection(node.output):
                self._convert(node)
        names = [output.name for output in self.graph.output]
        if len(names) != 1:
            raise GraphError(
                f"{self.path} has {len(names)} outputs ({', '.join(names)}); expected one with the class scores",
                hint="export the model with the logits as its only output",
            )
        output = self.values.get(names[0])
        if not isinstance(output, Value):
            raise GraphError(f"{self.path}: output {names[0]!r} does not depend on the input")
        return self.builder.build(output.name)

    def _convert(self, node: onnx.NodeProto) -> None:
        name = node.name or node.output[0]
        if node.op_type in QUANTIZED_OPS or node.op_type.startswith("QLinear"):
            raise UnsupportedOpError(
                f"{self.path} is quantized already: {node.op_type} node {name!r}",
                hint="start from the float model",
            )
        if node.op_type == "Constant":
            self.values[node.output[0]] = _constant_value(node)
            return
        inputs = [self.values.get(source) if source else None for source in node.input]
        results = self._fold(node, inputs)
        if results is None:
            results = self._emit(node, name, inputs)
        if node.op_type == "Identity":
            self.origin[node.output[0]] = self.origin.get(node.input[0], node.input[0])
        self.values.update(zip(node.output, results, strict=False))

    def _fold(self, node: onnx.NodeProto, inputs: list[Value | Array | None]) -> list[Array] | None:
        """The results, if they are known already."""
        first = inputs[0] if inputs else None
        if node.op_type in ("Shape", "Size") and isinstance(first, Value):
            shape = np.asarray(first.shape, np.int64)
            if node.op_type == "Size":
                return [np.asarray(shape.prod(), np.int64)]
            limits = attributes(node)
            return [shape[limits.get("start", 0) : limits.get("end")]]  # type: ignore[misc]
        if any(isinstance(value, Value) for value in inputs) or node.domain not in ("", "ai.onnx"):
            return None
        known = {name: value for name, value in zip(node.input, inputs, strict=True) if isinstance(value, np.ndarray)}
        return evaluate_constant(node, known, self.opset)

    def _emit(self, node: onnx.NodeProto, name: str, inputs: list[Value | Array | None]) -> tuple[Value, ...]:
        convert = CONVERSIONS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if convert is None:
            domain = f"{node.domain}." if node.domain else ""
            raise UnsupportedOpError(
                f"operator {domain}{node.op_type} of node {name!r} in {self.path.name} is not supported; "
                f"supported: {', '.join(sorted(CONVERSIONS))}",
                hint="replace the layer by a supported one before exporting",
            )
        call = OnnxCall(
            builder=self.builder,
            op=node.op_type,
            name=name,
            inputs=inputs,
            input_names=[self.origin.get(source, source) for source in node.input],
            outputs=[output or f"{name}/unused" for output in node.output],
            attrs=attributes(node),
            opset=self.opset,
            batch=self.batch,
        )
        with _naming(call):
            result = convert(call)
        return result if isinstance(result, tuple) else (result,)


@contextlib.contextmanager
def _naming(call: OnnxCall) -> Iterator[None]:
    """Malformed attributes surface as ValueError or TypeError deep in a conversion: say where."""
    try:
        yield
    except (ValueError, TypeError, IndexError) as error:
        raise GraphError(
            f"{call.op} node {call.name!r} is malformed: {error}", hint="export the model file again"
        ) from error


def _constant_value(node: onnx.NodeProto) -> Array:
    for key, value in attributes(node).items():
        if key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
            dtype = {"value_float": np.float32, "value_floats": np.float32}.get(key)
            return np.asarray(value, dtype=dtype)
    raise UnsupportedOpError(
        f"Constant node {node.name or node.output[0]!r} holds no numbers", hint="export the model file again"
    )
