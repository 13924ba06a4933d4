from __future__ import annotations

import sys
from pathlib import Path

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
    assert shapes == {(24, 36), (1, 3, 3, 40), (64, 12)}


def test_onnx_of_holds_the_tensors() -> None:
    array = np.arange(64, dtype=np.int8).reshape(8, 8)
    content = onnx_of({"t": array})
    (tensor,) = find_tensors(content)[1]
    assert content[tensor.offset : tensor.offset + tensor.length] == array.tobytes()


def test_compare_integers_measures_nothing_when_the_peer_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_bytes(typical_tensors()))
    assert compare_integers(path, sys.executable, 1) == {}
    assert "has no nncodec" in capsys.readouterr().err
