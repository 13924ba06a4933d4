"""`edgekit compress` below eight bits, from the outside: fixed and mixed bits, budgets, drops, sweeps, and trouble."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cli_network import QUICK, SIZE, write_wide_network
from command_line import Outcome, assert_fails, edgekit
from edgekit.core.recipe import load_recipe
from edgekit.export.stored import read_stored
from edgekit.quantize.network import GraphNetwork

LAYERS = ["stem", "wide", "grouped", "fc"]
LOOSE = ("--max-drop", "100", "--json", *QUICK)
MODEL_FILES = ("float.onnx", "model.onnx", "model.tflite", "model.ekz", "labels.txt", "recipe.toml")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's ONNX file whose size is that of its weights."""
    return write_wide_network(tmp_path_factory.mktemp("network") / "wide.onnx")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, wide: Path, colours: Path) -> dict[str, tuple[Path, Outcome]]:
    """Runs at 8, 6 and 4 bits."""
    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, tuple[Path, Outcome]] = {}
    for bits in ("8", "6", "4"):
        run_dir = folder / bits
        outcome = edgekit("compress", wide, "--data", colours, "--bits", bits, "--out", run_dir, "--json", *QUICK)
        assert outcome.code == 0, outcome.err
        made[bits] = run_dir, outcome
    return made


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def rows_of(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["layer"]: row for row in report["bits"]["layers"]}


def weights_of(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    constants = read_stored(path).constants
    return {name: tensor.values for name, tensor in constants.items() if tensor.values.dtype == np.int8}


@pytest.mark.parametrize("bits", ["6", "4"])
def test_bits_are_on_the_grid_and_in_the_report(runs: dict[str, tuple[Path, Outcome]], bits: str) -> None:
    run_dir, outcome = runs[bits]
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
def test_both_files_hold_the_same_integers(runs: dict[str, tuple[Path, Outcome]], bits: str) -> None:
    run_dir, outcome = runs[bits]
    onnx_weights, tflite_weights = (weights_of(run_dir / f"model.{kind}") for kind in ("onnx", "tflite"))

    assert set(onnx_weights) == set(tflite_weights) >= {f"{layer}.w" for layer in LAYERS}
    for name, values in onnx_weights.items():
        assert np.array_equal(values, tflite_weights[name]), name
    assert next(
        check for check in outcome.document["checks"] if check["name"] == "TFLite and ONNX hold the same integers"
    )["passed"]
    assert edgekit("verify", run_dir).code == 0


def test_fewer_bits_are_fewer_bytes_to_ship(runs: dict[str, tuple[Path, Outcome]]) -> None:
    sizes = {bits: (run_dir / "model.ekz").stat().st_size for bits, (run_dir, _) in runs.items()}

    assert sizes["4"] < sizes["6"] < sizes["8"]
    assert sizes["6"] <= 0.8 * sizes["8"]
    for bits, (_, outcome) in runs.items():
        assert outcome.document["sizes"]["ekz_bytes"] == sizes[bits]


def test_recipe_makes_the_same_bytes_again(
    runs: dict[str, tuple[Path, Outcome]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, _ = runs["4"]
    monkeypatch.chdir(tmp_path)

    outcome = edgekit("compress", "--recipe", run_dir / "recipe.toml", "--no-bench", "--out", "again")

    assert outcome.code == 0, outcome.err
    for name in MODEL_FILES:
        assert (tmp_path / "again" / name).read_bytes() == (run_dir / name).read_bytes(), name
    assert {path.name for path in tmp_path.iterdir()} == {"again"}


def test_budget_is_kept_and_filled(
    wide: Path, colours: Path, runs: dict[str, tuple[Path, Outcome]], tmp_path: Path
) -> None:
    budget = 0.6 * (runs["8"][0] / "model.ekz").stat().st_size

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
    assert not (tmp_path / "runs" / "run").exists()
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


def paint_flat(folder: Path, num: int, draw: Callable[[int], object]) -> Path:
    folder.mkdir(parents=True)
    for index in range(num):
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        picture[:] = draw(index)
        assert cv2.imwrite(str(folder / f"{index:02}.png"), picture)
    return folder


@pytest.mark.parametrize("bits", ["6", "4", "mixed"])
@pytest.mark.parametrize(
    ("num", "draw"),
    [(20, lambda _: 0), (20, lambda index: (40 + index, 40, 200)), (2, lambda index: (40, 200 * index, 200))],
    ids=["all black", "one class", "one to calibrate with"],
)
def test_poor_calibration_pictures_give_files_that_agree(
    wide: Path, tmp_path: Path, bits: str, num: int, draw: Callable[[int], object]
) -> None:
    folder = paint_flat(tmp_path / "flat", num, draw)
    pictures = ("--set", f"quantize.num_calibration={min(num // 2, 16)}", "--max-drop", "100", "--no-bench", "--json")

    outcome = edgekit("compress", wide, "--data", folder, "--bits", bits, "--out", tmp_path / "run", *pictures)

    assert outcome.code == 0, outcome.err
    report = outcome.document
    assert report["agreement"]["tflite"]["top1"] == 1.0
    assert all(np.isfinite(row["bits_per_weight"]) for row in rows_of(report).values())
    assert report["bits"]["num_calibration"] <= num // 2


@pytest.mark.parametrize("bits", ["4", "mixed"])
def test_dead_channels_stay_dead(wide: Path, colours: Path, tmp_path: Path, bits: str) -> None:
    model = onnx.load(wide)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name == "stem.w":
            values[10:20] = 0  # with their biases of 2 these channels never move
        if tensor.name == "wide.w":
            values[30:40] = 0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path = tmp_path / "dead.onnx"
    onnx.save(model, path)

    outcome = edgekit("compress", path, "--data", colours, "--bits", bits, "--out", tmp_path / "run", *LOOSE)

    assert outcome.code == 0, outcome.err
    assert outcome.document["accuracy"]["tflite"]["top1"] == 1.0
    weights = weights_of(tmp_path / "run" / "model.onnx")
    assert not weights["stem.w"][10:20].any()
    assert not weights["wide.w"][30:40].any()


def spoiled(path: Path, target: Path, name: str, value: float) -> Path:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = numpy_helper.to_array(tensor).copy()
            values.flat[0] = value
            tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, target)
    return target


@pytest.mark.parametrize("bits", ["4", "mixed"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_values_that_are_not_finite_are_named(
    wide: Path, colours: Path, tmp_path: Path, bits: str, value: float
) -> None:
    path = spoiled(wide, tmp_path / "spoiled.onnx", "wide.w", value)

    outcome = edgekit("compress", path, "--data", colours, "--bits", bits, "--out", tmp_path / "run", *QUICK)

    assert_fails(outcome, 2, "finite")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["spoiled.onnx"]


@pytest.mark.parametrize("bits", ["6", "mixed"])
def test_quantized_files_are_no_start(
    runs: dict[str, tuple[Path, Outcome]], colours: Path, tmp_path: Path, bits: str
) -> None:
    run_dir = runs["8"][0]
    compress = ("--data", colours, "--bits", bits, "--out", tmp_path / "run")

    assert_fails(edgekit("compress", run_dir / "model.onnx", *compress), 2, "quantized already", "float model")
    assert_fails(edgekit("compress", run_dir / "model.tflite", *compress), 2, "TFLite", "float weights", ".onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--bits", "1"), ("--bits takes a whole number", "'1'")),
        (("--bits", "9"), ("--bits takes a whole number", "'9'")),
        (("--budget-kb", "0"), ("--budget-kb",)),
        (("--budget-kb", "-3"), ("--budget-kb",)),
        (("--budget-kb", "nan"), ("--budget-kb",)),
        (("--bits", "6", "--budget-kb", "5"), ("--budget-kb", "--bits mixed")),
        (("--bits", "6", "--pareto"), ("--pareto", "--bits mixed")),
        (("--bits", "4", "--share", "4"), ("shared", "--bits 8")),
        (("--share", "4", "--qat"), ("shared", "--bits 8")),
        (("--set", "quantize.budget_kb=5"), ("quantize.budget_kb", "--bits mixed")),
        (("--set", "quantize.pareto=3"), ("quantize.pareto", "--bits mixed")),
        (("--bits", "4", "--set", "quantize.wide_layers=[\"nowhere\"]"), ("nowhere", "stem")),
    ],
)  # fmt: skip
def test_wrong_wishes_are_errors(
    wide: Path, colours: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    outcome = edgekit("compress", wide, "--data", colours, *arguments, "--out", tmp_path / "run", *QUICK)

    assert_fails(outcome, 2, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9.31 GiB for an array with shape (50000, 50000)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 40000000000 bytes."),
    ],
    ids=["numpy", "torch on linux", "torch elsewhere"],
)
def test_too_little_memory_is_one_line_and_a_hint(
    wide: Path, colours: Path, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(GraphNetwork, "run", fail)

    outcome = edgekit("compress", wide, "--data", colours, "--bits", "4", "--out", tmp_path / "run", *QUICK)

    assert outcome.code == 3
    assert "error: out of memory" in outcome.err
    assert " hint: " in outcome.err
    assert "Traceback" not in outcome.err
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bits", ["4", "mixed"])
def test_disk_that_fills_up_with_activations_is_named(
    wide: Path, colours: Path, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, bits: str
) -> None:
    def fill_up(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("edgekit.quantize.walk.np.save", fill_up)

    outcome = edgekit("compress", wide, "--data", colours, "--bits", bits, "--out", tmp_path / "run", *QUICK)

    assert outcome.code == 3
    assert "No space left on device" in outcome.err
    assert "TMPDIR" in outcome.err
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bits", ["4", "mixed"])
def test_interrupt_leaves_only_what_resume_goes_on_with(
    wide: Path, colours: Path, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, bits: str
) -> None:
    real, num_calls = GraphNetwork.run, 0

    def interrupt(*arguments: Any, **options: Any) -> object:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 7:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    folder = tmp_path / "runs"
    compress = ("compress", wide, "--data", colours, "--bits", bits, "--out", folder / "run", *LOOSE)
    with monkeypatch.context() as patch:
        patch.setattr(GraphNetwork, "run", interrupt)
        outcome = edgekit(*compress)

    assert (outcome.code, outcome.out) == (130, "")
    assert "nothing half-written is left behind" in outcome.err
    assert "--resume" in outcome.err
    assert list(scratch.iterdir()) == []
    assert {path.name for path in folder.glob("*")} <= {"run.work"}
    again = edgekit(*compress, "--resume")
    assert again.code == 0, again.err
    assert {path.name for path in folder.iterdir()} == {"run"}
    whole = edgekit(*compress[: -len(LOOSE) - 1], tmp_path / "whole", *LOOSE)
    assert whole.code == 0, whole.err
    assert (tmp_path / "whole" / "model.tflite").read_bytes() == (folder / "run" / "model.tflite").read_bytes()


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
