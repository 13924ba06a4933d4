"""Constant tensors of a .tflite file, found with a small bounds-checked flatbuffer reader.

The schema (schema.fbs of TFLite) is read by field number. Whatever does not fit is no tensor: the packer never fails on
a strange file, it only packs less of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from edgekit.encode.tensors import Element, Role, TensorBytes

IDENTIFIER = b"TFL3"

_ELEMENTS: dict[int, Element] = {
    0: "f32",
    1: "f16",
    2: "i32",
    3: "u8",
    4: "i64",
    7: "i16",
    9: "i8",
    10: "f64",
    12: "i64",
    15: "i32",
    16: "i16",
    17: "i4",
    18: "bf16",
}
_MOST_ENTRIES = 1 << 20
_PARAMETERS: dict[Role, int] = {"minimum": 0, "maximum": 1, "scale": 2}


class _OutOfBoundsError(Exception):
    """An offset that leads out of the file."""


class _Table:
    """A flatbuffer table."""

    def __init__(self, content: memoryview, position: int) -> None:
        self._content = content
        self._position = position
        self._vtable = position - _number("<i", content, position)
        self._vtable_bytes = _number("<H", content, self._vtable)

    def scalar(self, field: int, form: str, default: int) -> int:
        """A number that is stored in the table."""
        position = self._field(field)
        return default if position is None else _number(form, self._content, position)

    def table(self, field: int) -> _Table | None:
        """A table that is referred to."""
        position = self._field(field)
        return None if position is None else _Table(self._content, self._follow(position))

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """Position and number of items of a vector; 0 items when it is absent."""
        position = self._field(field)
        if position is None:
            return 0, 0
        start = self._follow(position)
        count = _number("<I", self._content, start)
        if start + 4 + count * item_bytes > len(self._content):
            raise _OutOfBoundsError
        return start + 4, count

    def tables(self, field: int) -> Iterator[_Table]:
        """The tables of a vector."""
        start, count = self.vector(field, 4)
        for index in range(min(count, _MOST_ENTRIES)):
            position = start + 4 * index
            yield _Table(self._content, position + _number("<I", self._content, position))

    def _follow(self, position: int) -> int:
        return position + _number("<I", self._content, position)

    def _field(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry + 2 > self._vtable_bytes:
            return None
        offset = _number("<H", self._content, self._vtable + entry)
        return self._position + offset if offset else None


def is_tflite(content: memoryview) -> bool:
    """Whether the bytes say they are a TFLite model."""
    return bytes(content[4:8]) == IDENTIFIER


def find_tensors(content: memoryview) -> list[TensorBytes]:
    """Constant tensors and the vectors of their quantization parameters; empty when the file cannot be followed."""
    try:
        model = _Table(content, _number("<I", content, 0))
        buffers = [_buffer(content, table) for table in model.tables(4)]
        return [found for graph in model.tables(2) for found in _tensors_of(content, graph, buffers)]
    except _OutOfBoundsError:
        return []


def _tensors_of(content: memoryview, graph: _Table, buffers: list[tuple[int, int]]) -> Iterator[TensorBytes]:
    for tensor in graph.tables(0):
        name = _text(content, tensor)
        start, rank = tensor.vector(0, 4)
        shape = struct.unpack_from(f"<{rank}i", content, start) if rank <= 8 else ()
        element = _ELEMENTS.get(tensor.scalar(1, "<b", 0))
        buffer = tensor.scalar(2, "<I", 0)
        quantization = tensor.table(4)
        if element is not None and 0 < buffer < len(buffers) and buffers[buffer][1]:
            offset, length = buffers[buffer]
            yield TensorBytes(name, "tensor", element, shape, offset, length, _zero(content, quantization))
        if quantization is not None:
            for role, field in _PARAMETERS.items():
                start, count = quantization.vector(field, 4)
                yield TensorBytes(name, role, "f32", (count,), start, 4 * count)


def _zero(content: memoryview, quantization: _Table | None) -> int:
    start, count = quantization.vector(3, 8) if quantization is not None else (0, 0)
    return _number("<q", content, start) if count else 0


def _buffer(content: memoryview, table: _Table) -> tuple[int, int]:
    """Offset and length of a buffer's bytes, also when they lie behind the flatbuffer."""
    offset, length = table.vector(0, 1)
    if length == 0:
        offset, length = table.scalar(1, "<Q", 0), table.scalar(2, "<Q", 0)
    return (offset, length) if offset > 1 and offset + length <= len(content) else (0, 0)


def _text(content: memoryview, tensor: _Table) -> str:
    start, length = tensor.vector(3, 1)
    return bytes(content[start : start + min(length, 4096)]).decode(errors="replace")


def _number(form: str, content: memoryview, position: int) -> int:
    if not 0 <= position <= len(content) - struct.calcsize(form):
        raise _OutOfBoundsError
    return struct.unpack_from(form, content, position)[0]
