# ruff: noqa: N802 - the names are those of NNCodec

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgekit.encode.packing import find_tensors
from model_bytes import tflite_bytes, typical_tensors
from nncodec_yardstick import (
    at_equal_error,
    at_equal_errors,
    compare_integers,
    integer_tensors,
    onnx_of,
    squared_error,
)
from peer_jobs import do


@pytest.mark.parametrize("is_per_channel", [True, False])
@pytest.mark.parametrize("share", [1e-3, 1e-2, 0.1])
def test_at_equal_error_reaches_the_error(is_per_channel: bool, share: float) -> None:
    weights = np.random.default_rng(0).normal(0, 0.1, (16, 8, 3, 3)).astype(np.float32)
    wanted = share * squared_error(weights, 0 * weights)
    integers, scales = at_equal_error(weights, wanted, is_per_channel=is_per_channel)
    assert squared_error(integers * scales, weights) == pytest.approx(wanted, rel=0.05)
    assert scales.shape == ((16, 1, 1, 1) if is_per_channel else (1, 1, 1, 1))


def test_at_equal_errors_counts_tensors_that_8_bits_do_not_reach() -> None:
    tensors = {"a": np.random.default_rng(1).normal(0, 1, (8, 50)).astype(np.float32)}
    content, error, num_beyond = at_equal_errors(tensors, {"a": 1e-6}, is_per_channel=True)
    assert num_beyond == 1
    assert error > 1e-6
    assert {tensor.name for tensor in find_tensors(content)[1]} == {"a", "a.scale"}


def test_integer_tensors_are_the_matrices_of_8_bits(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_bytes(typical_tensors()))
    shapes = {one.shape for one in integer_tensors(path).values()}
    assert shapes == {(30, 40), (24, 36), (1, 3, 3, 40), (64, 12)}


def test_onnx_of_holds_the_tensors() -> None:
    array = np.arange(64, dtype=np.int8).reshape(8, 8)
    content = onnx_of({"t": array})
    (tensor,) = find_tensors(content)[1]
    assert content[tensor.offset : tensor.offset + tensor.length] == array.tobytes()


class FakeEncoder:
    """Rounds to whole numbers and writes them as they are."""

    def __init__(self) -> None:
        self.content = b""

    def initCtxModels(self, *_: int) -> None: ...

    def iae_v(self, _: int, qp: int) -> None:
        self.content += np.int32(qp).tobytes()

    def quantLayer(self, weights: Any, levels: Any, *_: float) -> None:
        levels[:] = np.rint(weights)

    def encodeLayer(self, levels: Any, *_: object) -> None:
        self.content += levels.tobytes()

    def finish(self) -> Any:
        return np.frombuffer(self.content, dtype=np.uint8)


class FakeDecoder:
    """The inverse."""

    def setStream(self, stream: Any) -> None:
        self.numbers = np.frombuffer(stream.tobytes(), dtype=np.int32)

    def initCtxModels(self, *_: int) -> None: ...

    def iae_v(self, _: int) -> int:
        return int(self.numbers[0])

    def decodeLayer(self, levels: Any, *_: object) -> None:
        levels.flat = self.numbers[1:]

    def dequantLayer(self, values: Any, levels: Any, _: int, qp: int, __: int) -> None:
        assert qp == -32
        values[:] = levels

    def finish(self) -> None: ...


def test_nncodec_jobs_give_back_what_the_coder_reconstructs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coder = SimpleNamespace(
        Encoder=FakeEncoder, Decoder=FakeDecoder, HdspMode=SimpleNamespace(AlwaysOff=0), __spec__=None
    )
    monkeypatch.setitem(sys.modules, "nncodec.extensions.deepCABAC", cast("Any", coder))
    floats = np.random.default_rng(0).normal(0, 9, (4, 3, 3)).astype(np.float32)
    integers = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    paths = {name: str(tmp_path / f"{name}.npz") for name in ("tensors", "streams", "restored")}
    np.savez(paths["tensors"], floats=floats, integers=integers)
    encoded = do({"job": "nncodec_encode", "input": paths["tensors"], "output": paths["streams"], "qp": "-32"})
    decode = {"job": "nncodec_decode", "input": paths["streams"], "tensors": paths["tensors"]}
    decoded = do(decode | {"output": paths["restored"]})
    assert encoded.keys() >= {"wall_s", "cpu_s"}
    assert decoded.keys() >= {"wall_s", "cpu_s"}
    with np.load(paths["restored"]) as restored:
        assert (restored["floats"] == np.rint(floats)).all()
        assert (restored["integers"] == integers).all()


def test_compare_integers_measures_nothing_when_the_peer_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_bytes(typical_tensors()))
    assert compare_integers(path, sys.executable, 1) == {}
    assert "has no nncodec" in capsys.readouterr().err
