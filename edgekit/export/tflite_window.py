"""Explicit padding of a sliding window -> TFLite's SAME, VALID, or a PAD operator before it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.graph import Node
from edgekit.export.tflite_lowering import Lowering, Value
from edgekit.export.tflite_versions import Op

PadWith: TypeAlias = Literal["zero", "lowest"]


class WindowAxis(msgspec.Struct, frozen=True, kw_only=True):
    """A window sliding along one axis.

    Args:
        in_size: Input length.
        out_size: Output length.
        kernel: Window length, dilation included.
        stride: Step.
        before: Padding before the first element.
    """

    in_size: int
    out_size: int
    kernel: int
    stride: int
    before: int

    @property
    def after(self) -> int:
        """Padding after the last element that the windows really touch (ONNX may state more, which is never read)."""
        reach = (self.out_size - 1) * self.stride + self.kernel
        return max(reach - self.in_size - self.before, 0)

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements of the input in each window."""
        starts = range(-self.before, self.out_size * self.stride - self.before, self.stride)
        return tuple(min(start + self.kernel, self.in_size) - max(start, 0) for start in starts)

    @property
    def is_valid(self) -> bool:
        """Whether TFLite's VALID slides the same windows."""
        return self.before == 0 and self.after == 0 and self.out_size == (self.in_size - self.kernel) // self.stride + 1

    @property
    def is_same(self) -> bool:
        """Whether TFLite's SAME slides the same windows."""
        if self.out_size != -(-self.in_size // self.stride):
            return False
        total = max((self.out_size - 1) * self.stride + self.kernel - self.in_size, 0)
        return self.before == total // 2


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A window sliding over a map."""

    height: WindowAxis
    width: WindowAxis

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Padding that the windows really touch: top, left, bottom, right."""
        return (self.height.before, self.width.before, self.height.after, self.width.after)

    @property
    def area(self) -> int:
        """Positions in the window."""
        return self.height.kernel * self.width.kernel

    @property
    def covers_map(self) -> bool:
        """Whether one window covers the whole map, without padding."""
        sizes = (self.height.in_size, self.width.in_size)
        return not any(self.pads) and sizes == (self.height.kernel, self.width.kernel)

    @property
    def padding(self) -> int | None:
        """TFLite `Padding` that does it, None if neither does."""
        if self.height.is_valid and self.width.is_valid:
            return int(schema.Padding.VALID)
        return int(schema.Padding.SAME) if self.height.is_same and self.width.is_same else None


def window_of(lowering: Lowering, node: Node, kernel: tuple[int, ...]) -> Window:
    """The window of a Conv or a pool."""
    in_shape, out_shape = lowering.graph.shapes[node.inputs[0]], lowering.graph.shapes[node.output]
    strides, pads = node.ints("strides"), node.ints("pads")
    dilations = node.ints("dilations") if "dilations" in node.attrs else (1, 1)
    height, width = (
        WindowAxis(
            in_size=in_shape[2 + axis],
            out_size=out_shape[2 + axis],
            kernel=(kernel[axis] - 1) * dilations[axis] + 1,
            stride=strides[axis],
            before=pads[axis],
        )
        for axis in (0, 1)
    )
    return Window(height=height, width=width)


def slide(lowering: Lowering, node: Node, window: Window, *, pad_with: PadWith = "zero") -> tuple[Value, int]:
    """The input of a windowed operator and the `Padding` to give it, with a PAD operator written where neither fits."""
    x = lowering.plain(node.inputs[0])
    if window.padding is not None:
        return x, window.padding
    return pad_map(lowering, x, window.pads, f"{node.name}/pad", pad_with=pad_with), int(schema.Padding.VALID)


def pad_map(
    lowering: Lowering, x: Value, pads: tuple[int, int, int, int], name: str, *, pad_with: PadWith = "zero"
) -> Value:
    """PAD an NHWC tensor by (top, left, bottom, right); int8 pads with the zero-point, which is real zero."""
    top, left, bottom, right = pads
    if not any(pads):
        return x
    batch, height, width, channels = x.dims
    padded = lowering.declare(name, (batch, height + top + bottom, width + left + right, channels), x.params)
    amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    paddings = lowering.builder.add_index_constant(f"{name}/paddings", amounts)
    if pad_with == "zero":
        lowering.emit(Op.PAD, [x.index, paddings], [padded], schema.PadOptionsT())
        return padded
    limits = np.iinfo(np.int8) if x.params is not None else np.finfo(np.float32)
    lowest = np.full(1, limits.min, lowering.dtype)
    index = lowering.builder.add_constant(f"{name}/value", lowest, x.params)
    lowering.emit(Op.PADV2, [x.index, paddings, index], [padded], schema.PadV2OptionsT())
    return padded
