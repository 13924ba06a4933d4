from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from command_line import edgekit
from edgekit.encode.packing import pack
from model_bytes import Quantized, onnx_bytes, tflite_bytes, typical_tensors


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_bytes(typical_tensors()))
    return path


def test_pack_and_unpack_give_the_same_file(model: Path, tmp_path: Path) -> None:
    original = model.read_bytes()
    packed = edgekit("pack", model, "--json")
    assert packed.code == 0, packed.err
    assert packed.document["path"] == str(tmp_path / "model.ekz")
    assert packed.document["ekz_bytes"] == (tmp_path / "model.ekz").stat().st_size
    model.unlink()
    unpacked = edgekit("unpack", tmp_path / "model.ekz")
    assert unpacked.code == 0, unpacked.err
    assert "SHA-256" in unpacked.out
    assert model.read_bytes() == original


def test_unpack_names_the_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes({"w": np.arange(100, dtype=np.int8).reshape(10, 10)}))
    assert edgekit("pack", path, "--out", tmp_path / "small.ekz").code == 0
    assert edgekit("unpack", tmp_path / "small.ekz", "--json").document["path"] == str(tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").read_bytes() == path.read_bytes()


def test_pack_notes_when_there_is_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello " * 100)
    packed = edgekit("pack", path)
    assert packed.code == 0
    assert "no tensors found" in packed.err


def test_unpack_leaves_nothing_when_the_file_is_damaged(model: Path, tmp_path: Path) -> None:
    edgekit("pack", model)
    packed = tmp_path / "model.ekz"
    damaged = bytearray(packed.read_bytes())
    damaged[-5] ^= 4
    packed.write_bytes(damaged)
    outcome = edgekit("unpack", packed, "--out", tmp_path / "restored.tflite")
    assert outcome.code == 2
    assert "is damaged" in outcome.err
    assert {path.name for path in tmp_path.iterdir()} == {"model.tflite", "model.ekz"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pack", "absent.tflite"), "no file at"),
        (("unpack", "absent.ekz"), "no file at"),
        (("inspect", "absent.ekz"), "no file at"),
        (("pack", "model.tflite", "--out", "model.tflite"), "overwrite itself"),
        (("unpack", "model.tflite"), "no .ekz file"),
        (("pack", "packed.ekz"), "packed.ekz is an .ekz file already"),
        (("inspect", "short.ekz"), "short.ekz: the file has 1000 bytes"),
        (("unpack", "short.ekz"), "short.ekz: the file has 1000 bytes"),
        (("inspect", "random.ekz"), "random.ekz: no .ekz file"),
        (("unpack", "random.ekz"), "random.ekz: no .ekz file"),
        (("inspect", "newer.ekz"), "newer.ekz: .ekz format version 9"),
    ],
)
def test_bad_input_is_exit_code_2(
    model: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(model.parent)
    packed = pack(model.read_bytes()).content
    Path("packed.ekz").write_bytes(packed)
    Path("short.ekz").write_bytes(packed[:1000])
    Path("random.ekz").write_bytes(np.random.default_rng(0).bytes(1000))
    Path("newer.ekz").write_bytes(packed[:8] + b"\x09" + packed[9:])
    outcome = edgekit(*arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_inspect_tells_every_tensor(model: Path, tmp_path: Path) -> None:
    edgekit("pack", model)
    document = edgekit("inspect", tmp_path / "model.ekz", "--json").document
    assert edgekit("inspect", model, "--json").document["tensors"] == document["tensors"]
    rows = {row["name"]: row for row in document["tensors"]}
    weights = rows["weights"]
    assert weights["shape"] == [24, 36]
    assert weights["dtype"] == "i8"
    assert weights["bytes_before"] == 864
    assert 0 < weights["bytes_after"] < 864
    assert 0 < weights["entropy_bytes"] < 864
    assert weights["num_levels"] <= 255
    assert rows["codes"]["num_levels"] == 5
    assert rows["codes"]["description"].startswith("codebook of 5")
    assert 0.2 < rows["codes"]["density"] < 0.4
    assert rows["biases"]["description"].startswith("copy of")
    assert document["ekz_bytes"] == (
        document["tensor_bytes_after"] + document["residue_bytes_after"] + document["header_bytes"]
    )


def test_inspect_prints_a_table_with_the_totals(model: Path) -> None:
    out = edgekit("inspect", model).out
    assert "order-0 limit" in out
    assert "scaled from" in out


def test_an_empty_file_comes_back_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.tflite"
    path.write_bytes(b"")
    assert edgekit("pack", path).code == 0
    assert edgekit("unpack", tmp_path / "empty.ekz").code == 0
    assert (tmp_path / "empty.bin").read_bytes() == b""


def test_inspect_keeps_the_role_of_a_parameter_with_a_long_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    path = tmp_path / "model.tflite"
    weights = np.random.default_rng(0).integers(-127, 127, (64, 9)).astype(np.int8)
    scales = np.linspace(0.01, 0.02, 64, dtype=np.float32)
    path.write_bytes(tflite_bytes({"name/" * 20 + "end": Quantized(weights, scales)}))
    assert re.search(r"^scale of na\.\.\.[/a-z]*/end ", edgekit("inspect", path).out, re.MULTILINE)


@pytest.mark.slow
def test_pack_reaches_its_size_on_the_shared_weights_of_squeezenet(repository: Path, tmp_path: Path) -> None:
    published = repository.parent / "shared" / "data" / "models" / "compressed_SqueezeNet.net"
    if not published.is_file():
        pytest.skip("no ../shared/data")
    assert edgekit("import", "squeezenet-dc", published, "--out", tmp_path / "run").code == 0
    packed = edgekit("pack", tmp_path / "run" / "float.onnx", "--json")
    assert packed.document["ekz_bytes"] <= 545_000
