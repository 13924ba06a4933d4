from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.errors import UsageError
from edgekit.encode.container import MAGIC
from edgekit.encode.packing import find_tensors, pack
from edgekit.encode.pieces import Codebook, Copy, Ends, Integers, Numbers, Scaled
from edgekit.encode.unpacking import MemorySink, PieceBytes, unpack
from model_bytes import Quantized, onnx_bytes, tflite_bytes, typical_tensors

THIRD_PARTY_LIMITS = {
    "mobilenet_v2_1.0_224_quant.tflite": 2_790_000,
    "mobilenet_v1_0.75_192_quant.tflite": 1_830_000,
    "tf2_mobilenet_v2_1.0_224_ptq.tflite": 3_261_000,
    "vww_96_int8.tflite": 60_000,
}


def unpacked(packed: bytes) -> tuple[bytes, list[PieceBytes]]:
    sink = MemorySink()
    _, pieces = unpack(io.BytesIO(packed), len(packed), sink)
    return bytes(sink.content), pieces


@pytest.mark.parametrize("content", [b"", b"x", b"no model at all" * 50, bytes(range(256)) * 300])
def test_pack_round_trips_when_the_file_is_no_model(content: bytes) -> None:
    packed = pack(content)
    assert packed.kind == "unknown"
    assert packed.num_tensors == 0
    assert unpacked(packed.content)[0] == content


def test_pack_finds_a_description_for_every_kind_of_tensor() -> None:
    original = tflite_bytes(typical_tensors())
    packed = pack(original)
    restored, pieces = unpacked(packed.content)
    assert restored == original
    assert packed.kind == "tflite"
    kinds = {type(one.piece) for one in pieces}
    assert kinds == {Integers, Numbers, Codebook, Copy, Scaled, Ends}
    assert any(isinstance(one.piece, Integers) and one.piece.has_peaks for one in pieces)
    assert any(isinstance(one.piece, Numbers) and one.piece.pole is not None for one in pieces)
    assert len(packed.content) < len(original) / 2


def test_pack_predicts_scales_of_biases_in_no_space() -> None:
    pieces = unpacked(pack(tflite_bytes(typical_tensors())).content)[1]
    scaled = [one for one in pieces if isinstance(one.piece, Scaled)]
    assert scaled
    assert all(one.coded_bytes <= 8 for one in scaled)


elements = st.sampled_from(["i1", "u1", "i2", "i4", "i8", "f2", "f4", "f8"])
shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=12)


@given(st.lists(elements.flatmap(lambda kind: hnp.arrays(np.dtype(f"<{kind}"), shapes)), max_size=4))
def test_pack_round_trips_any_onnx_tensors(arrays: list[npt.NDArray[Any]]) -> None:
    original = onnx_bytes({f"t{index}": array for index, array in enumerate(arrays)})
    assert unpacked(pack(original).content)[0] == original


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 9, 40, 300]), st.sampled_from([1, 3, 9, 64]), st.floats(0, 60))
def test_pack_round_trips_weights_of_any_width(seed: int, rows: int, columns: int, width: float) -> None:
    generator = np.random.default_rng(seed)
    weights = np.clip(np.rint(generator.standard_t(3, (rows, columns)) * width), -128, 127).astype(np.int8)
    original = onnx_bytes({"w": weights, "transposed": np.ascontiguousarray(weights.T)})
    assert unpacked(pack(original).content)[0] == original


@given(st.binary(max_size=300), st.integers(0, 4000))
def test_pack_round_trips_models_with_bytes_overwritten(noise: bytes, place: int) -> None:
    original = bytearray(tflite_bytes(typical_tensors()))
    original[place : place + len(noise)] = noise
    assume(not original.startswith(MAGIC))  # which is refused, and hypothesis knows the constant
    assert unpacked(pack(bytes(original)).content)[0] == bytes(original)


@given(st.binary(max_size=200))
def test_find_tensors_survives_any_bytes(content: bytes) -> None:
    find_tensors(content)
    find_tensors(b"\x10\0\0\0TFL3" + content)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 5e-324])
def test_pack_round_trips_special_floats(value: float) -> None:
    floats = np.linspace(-1, 1, 600).astype(np.float32)
    floats[::7] = np.float32(value)
    original = onnx_bytes({"f": floats.reshape(20, 30), "all": np.full(64, value, dtype=np.float32)})
    assert unpacked(pack(original).content)[0] == original


def test_pack_tells_kernels_from_rows_when_kernels_are_pruned_together() -> None:
    generator = np.random.default_rng(8)
    share = generator.beta(0.3, 0.6, (48, 32, 1, 1))  # of a kernel that is kept
    pruned = np.where(generator.random((48, 32, 3, 3)) < share, generator.choice([-0.5, 0.25, 1.5], (48, 32, 3, 3)), 0)
    original = onnx_bytes({"w": pruned.astype(np.float32)})
    restored, pieces = unpacked(pack(original).content)
    assert restored == original
    (piece,) = [one.piece for one in pieces if isinstance(one.piece, Codebook)]
    assert (piece.mask or piece.grid).columns == 9


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["<i1", "<i2", "<i4"]),
    st.integers(1, 40),
    st.floats(0, 1),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_pack_round_trips_integers_of_few_values(
    seed: int, dtype: str, num_values: int, density: float, shape: tuple[int, int]
) -> None:
    generator = np.random.default_rng(seed)
    limits = np.iinfo(np.dtype(dtype))
    values = generator.integers(limits.min, limits.max, num_values, endpoint=True)
    shared = np.where(generator.random(shape) < density, generator.choice(values, shape), 0).astype(dtype)
    original = onnx_bytes({"w": shared})
    assert unpacked(pack(original).content)[0] == original


def test_pack_spends_nothing_on_values_that_shared_weights_leave_out() -> None:
    generator = np.random.default_rng(5)
    values = np.array([-127, -60, -31, -12, 14, 37, 58, 121], dtype=np.int8)
    weights = np.where(generator.random((300, 400)) < 0.1, generator.choice(values, (300, 400)), 0).astype(np.int8)
    original = onnx_bytes({"w": weights})
    content = pack(original).content
    restored, pieces = unpacked(content)
    assert restored == original
    (piece,) = [one.piece for one in pieces if isinstance(one.piece, Codebook)]
    assert piece.is_integer
    entropy = 120_000 * (0.1 * np.log2(10) + 0.9 * np.log2(1 / 0.9) + 0.1 * 3) / 8
    assert len(content) < 1.05 * entropy


@given(st.integers(0, 2**32 - 1), st.integers(9, 70), st.integers(2, 60), st.floats(0, 30))
def test_pack_round_trips_rows_that_were_scaled_to_their_largest(
    seed: int, rows: int, columns: int, width: float
) -> None:
    generator = np.random.default_rng(seed)
    floats = generator.standard_t(3, (rows, columns)) * width
    scales = (np.abs(floats).max(axis=1) / 127 + 1e-9).astype(np.float32)
    weights = np.clip(np.rint(floats / scales[:, None]), -127, 127).astype(np.int8)
    minima, maxima = floats.min(axis=1).astype(np.float32), floats.max(axis=1).astype(np.float32)
    original = tflite_bytes({"w": Quantized(weights, scales, minima, maxima)})
    assert unpacked(pack(original).content)[0] == original


@given(
    st.lists(st.sampled_from([0, 5, -900, 2**30, -(2**30), 2**30 + 64, 64 - 2**30, 2**31 - 1, -(2**31)]), min_size=9)
)
def test_pack_round_trips_biases_that_were_cut_off(biases: list[int]) -> None:
    original = onnx_bytes({"b": np.array(biases * 4, dtype=np.int64).astype(np.int32)})
    assert unpacked(pack(original).content)[0] == original


def test_pack_cuts_tensors_that_are_larger_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.encode.packing.MAX_ELEMENTS", 1000)
    monkeypatch.setattr("edgekit.encode.packing._CHAIN_SYMBOLS", 2500)
    weights = np.random.default_rng(3).integers(-9, 9, (50, 90)).astype(np.int8)
    original = onnx_bytes({"w": weights, "long": weights.reshape(1, -1)})
    restored, pieces = unpacked(pack(original).content)
    assert restored == original
    assert len(pieces) >= 6


def test_pack_refuses_a_packed_file() -> None:
    with pytest.raises(UsageError, match="already"):
        pack(pack(b"abc").content)


@pytest.mark.slow
@pytest.mark.parametrize("name", THIRD_PARTY_LIMITS)
def test_pack_reaches_its_size_on_third_party_files(name: str, repository: Path) -> None:
    path = repository.parent / "shared" / "data" / "models" / name
    if not path.is_file():
        pytest.skip("no ../shared/data")
    original = path.read_bytes()
    packed = pack(original).content
    assert len(packed) <= THIRD_PARTY_LIMITS[name]
    assert unpacked(packed)[0] == original
