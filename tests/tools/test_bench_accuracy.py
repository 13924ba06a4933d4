from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench_accuracy import Pictures, behind_figures, compare, main, score
from edgekit.data.memory import MemorySource
from peers import Peers


def one_hot(answers: list[int]) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[answers]


def pictures_of(labels: list[int]) -> Pictures:
    """Two crops each of as many pictures as half the labels."""
    pixels = np.zeros((len(labels), 4, 4, 1), np.uint8)
    source = MemorySource(name="m", split="test", class_names=(), pictures=pixels, labels=None)
    return Pictures(calibration=source, test=pixels, labels=np.array(labels), num_pictures=len(labels) // 2)


def test_score_gives_shares_with_intervals_in_percent() -> None:
    pictures = pictures_of([0, 1, 2, 1])
    logits = {"float": one_hot([0, 1, 2, 2]), "ours_onnx": one_hot([0, 1, 1, 2])}

    figures = score(logits, pictures, "m")

    assert (figures["m_n"], figures["m_views"]) == (2, 4)
    assert figures["m_float_top1_percent"] == 75.0
    assert figures["m_ours_onnx_top1_percent"] == 50.0
    assert figures["m_ours_onnx_agreement_percent"] == 75.0
    assert "m_float_agreement_percent" not in figures
    low, high = figures["m_ours_onnx_top1_low_percent"], figures["m_ours_onnx_top1_high_percent"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert 0 < low < 50 < high < 100


def test_behind_figures_compare_with_the_best_peer() -> None:
    figures = {
        "m_ours_onnx_top1_percent": 90.0,
        "m_ours_tflite_top1_percent": 92.5,
        "m_nncf_top1_percent": 91.0,
        "m_other_top1_percent": 92.0,
        "m_ours_onnx_agreement_percent": 97.0,
    }

    behind = behind_figures(figures, "m", ["nncf", "other"])

    assert behind["m_ours_onnx_top1_behind_points"] == 2.0
    assert behind["m_ours_tflite_top1_behind_points"] == -0.5
    assert behind["m_ours_onnx_agreement_behind_points"] is None


def test_behind_figures_are_none_without_peers() -> None:
    assert set(behind_figures({"m_ours_onnx_top1_percent": 90.0}, "m", []).values()) == {None}


def test_compare_leaves_out_a_model_without_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class NoPeers(Peers):
        def __init__(self) -> None:
            """There is no worker."""

    assert compare("mobilenet_v1", NoPeers(), None) == {"mobilenet_v1_n": None}
    assert "no weights at hand" in capsys.readouterr().err


@pytest.mark.bench
def test_bench_accuracy_prints_its_document(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    main(["--quick", "--models", "squeezenet", "--max-pictures", "100"])

    figures = json.loads(capsys.readouterr().out)
    assert figures["squeezenet_n"] in {None, 100}
