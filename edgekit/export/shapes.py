"""Output shapes of the canonical operators (`edgekit.core.graph`), from the shapes of their inputs.

Used by every front end while it builds a graph, so a graph that does not fit together is found at the node that is
wrong, with its name, and no forward pass is needed to know the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.core.graph import TOKEN_RANK, Node

Shape: TypeAlias = tuple[int, ...]
Rule: TypeAlias = Callable[[Node, Sequence[Shape]], tuple[Shape, ...]]


def window_positions(size: int, kernel: int, stride: int, pads: int, dilation: int = 1) -> int:
    """How many times a window fits, rounded down; `pads` is the sum of both ends.

    >>> window_positions(224, 3, 2, 2)
    112
    """
    return (size + pads - dilation * (kernel - 1) - 1) // stride + 1


def ceil_padding(size: int, kernel: int, stride: int, pads: tuple[int, int]) -> int:
    """Extra padding at the end that makes rounding down give what `ceil_mode` gives.

    The last window must start inside the input or its leading padding (PyTorch and ONNX Runtime agree).

    >>> ceil_padding(112, 3, 2, (0, 0))
    1
    """
    before, after = pads
    count = -((size + before + after - kernel) // -stride) + 1
    if (count - 1) * stride >= size + before:
        count -= 1
    return max(0, (count - 1) * stride + kernel - (size + before + after))


def _fail(node: Node, expected: str, shapes: Sequence[Shape]) -> GraphError:
    return GraphError(
        f"{node.op} {node.name!r}: expected {expected}, got inputs of shape {', '.join(map(str, shapes))}",
        hint="check that the input size suits the model",
    )


def _conv(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    data, weight = shapes[0], shapes[1]
    if len(data) != 4 or len(weight) != 4:
        raise _fail(node, "a two-dimensional convolution [N, C, H, W] * [O, I, kh, kw]", shapes)
    group = node.int("group")
    if data[1] != weight[1] * group or weight[0] % group:
        raise _fail(node, f"{weight[1] * group} input channels in {group} groups", shapes)
    if len(shapes) > 2 and shapes[2] != (weight[0],):
        raise _fail(node, f"a bias of {weight[0]}", shapes)
    top, left, bottom, right = node.ints("pads")
    strides, dilations = node.ints("strides"), node.ints("dilations")
    height = window_positions(data[2], weight[2], strides[0], top + bottom, dilations[0])
    width = window_positions(data[3], weight[3], strides[1], left + right, dilations[1])
    if height < 1 or width < 1:
        raise _fail(node, "an input at least as large as the kernel", shapes)
    return ((data[0], weight[0], height, width),)


def _pool(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    data = shapes[0]
    if len(data) != 4:
        raise _fail(node, "[N, C, H, W]", shapes)
    kernel, strides = node.ints("kernel_shape"), node.ints("strides")
    top, left, bottom, right = node.ints("pads")
    height = window_positions(data[2], kernel[0], strides[0], top + bottom)
    width = window_positions(data[3], kernel[1], strides[1], left + right)
    if height < 1 or width < 1:
        raise _fail(node, "an input at least as large as the window", shapes)
    return ((data[0], data[1], height, width),)


def _gemm(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    data, weight = shapes[0], shapes[1]
    if len(data) not in (2, TOKEN_RANK) or len(weight) != 2 or data[-1] != weight[1]:
        raise _fail(node, "[N, in] or [N, tokens, in] * [out, in]", shapes)
    if len(shapes) > 2 and shapes[2] != (weight[0],):
        raise _fail(node, f"a bias of {weight[0]}", shapes)
    return ((*data[:-1], weight[0]),)


def _matmul(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    first, second = shapes
    if len(first) != len(second) or len(first) < TOKEN_RANK or first[:-2] != second[:-2] or first[-1] != second[-2]:
        raise _fail(node, "matrices that multiply, as many in both", shapes)
    return ((*first[:-1], second[-1]),)


def _layer_norm(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    is_known = len(shapes[0]) in (2, TOKEN_RANK) and len(shapes) == 3
    if not is_known or any(shape != shapes[0][-1:] for shape in shapes[1:]):
        raise _fail(node, "[N, channels] or [N, tokens, channels], a scale and a shift of as many channels", shapes)
    return (shapes[0],)


def _attention(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    query, key, value = shapes
    fits = len(query) == TOKEN_RANK and key == value and key[0] == query[0] and key[2:] == query[2:]
    if not fits or query[2] % node.int("heads"):
        raise _fail(node, f"query, key and value [N, tokens, channels] of {node.int('heads')} heads", shapes)
    return (query,)


def _global_pool(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    if len(shapes[0]) != 4:
        raise _fail(node, "[N, C, H, W]", shapes)
    return ((*shapes[0][:2], 1, 1),)


def _flatten(_node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((shapes[0][0], math.prod(shapes[0][1:])),)


def _same(_node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    return (shapes[0],)


def _broadcast(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result: list[int] = []
    for sizes in zip(*padded, strict=True):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1:
            raise _fail(node, "shapes that broadcast", shapes)
        result.append(wide.pop() if wide else 1)
    return (tuple(result),)


def _concat(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    axis, first = node.int("axis"), shapes[0]
    rest = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
    if not 0 < axis < len(first) or len(rest) != 1:
        raise _fail(node, f"shapes that differ only along axis {axis}, which is not the batch", shapes)
    return ((*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :]),)


def _split(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    data, axis, sizes = shapes[0], node.int("axis"), node.ints("split")
    if not 0 < axis < len(data) or sum(sizes) != data[axis] or len(sizes) != len(node.outputs):
        raise _fail(node, f"an axis {axis} of {sum(sizes)} for {len(node.outputs)} outputs", shapes)
    return tuple((*data[:axis], size, *data[axis + 1 :]) for size in sizes)


def _slice(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    data, axis, start, end = shapes[0], node.int("axis"), node.int("start"), node.int("end")
    if not 0 < axis < len(data) or not 0 <= start < end <= data[axis]:
        raise _fail(node, f"an axis {axis}, not the batch, that holds {start}:{end}", shapes)
    return ((*data[:axis], end - start, *data[axis + 1 :]),)


def _shuffle(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    data, groups = shapes[0], node.int("groups")
    if len(data) != 4 or data[1] % groups:
        raise _fail(node, f"[N, C, H, W] with C a multiple of {groups}", shapes)
    return (data,)


def _reshape(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    target = node.ints("shape")
    if not target or target[0] != 1 or math.prod(target) != math.prod(shapes[0]):
        raise _fail(node, f"a shape that keeps the batch first and can become {target}", shapes)
    return (target,)


def _transpose(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    perm = node.ints("perm")
    if sorted(perm) != list(range(len(shapes[0]))) or perm[0] != 0:
        raise _fail(node, f"a shape that perm {perm} reorders, the batch staying first", shapes)
    return (tuple(shapes[0][axis] for axis in perm),)


def _pad(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    if len(shapes[0]) not in (4, TOKEN_RANK):
        raise _fail(node, "[N, C, H, W] or [N, tokens, channels]", shapes)
    top, left, bottom, right = node.ints("pads")
    *rest, height, width = shapes[0]
    return ((*rest, height + top + bottom, width + left + right),)


RULES: Mapping[str, Rule] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "BatchNormalization": _same,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "Flatten": _flatten,
    "Relu": _same,
    "Clip": _same,
    "Sigmoid": _same,
    "HardSwish": _same,
    "HardSigmoid": _same,
    "LRN": _same,
    "LayerNormalization": _layer_norm,
    "Gelu": _same,
    "Attention": _attention,
    "Erf": _same,
    "MatMul": _matmul,
    "Softmax": _same,
    "Add": _broadcast,
    "Mul": _broadcast,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "ChannelShuffle": _shuffle,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Pad": _pad,
}
"""One rule per canonical operator; and for what lives only until it is folded or fused: BatchNormalization, and Erf and
MatMul of two activations."""


def infer_shapes(node: Node, shapes: Mapping[str, Shape]) -> tuple[Shape, ...]:
    """Shapes of a node's outputs.

    Args:
        node: A canonical node (or a BatchNormalization that is still to be folded).
        shapes: Shapes of activations and constants by name; must hold all inputs of the node.

    Raises:
        UnsupportedOpError: The operator is not canonical.
        GraphError: The inputs do not fit; the message names the node and their shapes.
    """
    rule = RULES.get(node.op)
    if rule is None:
        raise UnsupportedOpError(
            f"operator {node.op} of node {node.name!r} is not supported; supported: {', '.join(sorted(RULES))}",
            hint="replace the layer by a supported one before exporting",
        )
    return rule(node, [shapes[name] for name in node.inputs])
