"""Hub graph -> ONNX file: plain float, quantized with QuantizeLinear / DequantizeLinear (QDQ), or dynamically.

Opset 17 and IR version 8, so that onnxruntime 1.23 (the newest for JetPack 6) loads the files.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec
import onnx
from onnx import helper

from edgekit.core.artifact import CARD_KEY, Artifact, ModelCard
from edgekit.core.errors import GraphError
from edgekit.core.graph import Array, Graph
from edgekit.core.quant import QuantizedGraph, scheme_of
from edgekit.export.onnx_dynamic import lower_dynamic
from edgekit.export.onnx_lowering import OnnxSink, lower
from edgekit.export.onnx_qdq import ActivationType, QdqWriter

OPSET = 17
IR_VERSION = 8
DEFAULT_ACTIVATIONS: ActivationType = "uint8"
"""ONNX Runtime on x86 fuses every operator for uint8 and leaves some in float for int8: up to 3 times as slow
(docs/decisions/0006-onnx-qdq-form.md). The integers are the same."""


def write_onnx(
    model: Graph | QuantizedGraph,
    path: Path,
    card: ModelCard,
    *,
    dynamic_batch: bool = True,
    activations: ActivationType = DEFAULT_ACTIVATIONS,
) -> Artifact:
    """Write an ONNX file, atomically and reproducibly (same model, same bytes).

    Args:
        model: Float graph, or a quantized one (written from exactly its integers).
        path: Target file.
        card: Travels in `metadata_props`: JSON under "edgekit.card", and plain "labels", "mean", "std".
        dynamic_batch: Leave the batch dimension open; False fixes it to 1.
        activations: Storage type of quantized activations: "int8" as decided, or "uint8", which holds q + 128 with
            zero-point + 128 and means the same real values. Weights are int8 in both.

    Raises:
        UnsupportedOpError: An operator that is not canonical.
        GraphError: The card has labels for another number of classes.
        OutputError: The file cannot be written.
    """
    proto = _build(model, card, dynamic_batch=dynamic_batch, activations=activations)
    content = proto.SerializeToString(deterministic=True)
    onnx.checker.check_model(content)
    return Artifact.write(path, content, "onnx", scheme_of(model))


def build_onnx(
    model: Graph | QuantizedGraph,
    card: ModelCard,
    *,
    dynamic_batch: bool = True,
    activations: ActivationType = DEFAULT_ACTIVATIONS,
) -> onnx.ModelProto:
    """The ONNX model in memory; arguments and errors as for `write_onnx`."""
    proto = _build(model, card, dynamic_batch=dynamic_batch, activations=activations)
    onnx.checker.check_model(proto)
    return proto


def _build(
    model: Graph | QuantizedGraph, card: ModelCard, *, dynamic_batch: bool, activations: ActivationType
) -> onnx.ModelProto:
    graph = model.graph if isinstance(model, QuantizedGraph) else model
    num_classes = graph.shapes[graph.output][-1]
    if card.labels and len(card.labels) != num_classes:
        raise GraphError(
            f"the card of {card.model!r} has {len(card.labels)} labels, the graph {graph.name!r} {num_classes} outputs",
            hint="export with the labels of the data that the model was trained on",
        )
    sink = OnnxSink(graph)
    if isinstance(model, QuantizedGraph) and not model.is_dynamic:
        names = QdqWriter(sink, model, activations).write()
    else:
        weights = model.constants if isinstance(model, QuantizedGraph) else {}
        for node in graph.nodes:
            if len(node.inputs) > 1 and node.inputs[1] in weights:
                lower_dynamic(sink, node, weights[node.inputs[1]])
            else:
                lower(sink, node, sink.real_inputs(node), node.outputs)
        names = tuple(name for node in graph.nodes for name in node.outputs)
    batch = "batch" if dynamic_batch else 1
    proto = helper.make_graph(
        sink.nodes,
        graph.name,
        [_value_info(graph, graph.input, batch)],
        [_value_info(graph, graph.output, batch)],
        value_info=[_value_info(graph, name, batch) for name in names if name != graph.output],
    )
    made = _model(proto, msgspec.structs.replace(card, scheme=scheme_of(model)))
    for name, array in sink.initializers.items():
        _add_initializer(made.graph, name, array)
    return made


def with_all_outputs(model: onnx.ModelProto, names: Collection[str] | None = None) -> onnx.ModelProto:
    """A copy in which activations are outputs too: for calibration and per-layer comparison.

    The own output stays first; the others follow in execution order under their hub graph names. Values that exist
    only inside one operator's ONNX form (a channel shuffle's steps, integers) are not among them.

    Args:
        model: A model that `build_onnx` or `write_onnx` made; for others, shapes are inferred first.
        names: Only these activations; None means all.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model if model.graph.value_info else onnx.shape_inference.infer_shapes(model))
    outputs = {info.name for info in copied.graph.output}
    for info in copied.graph.value_info:
        if info.name not in outputs and (names is None or info.name in names):
            copied.graph.output.append(info)
    return copied


def _value_info(graph: Graph, name: str, batch: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, *graph.shapes[name][1:]])


def _model(graph: onnx.GraphProto, card: ModelCard) -> onnx.ModelProto:
    model = helper.make_model(
        graph,
        producer_name="edgekit",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    entries = {
        CARD_KEY: msgspec.json.encode(card).decode(),
        "labels": "\n".join(card.labels),
        "mean": ",".join(map(str, card.preprocess.mean)),
        "std": ",".join(map(str, card.preprocess.std)),
    }
    helper.set_model_props(model, entries)
    return model


def _add_initializer(graph: onnx.GraphProto, name: str, array: Array) -> None:
    """Store an array where it stays: ready-made tensors would be copied whole, into the graph and into the model."""
    tensor = graph.initializer.add()
    tensor.name = name
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.dims.extend(array.shape)
    tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
