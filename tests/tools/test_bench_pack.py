from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bench_pack
from bench_pack import decode, elements_of, encode, main, unpacked
from edgekit.encode.grids import Grid
from edgekit.encode.packing import pack
from model_bytes import tflite_bytes, typical_tensors


def test_elements_of_counts_what_is_coded_once() -> None:
    placed = unpacked(pack(tflite_bytes(typical_tensors())).content)
    assert sum(elements_of(one) for one in placed) == 30 * 40 + 24 * 36 + 360 + 24 + 600 + 64 + 24 + 64 * 12 + 40


def test_encode_and_decode_measure_the_same_matrix() -> None:
    levels = np.random.default_rng(0).integers(0, 20, (64, 32)).astype(np.uint8)
    grid = Grid(64, 32, 20, -10, 0, 48, 80)
    assert (decode(*encode(levels, grid), grid) == levels).all()


def test_main_prints_sizes_of_every_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_pack, "measure_tensor", lambda *_: {})
    path = tmp_path / "small.tflite"
    path.write_bytes(tflite_bytes(typical_tensors()))
    main(["--quick", "--models", str(tmp_path / "none"), str(path)])
    figures = json.loads(capsys.readouterr().out)
    assert figures["small.original_bytes"] == path.stat().st_size
    assert figures["small.ekz_bytes"] < figures["small.xz9e_bytes"]
    assert figures["small.unpack_peak_rss_mib"] > 10
