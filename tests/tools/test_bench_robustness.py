from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench_robustness import family_figures, find_runs
from benchmarking import print_document
from edgekit.core.errors import UsageError
from robustnesses import build_robustness


def test_every_model_has_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    robustness = build_robustness("runs/mobilenet", "runs/mobilenet-8", "runs/mobilenet-dc")

    print_document(family_figures("mobilenet", robustness))

    figures = json.loads(capsys.readouterr().out)
    assert figures["mobilenet_float_mean_corruption_error"] == 100.0
    assert figures["mobilenet_8bit_corrupted_difference_points"] == -3.0
    assert figures["mobilenet_dc_square_8_top1_percent"] == pytest.approx(38.94, abs=0.01)  # on itself
    assert figures["mobilenet_dc_pgd_8_top1_percent"] == pytest.approx(38.94, abs=0.01)  # transferred
    assert figures["mobilenet_8bit_fooled_evolved_pictures"] == 14


def test_family_without_trained_network_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no trained network"):
        find_runs(tmp_path, "mobilenet")
