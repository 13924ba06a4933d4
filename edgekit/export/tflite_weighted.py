"""Conv -> CONV_2D or DEPTHWISE_CONV_2D, Gemm -> FULLY_CONNECTED."""

from __future__ import annotations

import msgspec
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.errors import GraphError
from edgekit.core.graph import Array, Node
from edgekit.core.quant import QuantParams
from edgekit.export.tflite_lowering import Lowering, Value
from edgekit.export.tflite_versions import (
    DILATED_DEPTHWISE_VERSION,
    GROUPED_CONV_VERSION,
    TOKENS_VERSION,
    Op,
    dynamic_version,
    int4_version,
)
from edgekit.export.tflite_window import slide, window_of

BIAS_INPUT = 2
OIHW_TO_OHWI = (0, 2, 3, 1)
OIHW_TO_IHWO = (1, 2, 3, 0)
BIAS_SCALE_TOLERANCE = 1e-4
"""Relative. The kernels take the bias as lying on input scale * weight scale, whatever scale the file states."""


def lower_conv(lowering: Lowering, node: Node) -> None:
    """Conv, by its groups: CONV_2D, grouped CONV_2D (filters of in_channels / group), or DEPTHWISE_CONV_2D."""
    weight = lowering.graph.constants[node.inputs[1]]
    window = window_of(lowering, node, weight.shape[2:])
    x, padding = slide(lowering, node, window)
    fusion = lowering.fusion(node)
    strides = node.ints("strides")
    dilations = node.ints("dilations") if "dilations" in node.attrs else (1, 1)
    common = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": fusion.activation,
    }
    if lowering.graph.is_depthwise(node):
        op, order, axis = Op.DEPTHWISE_CONV_2D, OIHW_TO_IHWO, 3
        options: object = schema.DepthwiseConv2DOptionsT(depthMultiplier=weight.shape[0] // node.int("group"), **common)
        # Version 3 (int8) knows dilation; in float it came with version 2.
        version = DILATED_DEPTHWISE_VERSION if max(dilations) > 1 and lowering.quantized is None else 0
    else:
        op, order, axis = Op.CONV_2D, OIHW_TO_OHWI, 0
        options = schema.Conv2DOptionsT(**common)
        version = GROUPED_CONV_VERSION if node.int("group") > 1 else 0
        if node.name in lowering.int4_layers:
            version = int4_version(op)
    if node.inputs[1] in lowering.dynamic_weights:
        version = dynamic_version(op)
    inputs = [x.index, _weight(lowering, node, order, axis), _bias(lowering, node)]
    lowering.emit(op, inputs, [lowering.map_result(fusion.output)], options, version=version)


def lower_gemm(lowering: Lowering, node: Node) -> None:
    """Gemm. After a flattened map the weight's columns are put into NHWC order instead of transposing the map."""
    x = lowering.value(node.inputs[0])
    fusion = lowering.fusion(node)
    inputs = [x.index, _gemm_weight(lowering, node, x), _bias(lowering, node)]
    is_dynamic = node.inputs[1] in lowering.dynamic_weights
    on_tokens = lowering.graph.is_token_layer(node)
    options = schema.FullyConnectedOptionsT(
        fusedActivationFunction=fusion.activation, keepNumDims=on_tokens, asymmetricQuantizeInputs=is_dynamic
    )
    version = int4_version(Op.FULLY_CONNECTED) if node.name in lowering.int4_layers else 0
    if is_dynamic or on_tokens:
        version = dynamic_version(Op.FULLY_CONNECTED) if is_dynamic else TOKENS_VERSION
    lowering.emit(Op.FULLY_CONNECTED, inputs, [lowering.map_result(fusion.output)], options, version=version)


def _gemm_weight(lowering: Lowering, node: Node, x: Value) -> int:
    values, params = _weight_values(lowering, node)
    if x.flat:
        _, height, width, channels = x.dims
        values = values.reshape(-1, channels, height, width).transpose(OIHW_TO_OHWI).reshape(values.shape)
    return _store(lowering, node, values, params)


def _weight(lowering: Lowering, node: Node, order: tuple[int, ...], axis: int) -> int:
    values, params = _weight_values(lowering, node)
    if params is not None and params.axis is not None:
        params = msgspec.structs.replace(params, axis=axis)
    return _store(lowering, node, values.transpose(order), params)


def _store(lowering: Lowering, node: Node, values: Array, params: QuantParams | None) -> int:
    if params is None or node.name not in lowering.int4_layers:
        return lowering.builder.add_constant(node.inputs[1], values, params)
    return lowering.builder.add_nibbles(node.inputs[1], values.astype(np.int8), params)


def _weight_values(lowering: Lowering, node: Node) -> tuple[Array, QuantParams | None]:
    name = node.inputs[1]
    dynamic = lowering.dynamic_weights.get(name)
    if lowering.quantized is None and dynamic is None:
        return lowering.graph.constants[name].astype(np.float32), None
    tensor = dynamic or lowering.constant(node, name)
    params = tensor.params
    if tensor.values.dtype != np.int8 or params.zero_point.any() or params.axis not in {None, 0}:
        raise GraphError(
            f"{lowering.graph.name}: node {node.name}: weight {name}: expected symmetric int8, per_tensor or along "
            f"axis 0, got {tensor.values.dtype} with axis {params.axis}"
        )
    return tensor.values, params


def _bias(lowering: Lowering, node: Node) -> int:
    """The bias, or zeros: the kernels of older runtimes want three inputs."""
    weight = lowering.graph.constants[node.inputs[1]]
    name = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else ""
    if lowering.quantized is None:
        values: Array = lowering.graph.constants[name] if name else np.zeros(weight.shape[0])
        return lowering.builder.add_constant(name or f"{node.name}/bias", values.astype(np.float32))
    params = _bias_params(lowering, node)
    if not name:
        return lowering.builder.add_constant(f"{node.name}/bias", np.zeros(weight.shape[0], np.int32), params)
    bias = lowering.constant(node, name)
    if bias.values.dtype != np.int32:
        raise GraphError(
            f"{lowering.graph.name}: node {node.name}: bias {name}: expected int32, got {bias.values.dtype}"
        )
    expected = np.broadcast_to(params.scale, bias.params.scale.shape)
    if not np.allclose(bias.params.scale, expected, rtol=BIAS_SCALE_TOLERANCE, atol=0):
        raise GraphError(
            f"{lowering.graph.name}: node {node.name}: scale of bias {name} is not input scale * weight scale"
        )
    return lowering.builder.add_constant(name, bias.values, bias.params)


def _bias_params(lowering: Lowering, node: Node) -> QuantParams:
    """The grid that the kernels assume: input scale * weight scale."""
    grid = lowering.grid(node.inputs[0])
    weight = lowering.constant(node, node.inputs[1]).params
    scale = weight.scale if grid is None else (weight.scale * grid.scale).astype(np.float32)
    return QuantParams(scale=scale, zero_point=np.zeros(scale.shape, np.int32), axis=weight.axis, num_bits=32)
