"""Description of a model's input and output tensors, whatever runtime holds them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError

Layout: TypeAlias = Literal["NCHW", "NHWC"]

TensorType: TypeAlias = Literal["float32", "float16", "int8", "uint8"]

SUPPORTED_DTYPES: tuple[TensorType, ...] = ("float32", "float16", "int8", "uint8")


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output.

    Args:
        name: Name in the file.
        shape: Sizes for one picture, batch first and 1.
        dtype: Element type in the file.
        layout: Order of the dimensions of a rank-4 tensor; None for every other rank.
        scale: Of the grid; None when the tensor is not quantized.
        zero_point: Of the grid; None when the tensor is not quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: TensorType
    layout: Layout | None = None
    scale: float | None = None
    zero_point: int | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image tensor.

        Raises:
            GraphError: The tensor has no layout, so it takes no pictures.
        """
        if self.layout is None:
            raise GraphError(f"tensor {self.name!r} of shape {self.shape} takes no pictures: expected rank 4")
        if self.layout == "NHWC":
            return (self.shape[1], self.shape[2], self.shape[3])
        return (self.shape[2], self.shape[3], self.shape[1])

    def dequantize(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Real values of this tensor's elements: `scale * (q - zero_point)`, or just float32 when not quantized."""
        if self.scale is None or self.zero_point is None:
            return values.astype(np.float32)
        steps = values.astype(np.int32) - self.zero_point
        return steps.astype(np.float32) * np.float32(self.scale)


def supported_dtype(name: str, tensor: str, file: str) -> TensorType:
    """Check an element type's numpy name.

    Raises:
        GraphError: No type that pictures or logits can have here; names tensor and file.
    """
    if name not in SUPPORTED_DTYPES:
        expected = ", ".join(SUPPORTED_DTYPES)
        raise GraphError(f"{file}: tensor {tensor!r} is {name}, expected one of {expected}")
    return name


def guess_layout(shape: tuple[int, ...], preferred: Layout) -> Layout | None:
    """Tell the layout from where 1 or 3 channels stand; `preferred` where both or neither could be.

    >>> guess_layout((1, 3, 224, 224), preferred="NHWC")
    'NCHW'
    """
    if len(shape) != 4:
        return None
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        return preferred
    return "NCHW" if first else "NHWC"
