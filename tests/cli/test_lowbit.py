"""`edgekit compress` below eight bits, from the outside: fixed and mixed bits, budgets, drops, sweeps, and trouble."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cli_network import QUICK
from command_line import Outcome, assert_fails, edgekit
from edgekit.core.recipe_files import load_recipe
from edgekit.export.stored import read_stored

LAYERS = ["stem", "wide", "grouped", "fc"]
LOOSE = ("--max-drop", "100", "--json", *QUICK)
MODEL_FILES = ("float.onnx", "model.onnx", "model.tflite", "model.ekz", "labels.txt", "recipe.toml")


def rows_of(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["layer"]: row for row in report["bits"]["layers"]}


def weights_of(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    constants = read_stored(path).constants
    return {name: tensor.values for name, tensor in constants.items() if tensor.values.dtype == np.int8}


@pytest.mark.parametrize("bits", ["6", "4"])
def test_bits_are_on_the_grid_and_in_the_report(bit_runs: dict[str, tuple[Path, Outcome]], bits: str) -> None:
    run_dir, outcome = bit_runs[bits]
    report = outcome.document
    rows = rows_of(report)

    assert report["bits"]["asked"] == bits
    assert list(rows) == LAYERS
    assert {name: row["grid_bits"] for name, row in rows.items()} == {
        "stem": 8, "wide": int(bits), "grouped": int(bits), "fc": 8,
    }  # fmt: skip
    assert rows["stem"]["wide_because"] == "first layer"
    assert rows["fc"]["wide_because"] == "last layer"
    assert rows["wide"]["wide_because"] is None
    assert report["bits"]["num_calibration"] == 16
    assert "2 of 4 layers keep 8 bits" in outcome.err
    constants = read_stored(run_dir / "model.tflite").constants
    qmax = 2 ** (int(bits) - 1) - 1
    for layer in ("wide", "grouped"):
        (values,) = (each.values for name, each in constants.items() if name == f"{layer}.w")
        assert 0 < np.abs(values).max() <= qmax
        assert rows[layer]["bits_per_weight"] <= np.log2(2 * qmax + 1)
    assert report["accuracy"]["tflite"]["top1"] == 1.0


@pytest.mark.parametrize("bits", ["6", "4"])
def test_both_files_hold_the_same_integers(bit_runs: dict[str, tuple[Path, Outcome]], bits: str) -> None:
    run_dir, outcome = bit_runs[bits]
    onnx_weights, tflite_weights = (weights_of(run_dir / f"model.{kind}") for kind in ("onnx", "tflite"))

    assert set(onnx_weights) == set(tflite_weights) >= {f"{layer}.w" for layer in LAYERS}
    for name, values in onnx_weights.items():
        assert np.array_equal(values, tflite_weights[name]), name
    assert next(
        check for check in outcome.document["checks"] if check["name"] == "TFLite and ONNX hold the same integers"
    )["passed"]
    assert edgekit("verify", run_dir).code == 0


def test_fewer_bits_are_fewer_bytes_to_ship(bit_runs: dict[str, tuple[Path, Outcome]]) -> None:
    sizes = {bits: (run_dir / "model.ekz").stat().st_size for bits, (run_dir, _) in bit_runs.items()}

    assert sizes["4"] < sizes["6"] < sizes["8"]
    assert sizes["6"] <= 0.8 * sizes["8"]
    for bits, (_, outcome) in bit_runs.items():
        assert outcome.document["sizes"]["ekz_bytes"] == sizes[bits]


def test_recipe_makes_the_same_bytes_again(
    bit_runs: dict[str, tuple[Path, Outcome]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, _ = bit_runs["4"]
    monkeypatch.chdir(tmp_path)

    outcome = edgekit("compress", "--recipe", run_dir / "recipe.toml", "--no-bench", "--out", "again")

    assert outcome.code == 0, outcome.err
    for name in MODEL_FILES:
        assert (tmp_path / "again" / name).read_bytes() == (run_dir / name).read_bytes(), name
    assert {path.name for path in tmp_path.iterdir()} == {"again"}


def test_budget_is_kept_and_filled(
    wide: Path, colours: Path, bit_runs: dict[str, tuple[Path, Outcome]], tmp_path: Path
) -> None:
    budget = 0.6 * (bit_runs["8"][0] / "model.ekz").stat().st_size

    outcome = edgekit(
        "compress", wide, "--data", colours, "--budget-kb", f"{budget / 1000:.3f}", "--out", tmp_path / "run", *LOOSE
    )

    assert outcome.code == 0, outcome.err
    report = outcome.document
    assert 0.75 * budget < (tmp_path / "run" / "model.ekz").stat().st_size <= budget
    assert report["bits"]["asked"] == "mixed"
    assert report["bits"]["budget_bytes"] == pytest.approx(budget, abs=1.5)
    assert report["bits"]["max_drop"] is None
    assert list(rows_of(report)) == LAYERS
    assert all(2 <= row["grid_bits"] <= 8 for row in rows_of(report).values())
    recipe = load_recipe(tmp_path / "run" / "recipe.toml")
    assert recipe.quantize.scheme == "static_wimixed_ai8"
    assert recipe.quantize.budget_kb == pytest.approx(budget / 1000, abs=1e-3)
    assert edgekit("verify", tmp_path / "run", "--max-drop", "100").code == 0


def test_budget_out_of_reach_names_the_nearest_and_that_one_is_met(wide: Path, colours: Path, tmp_path: Path) -> None:
    compress = ("compress", wide, "--data", colours, "--out", tmp_path / "runs" / "run", *LOOSE)

    outcome = edgekit(*compress, "--budget-kb", "0.3")

    assert_fails(outcome, 1, "a budget of 0.3 kB cannot be met", "the smallest file reached has")
    nearest = re.search(r"ask for --budget-kb (\d+)", outcome.err)
    assert nearest is not None
    assert not list(tmp_path.glob("runs/*"))
    again = edgekit(*compress, "--budget-kb", nearest[1])
    assert again.code == 0, again.err
    assert (tmp_path / "runs" / "run" / "model.ekz").stat().st_size <= 1000 * int(nearest[1])


def test_mixed_bits_without_a_budget_lose_no_more_than_allowed(wide: Path, colours: Path, tmp_path: Path) -> None:
    outcome = edgekit(
        "compress", wide, "--data", colours, "--bits", "mixed", "--max-drop", "5", "--out", tmp_path / "run", "--json",
        *QUICK,
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    section = outcome.document["bits"]
    assert section["budget_bytes"] is None
    assert section["max_drop"] == 5.0
    assert section["drop"] <= 5.0
    assert section["num_held_out"] > 0


def test_drop_that_nothing_holds_is_exit_code_1(wide: Path, colours: Path, tmp_path: Path) -> None:
    outcome = edgekit(
        "compress", wide, "--data", colours, "--bits", "mixed", "--max-drop", "-5", "--out", tmp_path / "run", *QUICK
    )

    assert_fails(outcome, 1, "a drop of at most -5 points cannot be met")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_sweep_draws_size_against_accuracy(wide: Path, colours: Path, tmp_path: Path) -> None:
    outcome = edgekit(
        "compress", wide, "--data", colours, "--pareto", "--budget-kb", "9", "--out", tmp_path / "run", *LOOSE
    )

    assert outcome.code == 0, outcome.err
    points = outcome.document["bits"]["pareto"]
    assert [point["kind"] for point in points][:2] == ["float", "int8"]
    assert len(points) >= 5
    chosen = [point for point in points if point["is_chosen"]]
    assert [point["size_bytes"] for point in chosen] == [(tmp_path / "run" / "model.ekz").stat().st_size]
    assert points[0]["agreement"] == 1.0
    assert all(point["n"] == points[0]["n"] > 0 for point in points)
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["6", "4"])
def test_embedded_mobilenet_keeps_its_answers(tmp_path: Path, bits: str) -> None:
    outcome = edgekit(
        "compress", "mobilenet", "--bits", bits, "--data", "fashion_mnist_mini", "--out", tmp_path / "run", "--json",
        "--no-bench", "--set", "quantize.num_calibration=64", "--max-drop", "10",
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    report = outcome.document
    assert report["agreement"]["tflite"]["top1"] >= 0.9
    rows = rows_of(report)
    assert {row["grid_bits"] for row in rows.values()} == {8, int(bits)}
    for row in rows.values():
        if row["op"] == "DepthwiseConv":
            assert row["grid_bits"] == 8
            assert row["wide_because"] == "depthwise" or row["wide_because"] == "first layer"


def test_zeros_of_pruning_stay_zeros_on_small_grids(wide: Path, colours: Path, tmp_path: Path) -> None:
    pruned = tmp_path / "pruned.onnx"
    shutil.copy(wide, pruned)

    outcome = edgekit("compress", pruned, "--data", colours, "--bits", "4", "--prune", "0.5", "--out", tmp_path / "run",
                      *LOOSE)  # fmt: skip

    assert outcome.code == 0, outcome.err
    zeros = {
        tensor.name: numpy_helper.to_array(tensor) == 0
        for tensor in onnx.load(tmp_path / "run" / "float.onnx").graph.initializer
    }
    weights = weights_of(tmp_path / "run" / "model.onnx")
    assert zeros["wide.w"].any()
    for name in ("wide.w", "grouped.w"):
        assert not weights[name][zeros[name]].any()
