"""Constant tensors of an .onnx file, found by walking the protocol-buffer fields; the device side has no onnx.

Only `raw_data` and packed `float_data`/`double_data` are numbers that lie in the file as they are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.encode.tensors import Element, TensorBytes

_ELEMENTS: dict[int, Element] = {
    1: "f32",
    2: "u8",
    3: "i8",
    4: "i16",
    5: "i16",
    6: "i32",
    7: "i64",
    10: "f16",
    11: "f64",
    12: "i32",
    13: "i64",
    16: "bf16",
    21: "i4",
    22: "i4",
}
_MOST_DEPTH = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# field numbers of onnx.proto
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_FUNCTION_NODE = 7
_DIMS, _DATA_TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 1, 2, 4, 8, 9, 10

_Field = tuple[int, int, int, int]


class _MalformedError(Exception):
    """Bytes that are no protocol buffer."""


def find_tensors(content: memoryview) -> list[TensorBytes]:
    """Initializers and tensor attributes, also of subgraphs; empty when the bytes are no ONNX model."""
    found: list[TensorBytes] = []
    try:
        for number, kind, start, end in _fields(content, 0, len(content)):
            if number == _MODEL_GRAPH and kind == _BYTES:
                found += _graph(content, start, end, 0)
            elif number == _MODEL_FUNCTIONS and kind == _BYTES:
                found += _nodes(content, (start, end), _FUNCTION_NODE, 0)
    except _MalformedError:
        return []
    return found


def _graph(content: memoryview, begin: int, end: int, depth: int) -> Iterator[TensorBytes]:
    if depth > _MOST_DEPTH:
        return
    yield from _nodes(content, (begin, end), _GRAPH_NODE, depth)
    for number, kind, start, stop in _fields(content, begin, end):
        if kind != _BYTES:
            continue
        if number == _GRAPH_INITIALIZER:
            yield from _tensor(content, start, stop)
        elif number == _GRAPH_SPARSE:
            for part, part_kind, inner, last in _fields(content, start, stop):
                if part in {_SPARSE_VALUES, _SPARSE_INDICES} and part_kind == _BYTES:
                    yield from _tensor(content, inner, last)


def _nodes(content: memoryview, span: tuple[int, int], node_field: int, depth: int) -> Iterator[TensorBytes]:
    for number, kind, start, stop in _fields(content, *span):
        if number != node_field or kind != _BYTES:
            continue
        for part, part_kind, inner, last in _fields(content, start, stop):
            if part == _NODE_ATTRIBUTE and part_kind == _BYTES:
                yield from _attribute(content, inner, last, depth)


def _attribute(content: memoryview, begin: int, end: int, depth: int) -> Iterator[TensorBytes]:
    for number, kind, start, stop in _fields(content, begin, end):
        if kind != _BYTES:
            continue
        if number in {_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS}:
            yield from _tensor(content, start, stop)
        elif number in {_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS}:
            yield from _graph(content, start, stop, depth + 1)


def _tensor(content: memoryview, begin: int, end: int) -> Iterator[TensorBytes]:
    dims: list[int] = []
    name = ""
    data_type = 0
    payload: tuple[int, int] | None = None
    for number, kind, start, stop in _fields(content, begin, end):
        if number == _DIMS:
            dims += _varints(content, kind, start, stop)
        elif number == _DATA_TYPE and kind == _VARINT:
            data_type = start
        elif number == _NAME and kind == _BYTES:
            name = bytes(content[start : min(stop, start + 4096)]).decode(errors="replace")
        elif number in {_RAW, _FLOATS, _DOUBLES} and kind == _BYTES:
            payload = (start, stop)
    element = _ELEMENTS.get(data_type)
    if payload is not None and element is not None:
        yield TensorBytes(name, "tensor", element, tuple(dims), payload[0], payload[1] - payload[0])


def _varints(content: memoryview, kind: int, start: int, stop: int) -> Iterator[int]:
    if kind == _VARINT:
        yield start
        return
    while kind == _BYTES and start < stop:
        value, start = _varint(content, start, stop)
        yield value


def _fields(content: memoryview, begin: int, end: int) -> Iterator[_Field]:
    """Number, kind, start and stop of every field; of a varint, `start` is its value."""
    position = begin
    while position < end:
        key, position = _varint(content, position, end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(content, position, end)
            yield number, kind, value, position
            continue
        if kind == _BYTES:
            length, position = _varint(content, position, end)
        elif kind in {_FIXED32, _FIXED64}:
            length = 4 if kind == _FIXED32 else 8
        else:
            raise _MalformedError
        if position + length > end:
            raise _MalformedError
        yield number, kind, position, position + length
        position += length


def _varint(content: memoryview, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise _MalformedError
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _MalformedError
