"""Layers whose weights are integers and whose input becomes so at run time -> ONNX nodes.

`DynamicQuantizeLinear` puts the whole input on the uint8 grid of its own range, `MatMulInteger` or `ConvInteger`
multiplies, and the sums go back to real values by the product of both scales. ONNX Runtime fuses the first form into
one operator. Names are those of the QDQ form: a weight `w` is stored as `w_quantized`, `w_scale`, `w_zero_point`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt
import onnx

from edgekit.core.errors import IntegrityError
from edgekit.core.graph import Array, Node
from edgekit.core.quant import QuantTensor
from edgekit.export.onnx_lowering import OnnxSink

DYNAMIC_OPS = frozenset({"ConvInteger", "MatMulInteger"})
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


class DynamicWeight(msgspec.Struct, frozen=True, kw_only=True):
    """Integer weights of one layer, as a file holds them.

    Args:
        name: Of the float weight.
        stored: Of the tensor in the file.
        values: int8, [out, in] or OIHW.
        scale: float32 [1] or [channels].
    """

    name: str
    stored: str
    values: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]


def read_dynamic(graph: onnx.GraphProto, array: Callable[[str], Array]) -> list[DynamicWeight]:
    """Find the weights that `lower_dynamic` wrote, and the scales by which their sums are really multiplied.

    Args:
        graph: Of the file.
        array: Content of an initializer, by name.

    Raises:
        IntegrityError: The sums of a layer are multiplied by nothing that was stored.
    """
    readers = {name: node for node in graph.node for name in node.input}
    makers = {name: node for node in graph.node for name in node.output}
    known = {tensor.name for tensor in graph.initializer}
    found: list[DynamicWeight] = []
    for node in graph.node:
        if node.op_type not in DYNAMIC_OPS or node.input[1] not in known:
            continue
        cast = readers.get(node.output[0])
        product = None if cast is None else readers.get(cast.output[0])
        step = None if product is None else makers.get(product.input[1])
        scales = [] if step is None else [name for name in step.input if name in known]
        if len(scales) != 1:
            raise IntegrityError(f"layer {node.name}: no scale of its integer weights", hint="make the run again")
        values = np.asarray(array(node.input[1]), np.int8)
        found.append(
            DynamicWeight(
                name=node.input[1].removesuffix("_quantized"),
                stored=node.input[1],
                values=values if node.op_type == "ConvInteger" else values.T,
                scale=np.asarray(array(scales[0]), np.float32).reshape(-1),
            )
        )
    return found
