from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench_export import PHASES, export_phases, main, sum_samples, worst_figures
from benchmarking import Sample
from contestants import calibrate_on, noise_pictures, random_contestant
from edgekit.models.architecture import BuildOptions
from edgekit.runtime.interpreter import load_interpreter


def test_export_phases_write_four_files_that_load(tmp_path: Path) -> None:
    options = BuildOptions(variant="mobilenet_v2", width=0.25, input_size=28, num_classes=4)
    contestant = random_contestant(options, tmp_path)
    spec = contestant.card.preprocess
    calibration = calibrate_on(contestant.trace(), spec, noise_pictures(spec, num=5))

    phases = export_phases(contestant, calibration, tmp_path)

    assert tuple(phases) == PHASES
    assert calibration.num_pictures == 5
    for name in ("float.onnx", "float.tflite", "int8.onnx", "int8.tflite"):
        assert load_interpreter(tmp_path / name).output.shape[-1] == 4


def test_random_contestant_is_the_same_every_time(tmp_path: Path) -> None:
    options = BuildOptions(variant="shufflenet_v2_x0_5", input_size=32)

    written = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        contestant = random_contestant(options, tmp_path / folder)
        written.append(contestant.weights_path.read_bytes())

    assert written[0] == written[1]
    assert '"variant":"shufflenet_v2_x0_5"' in contestant.settings["options"]


def test_sum_samples_adds_phases() -> None:
    samples = [Sample(wall_s=1.0, cpu_s=0.5), Sample(wall_s=2.0, cpu_s=0.25)]

    assert sum_samples(samples) == Sample(wall_s=3.0, cpu_s=0.75)


def test_worst_figures_pass_over_what_was_not_measured() -> None:
    figures = {
        "a_ours_wall_s": 1.0,
        "b_ours_wall_s": 3.0,
        "a_wall_ratio": 0.2,
        "b_wall_ratio": None,
        "a_ours_float_tflite_wall_s": 0.1,
        "b_ours_int8_tflite_wall_s": 0.4,
    }

    worst = worst_figures(dict(figures), ["a", "b"])

    assert worst["worst_ours_wall_s"] == 3.0
    assert worst["worst_wall_ratio"] == 0.2
    assert worst["worst_tflite_lowering_wall_s"] == 0.4
    assert worst["worst_cpu_ratio"] is None


@pytest.mark.bench
def test_bench_export_prints_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--models", "shufflenet_v2_x0_5", "--input-size", "32"])

    figures = json.loads(capsys.readouterr().out)
    assert figures["worst_ours_cpu_s"] == figures["shufflenet_v2_x0_5_ours_cpu_s"] > 0
