"""Which function lowers which operator."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.core.graph import Node
from edgekit.export import tflite_elementwise as elementwise
from edgekit.export import tflite_movement as movement
from edgekit.export import tflite_normalization as normalization
from edgekit.export import tflite_pooling as pooling
from edgekit.export import tflite_transformer as transformer
from edgekit.export import tflite_weighted as weighted
from edgekit.export.tflite_lowering import Emitter, Lowering

EMITTERS: Mapping[str, Emitter] = {
    "Add": elementwise.lower_add,
    "Attention": transformer.lower_attention,
    "AveragePool": pooling.lower_average_pool,
    "ChannelShuffle": movement.lower_channel_shuffle,
    "Clip": elementwise.lower_clip,
    "Concat": movement.lower_concat,
    "Conv": weighted.lower_conv,
    "Flatten": movement.lower_flatten,
    "Gelu": transformer.lower_gelu,
    "Gemm": weighted.lower_gemm,
    "GlobalAveragePool": pooling.lower_global_average_pool,
    "HardSigmoid": elementwise.lower_hard_sigmoid,
    "HardSwish": elementwise.lower_hard_swish,
    "LRN": normalization.lower_response_norm,
    "LayerNormalization": transformer.lower_layer_norm,
    "MaxPool": pooling.lower_max_pool,
    "Mul": elementwise.lower_mul,
    "Pad": pooling.lower_pad,
    "Relu": elementwise.lower_clip,
    "Reshape": movement.lower_reshape,
    "Sigmoid": elementwise.lower_sigmoid,
    "Slice": movement.lower_slice,
    "Softmax": elementwise.lower_softmax,
    "Split": movement.lower_split,
    "Transpose": movement.lower_transpose,
}


def lower_node(lowering: Lowering, node: Node) -> None:
    """Write the operators of one node.

    Raises:
        UnsupportedOpError: TFLite has no form for it; names the node.
        GraphError: A quantized graph whose grids TFLite cannot express; names the node.
    """
    emitter = EMITTERS.get(node.op)
    if emitter is None:
        raise lowering.unsupported(node, "unknown operator")
    emitter(lowering, node)
