"""Write TFLite files from the hub graph: NHWC, float32 or full-integer int8, by ourselves.

No converter and no TensorFlow: the graph is canonical, so every node has one known form, and an unknown one is an
error that names it. A quantized graph is written with exactly its own integers and grids.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.artifact import Artifact, ModelCard
from edgekit.core.errors import GraphError
from edgekit.core.graph import Graph
from edgekit.core.quant import QuantizedGraph, scheme_of
from edgekit.export.tflite_lowering import MAP_RANK, Lowering, Value, stored_dims
from edgekit.export.tflite_metadata import METADATA_NAME, append_files, build_metadata
from edgekit.export.tflite_nibbles import Compute, require_int4_layers
from edgekit.export.tflite_ops import lower_node
from edgekit.export.tflite_versions import Op


def write_tflite(
    model: Graph | QuantizedGraph, path: Path, card: ModelCard, *, float_io: bool = False, compute: Compute = "int8"
) -> Artifact:
    """Write a .tflite file in one piece, or not at all.

    Args:
        model: Float graph -> float32 file; quantized graph -> int8 file.
        path: Where to.
        card: Travels in the file: labels, normalization, names.
        float_io: int8 inside, float32 input and output (QUANTIZE and DEQUANTIZE at the rim). Nothing for float graphs.
        compute: "int4" stores the weights of convolutions and fully-connected layers whose grid has at most 4 bits as
            INT4 tensors, depthwise ones apart; "int8" all as int8.

    Raises:
        UsageError: "int4", and no layer has such a grid.
        UnsupportedOpError: A node without a TFLite form; names it.
        GraphError: A graph that is no classifier of one picture, or grids that TFLite cannot express.
        OutputError: The file cannot be written.
    """
    content = build_tflite(model, card, float_io=float_io, compute=compute)
    return Artifact.write(path, content, "tflite", scheme_of(model))


def build_tflite(
    model: Graph | QuantizedGraph, card: ModelCard, *, float_io: bool = False, compute: Compute = "int8"
) -> bytes:
    """The bytes of `write_tflite`. The same model and card give the same bytes.

    Input [1, H, W, C], output [1, classes]. Tensors carry the hub graph's activation names; where operators were
    fused, the last name. Raises as `write_tflite` does, `OutputError` apart.
    """
    card = msgspec.structs.replace(card, scheme=scheme_of(model))
    lowering = Lowering(model, require_int4_layers(model) if compute == "int4" else ())
    graph = lowering.graph
    _check(graph, card)
    outer_input = _lower_input(lowering, float_io=float_io)
    for node in graph.nodes:
        if node.name not in lowering.plan.absorbed:
            lower_node(lowering, node)
    outer_output = _lower_output(lowering, float_io=float_io)
    metadata = {METADATA_NAME: build_metadata(card, graph.input, graph.output)}
    content = lowering.builder.build(graph.name, [outer_input], [outer_output], metadata)
    return append_files(content, card)


def _check(graph: Graph, card: ModelCard) -> None:
    shape = graph.shapes[graph.input]
    if not graph.nodes or len(shape) != MAP_RANK or shape[0] != 1:
        raise GraphError(f"{graph.name}: expected nodes and an input [1, C, H, W], got {len(graph.nodes)} of {shape}")
    num_classes = graph.shapes[graph.output][-1]
    if card.labels and len(card.labels) != num_classes:
        raise GraphError(
            f"{graph.name}: {len(card.labels)} labels for {num_classes} outputs",
            hint="give one label per class, in output order, or none",
        )


def _lower_input(lowering: Lowering, *, float_io: bool) -> int:
    """Declare the input. Returns the tensor that the caller fills."""
    name = lowering.graph.input
    if lowering.quantized is None or not float_io:
        return lowering.map_result(name).index
    dims = stored_dims(lowering.graph.shapes[name])
    outer = lowering.builder.add_activation(name, dims, np.float32)
    inner = lowering.declare(f"{name}/int8", dims, lowering.grid(name))
    lowering.bind(name, inner)
    lowering.emit(Op.QUANTIZE, [outer], [inner], schema.QuantizeOptionsT())
    return outer


def _lower_output(lowering: Lowering, *, float_io: bool) -> int:
    """Bring the output into its own shape. Returns the tensor that the caller reads."""
    name = lowering.graph.output
    inner = lowering.plain(name)
    if lowering.quantized is None or not float_io:
        return inner.index
    outer = Value(
        index=lowering.builder.add_activation(f"{name}/float", inner.dims, np.float32), dims=inner.dims, params=None
    )
    lowering.emit(Op.DEQUANTIZE, [inner.index], [outer], schema.DequantizeOptionsT())
    return outer.index
