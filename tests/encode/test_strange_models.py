"""Files that are valid and unlike most: external buffers, sparse tensors, nothing in them, bits that are no number."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit.encode.packing import Packed, pack
from edgekit.encode.unpacking import MemorySink, unpack
from model_bytes import Quantized, onnx_bytes, tflite_bytes, typical_tensors

WEIGHTS = np.clip(np.rint(np.random.default_rng(0).normal(0, 9, (64, 64))), -127, 127).astype(np.int8)


def packed_and_back(original: bytes) -> Packed:
    packed = pack(original)
    sink = MemorySink()
    unpack(io.BytesIO(packed.content), len(packed.content), sink)
    assert bytes(sink.content) == original
    return packed


def with_external_buffer(offset: int | None, size: int) -> bytes:
    """A TFLite file whose weights lie behind the flatbuffer, or say that they lie somewhere else."""
    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite_bytes({"w": WEIGHTS}), 0))
    buffer = model.buffers[1]
    buffer.data, buffer.offset, buffer.size = None, 1 << 20, size
    length = len(_built(model))
    buffer.offset = length if offset is None else offset
    content = _built(model)
    assert len(content) == length
    return content + WEIGHTS.tobytes()


def _built(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_pack_codes_weights_that_lie_behind_the_flatbuffer() -> None:
    original = with_external_buffer(None, WEIGHTS.size)
    packed = packed_and_back(original)
    assert packed.num_coded == 1
    assert len(packed.content) < 0.75 * len(original)


@pytest.mark.parametrize("offset", [1 << 31, (1 << 63) - 1, (1 << 64) - 1, 10_000])
@pytest.mark.parametrize("size", [4096, (1 << 64) - 1])
def test_pack_leaves_buffers_alone_that_point_outside(offset: int, size: int) -> None:
    packed = packed_and_back(with_external_buffer(offset, size))
    assert packed.kind == "tflite"
    assert packed.num_coded == 0


def test_pack_codes_what_is_left_of_a_sparse_tflite_tensor() -> None:
    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite_bytes({"w": WEIGHTS}), 0))
    tensor = model.subgraphs[0].tensors[0]
    tensor.shape = [64, 256]  # of which the buffer holds a quarter
    tensor.sparsity = schema.SparsityParametersT()
    tensor.sparsity.traversalOrder = [0, 1]
    dense, sparse = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    dense.format, dense.denseSize, sparse.format = schema.DimensionType.DENSE, 64, schema.DimensionType.SPARSE_CSR
    tensor.sparsity.dimMetadata = [dense, sparse]
    assert packed_and_back(_built(model)).num_coded == 1


def test_pack_codes_values_and_indices_of_a_sparse_onnx_tensor() -> None:
    indices = np.flatnonzero(np.random.default_rng(1).random(9000) < 0.3).astype(np.int64)
    values = onnx.numpy_helper.from_array(np.resize(WEIGHTS, indices.size), "w")
    sparse = onnx.helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(indices, "i"), [90, 100])
    graph = onnx.helper.make_graph([], "g", [], [], sparse_initializer=[sparse])
    packed = packed_and_back(onnx.helper.make_model(graph).SerializeToString())
    assert packed.num_coded == 2


def test_pack_of_an_onnx_file_with_external_data_is_the_file_without_them(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(WEIGHTS, "w")])
    path = tmp_path / "model.onnx"
    model = onnx.helper.make_model(graph)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size >= WEIGHTS.size
    packed = packed_and_back(path.read_bytes())
    assert packed.num_coded == 0


@pytest.mark.parametrize("kind", ["<u2", "<u4", "<u8"])
@pytest.mark.parametrize("num_patterns", [3, 4000])
def test_every_bit_of_a_nan_survives(kind: str, num_patterns: int) -> None:
    bits = np.dtype(kind).itemsize * 8
    exponents = {16: 0x7C00, 32: 0x7F800000, 64: 0x7FF << 52}[bits]
    generator = np.random.default_rng(2)
    patterns = generator.integers(0, 1 << (bits - 1), num_patterns, dtype=np.uint64) | exponents | 1
    patterns |= generator.integers(0, 2, num_patterns, dtype=np.uint64) << np.uint64(bits - 1)
    floats = generator.choice(patterns, (50, 80)).astype(kind).view(f"<f{bits // 8}")
    assert np.isnan(floats).all()
    packed_and_back(onnx_bytes({"w": floats, "b": floats[0]}))


def test_scales_that_are_no_numbers_survive() -> None:
    scales = np.full(64, np.nan, dtype=np.float32)
    scales[::3] = [np.inf, -np.inf, 0.0, -0.0, -1.0, 1e38, 1e-45, 5.0, 2.0, 1.0, 0.5] * 2
    minima = np.where(np.arange(64) % 2, scales * np.float32(3), np.float32(-7)).astype(np.float32)
    peaked = WEIGHTS.copy()
    peaked[:, 5] = 127
    packed_and_back(tflite_bytes({"w": Quantized(peaked, scales, minima, -minima)}))


@pytest.mark.parametrize("content", [tflite_bytes({}), onnx_bytes({}), b"\x08\x08", b"TFL3", b"\x08\0\0\0TFL3"])
def test_pack_of_a_model_without_tensors(content: bytes) -> None:
    assert packed_and_back(content).num_coded == 0


def test_pack_of_the_first_half_of_a_model() -> None:
    original = tflite_bytes(typical_tensors())
    packed_and_back(original[: len(original) // 2])


@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 1, 1, 1), (1, 2, 2, 1), (2, 2)])
@pytest.mark.parametrize("kind", ["i1", "u1", "i4", "f4", "f8"])
def test_pack_of_layers_with_4_weights(shape: tuple[int, ...], kind: str) -> None:
    weights = np.array([3, 127, 1, 0]).astype(f"<{kind}").reshape(shape)
    scales = np.full(shape[0], 0.5, dtype=np.float32)
    packed_and_back(onnx_bytes({f"w{index}": weights for index in range(5)}))
    packed_and_back(tflite_bytes({f"w{index}": Quantized(weights, scales, -scales, scales) for index in range(5)}))
