"""Small model files made by hand: ONNX as protocol-buffer fields, TFLite through the schema bindings."""

from __future__ import annotations

from typing import Any, NamedTuple

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

Array = npt.NDArray[Any]

ONNX_TYPES = {"f4": 1, "u1": 2, "i1": 3, "i2": 5, "i4": 6, "i8": 7, "f2": 10, "f8": 11}
TFLITE_TYPES = {"f4": 0, "f2": 1, "i4": 2, "u1": 3, "i8": 4, "i2": 7, "i1": 9, "f8": 10}


class Quantized(NamedTuple):
    """A tensor with its quantization parameters."""

    values: Array
    scales: Array
    minima: Array | None = None
    maxima: Array | None = None


def onnx_bytes(tensors: dict[str, Array]) -> bytes:
    """A model whose graph holds these initializers and nothing else."""
    graph = b"".join(_field(5, _tensor(name, array)) for name, array in tensors.items())
    return _varint_field(1, 8) + _field(7, graph)


def tflite_bytes(tensors: dict[str, Array | Quantized]) -> bytes:
    """A model whose one subgraph holds these tensors and no operator."""
    model: Any = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph: Any = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [], [], [], []
    for name, one in tensors.items():
        array = one.values if isinstance(one, Quantized) else one
        buffer: Any = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), dtype=np.uint8)
        tensor: Any = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(array.shape), TFLITE_TYPES[array.dtype.str[1:]]
        tensor.buffer = len(model.buffers)
        if isinstance(one, Quantized):
            quantization: Any = schema.QuantizationParametersT()
            quantization.scale, quantization.min, quantization.max = one.scales, one.minima, one.maxima
            quantization.zeroPoint = np.zeros(one.scales.size, dtype=np.int64)
            tensor.quantization = quantization
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
    model.subgraphs = [graph]
    model.operatorCodes = []
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def typical_tensors(seed: int = 0) -> dict[str, Array | Quantized]:
    """One of each kind that the packer knows."""
    generator = np.random.default_rng(seed)
    rows = generator.uniform(3, 30, (24, 1)) * generator.uniform(0.5, 2, (1, 36))
    weights = np.clip(np.rint(generator.laplace(0, rows)), -127, 127).astype(np.int8)
    weights[:, 0] = 127
    scales = generator.uniform(0.001, 0.02, 24).astype(np.float32)
    maxima = (scales * np.float32(127)).astype(np.float32)
    minima = (scales * (weights.min(axis=1) + 0.3)).astype(np.float32)
    smooth = np.cumsum(generator.normal(0, 12, (9, 40)), axis=0)
    kernels = np.clip(np.rint(smooth), -127, 127).astype(np.int8)
    codes = np.array([0.0, -0.5, 0.25, 0.75, 1.5], dtype=np.float32)
    pruned = codes[np.where(generator.random((20, 30)) < 0.7, 0, generator.integers(1, 5, (20, 30)))]
    biases = generator.normal(0, 3000, 24).astype(np.int32)
    cut_off = np.where(np.arange(40) % 3 == 0, biases.repeat(2)[:40], 2**30 + 64 * generator.integers(-2, 3, 40))
    tall = np.clip(np.rint(generator.normal(0, 40, (64, 12))), -120, 120).astype(np.int8)
    tall[np.arange(64), generator.integers(0, 12, 64)] = generator.choice([-127, 127], 64)
    few = np.array([-115, -60, -31, 14, 37, 90], dtype=np.int8)
    shared = np.where(generator.random((30, 40)) < 0.2, few[generator.integers(0, few.size, (30, 40))], np.int8(0))
    return {
        "shared": shared,
        "weights": Quantized(weights, scales, minima, maxima),
        "kernels": kernels.reshape(1, 3, 3, 40),
        "biases": Quantized(biases, (scales * np.float32(0.0235)).astype(np.float32)),
        "codes": pruned,
        "floats": generator.normal(0, 0.1, 64).astype(np.float32),
        "again": biases,
        "scaled to the largest": tall,
        "cut off": (cut_off * generator.choice([-1, 1], 40)).astype(np.int32),
    }


def _tensor(name: str, array: Array) -> bytes:
    dims = b"".join(_varint_field(1, size) for size in array.shape)
    kind = _varint_field(2, ONNX_TYPES[array.dtype.str[1:]])
    return dims + kind + _field(8, name.encode()) + _field(9, array.tobytes())


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
