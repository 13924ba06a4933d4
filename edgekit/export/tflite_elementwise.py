"""Operators that treat every element alike: activations, Add, Mul, Softmax."""

from __future__ import annotations

import msgspec
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.errors import GraphError
from edgekit.core.graph import Node
from edgekit.core.quant import QuantParams
from edgekit.export.tflite_buffer import Options
from edgekit.export.tflite_lowering import Lowering, Value, stored_constant
from edgekit.export.tflite_plan import ACTIVATION_RANGES, clip_range, grid_implies, real_range
from edgekit.export.tflite_versions import MUL_RESCALE_VERSION, Op

RELU6 = schema.ActivationFunctionType.RELU6
_ACTIVATION_OPS = {
    schema.ActivationFunctionType.RELU: Op.RELU,
    RELU6: Op.RELU6,
    schema.ActivationFunctionType.RELU_N1_TO_1: Op.RELU_N1_TO_1,
}
GATE_GRID = (1 / 255, -128)
"""Exactly 0 to 1."""
PROBABILITY_GRID = (1 / 256, -128)
"""What LOGISTIC and SOFTMAX write in int8, fixed by TFLite."""


def lower_clip(lowering: Lowering, node: Node) -> None:
    """Relu and Clip that could not be fused.

    Float: RELU, RELU6, RELU_N1_TO_1, or MAXIMUM and MINIMUM for other limits. Int8: XNNPACK takes none of these, and
    the kernels without it are over 80 times slower than a move to another grid. So: where saturating to the output's
    grid clips by itself (a Relu with zero_point -128) QUANTIZE, or nothing if the input lies on that grid already;
    otherwise ADD of zero with the activation fused.

    Raises:
        UnsupportedOpError: In int8, limits that are neither the grid's own nor TFLite's.
    """
    limits = clip_range(node)
    if limits is None:
        raise lowering.unsupported(node, "it has no range")
    x = lowering.value(node.inputs[0])
    activation = ACTIVATION_RANGES.get(limits)
    grid = lowering.grid(node.output)
    if grid is not None and grid_implies(grid, limits) and _same_grid(grid, x.params):
        lowering.bind(node.output, x)  # nothing can lie outside the limits
    elif grid is not None and grid_implies(grid, limits):
        _unary(lowering, node, x, Op.QUANTIZE, schema.QuantizeOptionsT())
    elif grid is not None and activation is not None:
        zero = lowering.builder.add_constant(f"{node.name}/zero", np.zeros(1, np.int8), _grid(grid.scale[0], 0))
        options = schema.AddOptionsT(fusedActivationFunction=activation)
        _unary(lowering, node, x, Op.ADD, options, operands=(zero,))
    elif grid is None and activation is not None:
        _unary(lowering, node, x, _ACTIVATION_OPS[activation])
    elif grid is None:
        _clip_float(lowering, node, x, limits)
    else:
        raise lowering.unsupported(node, f"int8 TFLite cannot clip to {limits}, which its grid does not imply")


def _same_grid(a: QuantParams, b: QuantParams | None) -> bool:
    return b is not None and bool(a.scale[0] == b.scale[0] and a.zero_point[0] == b.zero_point[0])


def _clip_float(lowering: Lowering, node: Node, x: Value, limits: tuple[float, float]) -> None:
    steps = [(op, limit) for op, limit in ((Op.MAXIMUM, limits[0]), (Op.MINIMUM, limits[1])) if np.isfinite(limit)]
    for number, (op, limit) in enumerate(steps, 1):
        name = node.output if number == len(steps) else f"{node.name}/{op.name.lower()}"
        bound = lowering.builder.add_constant(f"{node.name}/bound{number}", np.full(1, limit, np.float32))
        result = msgspec.structs.replace(x, index=lowering.declare(name, x.dims, None).index)
        lowering.emit(op, [x.index, bound], [result], schema.MaximumMinimumOptionsT())
        x = result
    lowering.bind(node.output, x)


def lower_sigmoid(lowering: Lowering, node: Node) -> None:
    """LOGISTIC."""
    _require_probability_grid(lowering, node)
    _unary(lowering, node, lowering.value(node.inputs[0]), Op.LOGISTIC)


def lower_hard_swish(lowering: Lowering, node: Node) -> None:
    """HARD_SWISH; in int8, which XNNPACK does not take, x times the gate that `lower_hard_sigmoid` writes."""
    x = lowering.value(node.inputs[0])
    if lowering.quantized is None:
        _unary(lowering, node, x, Op.HARD_SWISH, schema.HardSwishOptionsT())
        return
    gate = lowering.declare(f"{node.name}/gate", x.dims, _grid(*GATE_GRID))
    _gate(lowering, node, x, gate)
    _unary(lowering, node, x, Op.MUL, schema.MulOptionsT(), operands=(gate.index,))


def lower_softmax(lowering: Lowering, node: Node) -> None:
    """SOFTMAX along the channels.

    Raises:
        UnsupportedOpError: Along another axis.
    """
    x = lowering.plain(node.inputs[0])
    rank = len(lowering.graph.shapes[node.inputs[0]])
    channel_axis = 1 if rank in {2, 4} else rank - 1
    if node.int("axis") % rank != channel_axis:
        raise lowering.unsupported(node, f"axis {node.int('axis')} is not the channel axis {channel_axis}")
    _require_probability_grid(lowering, node)
    _unary(lowering, node, x, Op.SOFTMAX, schema.SoftmaxOptionsT(beta=1.0))


def lower_hard_sigmoid(lowering: Lowering, node: Node) -> None:
    """HardSigmoid with slope 1/6 and offset 1/2: relu6(x + 3) / 6, in int8 x / 6 + 1/2 on a grid that ends at 0 and 1.

    Raises:
        UnsupportedOpError: Another slope or offset.
    """
    if not np.allclose((node.float("alpha"), node.float("beta")), (1 / 6, 0.5), rtol=1e-4):
        raise lowering.unsupported(node, "only alpha 1/6 and beta 1/2 can be expressed")
    x = lowering.value(node.inputs[0])
    grid = lowering.grid(node.output)
    if grid is None:
        middle = lowering.declare(f"{node.name}/relu6", x.dims, None)
        three, sixth = (
            _scalar(lowering, f"{node.name}/{name}", value) for name, value in (("three", 3), ("sixth", 1 / 6))
        )
        lowering.emit(Op.ADD, [x.index, three], [middle], schema.AddOptionsT(fusedActivationFunction=RELU6))
        middle = msgspec.structs.replace(middle, flat=x.flat)
        _unary(lowering, node, middle, Op.MUL, schema.MulOptionsT(), operands=(sixth,))
        return
    gate = lowering.declare(node.output, x.dims, grid)
    if grid_implies(grid, (0.0, 1.0)):
        _gate(lowering, node, x, gate)
    else:
        ends = lowering.declare(f"{node.name}/gate", x.dims, _grid(*GATE_GRID))
        _gate(lowering, node, x, ends)
        lowering.emit(Op.QUANTIZE, [ends.index], [gate], schema.QuantizeOptionsT())
    lowering.bind(node.output, msgspec.structs.replace(gate, flat=x.flat))


def _gate(lowering: Lowering, node: Node, x: Value, gate: Value) -> None:
    """X / 6 + 1/2, on a grid whose ends clip it. The division keeps the integers and changes their scale only."""
    if x.params is None:
        raise GraphError(f"{lowering.graph.name}: node {node.name}: the input has no grid")
    sixth_grid = _grid(x.params.scale[0] / np.float32(6), int(x.params.zero_point[0]))
    sixth = lowering.declare(f"{node.name}/sixth", x.dims, sixth_grid)
    factor, half = (
        _scalar(lowering, f"{node.name}/{name}", value) for name, value in (("factor", 1 / 6), ("half", 0.5))
    )
    lowering.emit(Op.MUL, [x.index, factor], [sixth], schema.MulOptionsT())
    lowering.emit(Op.ADD, [sixth.index, half], [gate], schema.AddOptionsT())


def lower_add(lowering: Lowering, node: Node) -> None:
    """ADD."""
    fusion = lowering.fusion(node)
    inputs = [operand.index for operand in _operands(lowering, node)]
    options = schema.AddOptionsT(fusedActivationFunction=fusion.activation)
    lowering.emit(Op.ADD, inputs, [lowering.map_result(fusion.output)], options)


def lower_mul(lowering: Lowering, node: Node) -> None:
    """MUL."""
    fusion = lowering.fusion(node)
    first, second = _operands(lowering, node)
    result = lowering.map_result(fusion.output)
    version = 0
    if first.params is not None and second.params is not None and result.params is not None:
        rescale = float(first.params.scale[0]) * float(second.params.scale[0]) / float(result.params.scale[0])
        version = MUL_RESCALE_VERSION if rescale >= 1 else 0
    options = schema.MulOptionsT(fusedActivationFunction=fusion.activation)
    lowering.emit(Op.MUL, [first.index, second.index], [result], options, version=version)


def _operands(lowering: Lowering, node: Node) -> tuple[Value, Value]:
    shapes = [lowering.graph.shapes[name] for name in lowering.graph.data_inputs(node)]
    if len(node.inputs) != 2 or len({len(shape) for shape in shapes}) != 1:
        raise lowering.unsupported(node, f"expected two operands of one rank, got shapes {shapes}")
    first, second = (
        _constant_operand(lowering, node, name, len(shapes[0]))
        if name in lowering.graph.constants
        else lowering.plain(name)
        for name in node.inputs
    )
    return first, second


def _constant_operand(lowering: Lowering, node: Node, name: str, rank: int) -> Value:
    if lowering.quantized is None:
        values, params = lowering.graph.constants[name].astype(np.float32), None
    else:
        tensor = lowering.constant(node, name)
        values, params = tensor.values, tensor.params
        if values.dtype != np.int8 or params.scale.size != 1:
            raise GraphError(
                f"{lowering.graph.name}: node {node.name}: operand {name}: expected per_tensor int8, "
                f"got {values.dtype} with {params.scale.size} scales"
            )
    stored = stored_constant(values, rank)
    return Value(index=lowering.builder.add_constant(name, stored, params), dims=stored.shape, params=params)


def _unary(
    lowering: Lowering, node: Node, x: Value, op: Op, options: Options = None, *, operands: tuple[int, ...] = ()
) -> None:
    """One operator, element by element: a pending flattening stays pending."""
    params = lowering.grid(node.output)
    index = lowering.declare(node.output, x.dims, params).index
    result = msgspec.structs.replace(x, index=index, params=params)
    lowering.emit(op, [x.index, *operands], [result], options)
    lowering.bind(node.output, result)


def _require_probability_grid(lowering: Lowering, node: Node) -> None:
    params = lowering.grid(node.output)
    if params is None:
        return
    scale, zero_point = PROBABILITY_GRID
    if not np.isclose(params.scale[0], scale, rtol=1e-6) or int(params.zero_point[0]) != zero_point:
        raise GraphError(
            f"{lowering.graph.name}: node {node.name} ({node.op}): int8 TFLite writes scale 1/256 and zero_point -128, "
            f"got the range {real_range(params)}"
        )


def _scalar(lowering: Lowering, name: str, value: float) -> int:
    """A constant of one element; in int8 it takes the top of its own grid, so that it is exact."""
    if lowering.quantized is None:
        return lowering.builder.add_constant(name, np.full(1, value, np.float32))
    top = np.iinfo(np.int8).max
    return lowering.builder.add_constant(name, np.full(1, top, np.int8), _grid(value / top, 0))


def _grid(scale: float | np.float32, zero_point: int) -> QuantParams:
    return QuantParams(scale=np.full(1, scale, np.float32), zero_point=np.full(1, zero_point, np.int32))
