"""Where the constant tensors of a model file lie in its bytes."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

Element: TypeAlias = Literal["i4", "u8", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64"]

Role: TypeAlias = Literal["tensor", "scale", "minimum", "maximum"]

ELEMENT_BITS: dict[Element, int] = {
    "i4": 4,
    "u8": 8,
    "i8": 8,
    "i16": 16,
    "i32": 32,
    "i64": 64,
    "f16": 16,
    "bf16": 16,
    "f32": 32,
    "f64": 64,
}
MIN_BYTES = 32
"""Shorter ones stay in the residue: a description would cost more than it saves."""

_LARGEST_KERNEL = 64


class TensorBytes(msgspec.Struct, frozen=True):
    """Constant numbers in a file.

    Args:
        name: Tensor name, for people; of a quantization parameter, the tensor's.
        role: "tensor", or "scale", "minimum", "maximum" of one.
        element: Type of the numbers, little-endian.
        shape: Axes; their product is the number of elements.
        offset: First byte in the file.
        length: Bytes.
        zero: The number that stands for 0.0 (the first, where there is one for each channel).
    """

    name: str
    role: Role
    element: Element
    shape: tuple[int, ...]
    offset: int
    length: int
    zero: int = 0

    @property
    def num_elements(self) -> int:
        """Elements, from the bytes."""
        return self.length * 8 // ELEMENT_BITS[self.element]


def arranged(tensors: list[TensorBytes], size_bytes: int) -> list[TensorBytes]:
    """Sorted by offset, without those that are short, overlap another or reach beyond the file."""
    kept: list[TensorBytes] = []
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, -tensor.length)):
        fits = tensor.offset >= end and tensor.offset + tensor.length <= size_bytes
        if fits and tensor.length >= MIN_BYTES and tensor.length * 8 % ELEMENT_BITS[tensor.element] == 0:
            kept.append(tensor)
            end = tensor.offset + tensor.length
    return kept


def matrix_shape(tensor: TensorBytes) -> tuple[int, int]:
    """The tensor as [outer, inner] in the file's own order, so that channels are one of the two axes.

    Depthwise kernels of TFLite ([1, height, width, channels]) and the like have them last, others first. Of an odd
    number of 4-bit elements, the half byte of padding is in no row.
    """
    shape = tensor.shape
    count = tensor.num_elements
    product = 1
    for size in shape:
        product *= size
    is_padded = tensor.element == "i4" and product % 2 == 1 and product + 1 == count
    if len(shape) < 2 or (product != count and not is_padded) or min(shape) <= 0:
        return 1, count
    first = shape[0]
    if first == 1:
        return product // shape[-1], shape[-1]
    return first, product // first


class Cut(msgspec.Struct, frozen=True):
    """Consecutive elements of a tensor, as a matrix in the file's order.

    Args:
        offset: First byte in the file.
        length: Bytes.
        outer: Rows.
        inner: Columns.
        kernel: Elements of a kernel, which follow each other within a row; 1 where there are no kernels.
    """

    offset: int
    length: int
    outer: int
    inner: int
    kernel: int = 1


def pieces_of(tensor: TensorBytes, most: int) -> list[Cut]:
    """Cut a tensor into matrices of at most `most` elements."""
    outer, inner = matrix_shape(tensor)
    bits, count = ELEMENT_BITS[tensor.element], tensor.num_elements
    kernel = _kernel(tensor, inner)
    padding = count - outer * inner
    whole = outer - padding  # the row before a half byte of padding makes a sequence with it
    height = max(1, most // inner)
    height -= height % 2 if height > 1 else 0  # whole bytes, where two elements share one
    shapes = [(min(height, whole - start), inner) for start in range(0, whole, height)]
    shapes += [(1, inner + padding)] if padding else []
    if inner + padding > most or any(rows * columns * bits % 8 for rows, columns in shapes):
        # rows that are longer than a piece, or end within a byte: as a sequence
        shapes = [(1, min(most, count - start)) for start in range(0, count, most)]
    cuts: list[Cut] = []
    offset = tensor.offset
    for rows, columns in shapes:
        length = rows * columns * bits // 8
        cuts.append(Cut(offset, length, rows, columns, kernel if columns == inner else 1))
        offset += length
    return cuts


def _kernel(tensor: TensorBytes, inner: int) -> int:
    """ONNX has kernels last, [out, in, height, width]."""
    if len(tensor.shape) != 4:
        return 1
    kernel = tensor.shape[2] * tensor.shape[3]
    return kernel if 1 < kernel <= _LARGEST_KERNEL and inner % kernel == 0 else 1


def elements(content: bytes, element: Element) -> npt.NDArray[Any]:
    """The numbers in some bytes; of bfloat16, which numpy lacks, the bit patterns."""
    bits = ELEMENT_BITS[element]
    if bits == 4:
        packed = np.frombuffer(content, dtype=np.uint8)
        return ((np.stack([packed & 15, packed >> 4], axis=1).ravel().astype(np.int8) + 8) & 15) - 8
    form = f"<u{bits // 8}" if element in {"u8", "bf16"} else f"<{element[0]}{bits // 8}"
    return np.frombuffer(content, dtype=form)
