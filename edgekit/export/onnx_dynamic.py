"""Layers whose weights are integers and whose input becomes so at run time -> ONNX nodes.

`DynamicQuantizeLinear` puts the whole input on the uint8 grid of its own range, `MatMulInteger` or `ConvInteger`
multiplies, and the sums go back to real values by the product of both scales. ONNX Runtime fuses the first form into
one operator. Names are those of the QDQ form: a weight `w` is stored as `w_quantized`, `w_scale`, `w_zero_point`.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgekit.core.graph import Node
from edgekit.core.quant import QuantTensor
from edgekit.export.onnx_lowering import OnnxSink

_CONV_ATTRIBUTES = ("strides", "pads", "dilations", "group")


def lower_dynamic(sink: OnnxSink, node: Node, weight: QuantTensor) -> None:
    """Append a Conv or Gemm with integer weights and a float bias.

    Args:
        sink: Where to.
        node: The layer.
        weight: int8, symmetric, per_tensor or along axis 0.
    """
    name, output = node.inputs[1], node.output
    is_conv = node.op == "Conv"
    # The channels of a convolution's result are its axis 1, of a product the last one.
    channels = (1, -1, 1, 1) if is_conv else (-1,)
    scale = weight.params.scale.reshape(() if weight.params.axis is None else channels)
    values = weight.values if is_conv else np.ascontiguousarray(weight.values.T)
    stored = sink.initializer(sink.name(f"{name}_quantized"), values)
    zero_point = sink.initializer(sink.name(f"{name}_zero_point"), np.zeros((), np.int8))
    scales = sink.initializer(sink.name(f"{name}_scale"), scale.astype(np.float32))
    x = [sink.name(f"{output}_input{part}") for part in ("", "_scale", "_zero_point")]
    total, real, step = (sink.name(f"{output}_{part}") for part in ("total", "real", "step"))
    sink.emit("DynamicQuantizeLinear", [node.inputs[0]], x)
    attrs = {key: node.attrs[key] for key in _CONV_ATTRIBUTES} if is_conv else {}
    op = "ConvInteger" if is_conv else "MatMulInteger"
    sink.emit(op, [x[0], stored, x[2], zero_point], [total], name=node.name, attrs=attrs)
    sink.emit("Cast", [total], [real], attrs={"to": int(onnx.TensorProto.FLOAT)})
    sink.emit("Mul", [x[1], scales], [step])
    if len(node.inputs) == 2:
        sink.emit("Mul", [real, step], [output])
        return
    product = sink.name(f"{output}_product")
    bias = sink.graph.constants[node.inputs[2]].astype(np.float32)
    sink.emit("Mul", [real, step], [product])
    sink.emit("Add", [product, sink.initializer(node.inputs[2], bias.reshape(channels))], [output])
