from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import edgekit

FILE = Path("models") / "compressed_SqueezeNet.net"


@pytest.mark.slow
def test_import_makes_a_model_that_classifies(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    run_dir = tmp_path / "run"

    outcome = edgekit("import", "squeezenet-dc", shared_data / FILE, "--out", run_dir, "--json")

    assert outcome.code == 0, outcome.err
    imported = json.loads(outcome.out)
    assert imported["card"]["options"]["variant"] == "squeezenet1_0"
    assert imported["num_params"] == 1_248_424
    assert imported["num_zeros"] >= 1_244_448 - 415_921
    measured = edgekit("evaluate", run_dir / "float.onnx", "--data", "imagenet", "--json")
    assert measured.code == 0, measured.err
    accuracy = json.loads(measured.out)["model"]["scores"]["accuracy"]
    assert accuracy["n"] == 244
    assert 0.58 <= accuracy["top1"] <= 0.70


@pytest.mark.slow
def test_imported_mobilenet_is_compressed_and_verified(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    file, run_dir = shared_data / "models" / "mobilenet_v1_0.25_128_quant.tflite", tmp_path / "run"

    outcome = edgekit("import", "mobilenet-tflite", file, "--out", run_dir)

    assert outcome.code == 0, outcome.err
    assert "mobilenet_v1, 467,336 parameters" in outcome.out
    quick = ("--no-bench", "--set", "verify.num_pictures=96", "--set", "quantize.num_calibration=64")
    outcome = edgekit("compress", run_dir, "--data", "imagenet", "--out", tmp_path / "int8", "--json", *quick)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    # Measured on all 244: 47.1 % float, 46.9 % int8, 91.9 % agreement.
    assert report["accuracy"]["float"]["top1"] >= 0.35
    assert report["agreement"]["tflite"]["top1"] >= 0.8


def test_foreign_tflite_file_leaves_nothing(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "models" / "pretrainedResnet_quant.tflite"

    outcome = edgekit("import", "mobilenet-tflite", file, "--out", tmp_path / "run")

    assert outcome.code == 2
    assert "expected CONV_2D 3x3" in outcome.err
    assert "a quantized MobileNet V1 or V2" in outcome.err
    assert not (tmp_path / "run").exists()


def test_truncated_file_leaves_nothing(shared_data: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.net"
    short.write_bytes((shared_data / FILE).read_bytes()[:-1])

    outcome = edgekit("import", "squeezenet-dc", short, "--out", tmp_path / "run")

    assert outcome.code == 2
    assert "ends at byte 675762" in outcome.err
    assert not (tmp_path / "run").exists()


def test_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    outcome = edgekit("import", "squeezenet-cd", tmp_path / "x.net")
    assert outcome.code == 2
    assert "squeezenet_dc" in outcome.err
