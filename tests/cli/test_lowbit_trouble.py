"""`edgekit compress` below eight bits when something is wrong: wishes, pictures, the model, the machine."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from cli_network import QUICK, SIZE
from command_line import Outcome, assert_fails, edgekit
from edgekit.export.stored import read_stored
from edgekit.quantize.network import GraphNetwork

LOOSE = ("--max-drop", "100", "--json", *QUICK)


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


def paint_flat(folder: Path, num: int, draw: Callable[[int], npt.ArrayLike]) -> Path:
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
    wide: Path, tmp_path: Path, bits: str, num: int, draw: Callable[[int], npt.ArrayLike]
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

    assert_fails(outcome, 2, "finite" if np.isfinite(value) else "'wide.w' holds NaN or infinity")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["spoiled.onnx"]


@pytest.mark.parametrize("bits", ["6", "mixed"])
def test_quantized_files_are_no_start(
    bit_runs: dict[str, tuple[Path, Outcome]], colours: Path, tmp_path: Path, bits: str
) -> None:
    run_dir = bit_runs["8"][0]
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
