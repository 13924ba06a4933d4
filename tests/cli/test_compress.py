"""`edgekit compress` from a user's own ONNX file and folder to a run folder, and `edgekit verify` on that."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from cli_network import COLOURS, QUICK, paint, write_network
from command_line import Outcome, assert_fails, edgekit
from edgekit import pipeline
from edgekit.core.recipe_files import load_recipe
from edgekit.runtime.interpreter import load_interpreter

FILES = {
    "float.onnx",
    "labels.txt",
    "model.ekz",
    "model.onnx",
    "model.tflite",
    "recipe.toml",
    "report.html",
    "report.json",
}
MODEL_FILES = ("float.onnx", "model.onnx", "model.tflite", "labels.txt", "recipe.toml")


@pytest.fixture
def run_copy(compressed: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A run folder to spoil."""
    return Path(shutil.copytree(compressed[0], tmp_path / "run"))


def failed_checks(outcome: Outcome) -> dict[str, str | None]:
    """Name and layer of every bar that `verify --json` found missed."""
    return {check["name"]: check["layer"] for check in outcome.document["checks"] if not check["passed"]}


def test_run_folder_holds_everything_and_nothing_else(compressed: tuple[Path, Outcome]) -> None:
    run_dir, _ = compressed

    assert {path.name for path in run_dir.iterdir()} == FILES
    assert {path.name for path in run_dir.parent.iterdir()} == {run_dir.name}
    assert run_dir.stat().st_mode & 0o777 == 0o777 & ~_umask()
    assert (run_dir / "labels.txt").read_text() == "blue\ngreen\nred\n"


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_json_is_the_report_and_right(compressed: tuple[Path, Outcome]) -> None:
    run_dir, outcome = compressed
    report = outcome.document

    assert report == json.loads((run_dir / "report.json").read_text())
    assert report["dataset"]["labelled"] is True
    assert {name: row["top1"] for name, row in report["accuracy"].items()} == {"float": 1.0, "onnx": 1.0, "tflite": 1.0}
    assert report["sizes"]["tflite_bytes"] == (run_dir / "model.tflite").stat().st_size
    assert report["command"].startswith("edgekit compress ")
    assert report["latency"] == []
    assert all(check["passed"] for check in report["checks"])


def test_recipe_makes_the_same_bytes_from_another_folder(
    compressed: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, _ = compressed
    monkeypatch.chdir(tmp_path)

    outcome = edgekit("compress", "--recipe", run_dir / "recipe.toml", "--no-bench", "--out", "again")

    assert outcome.code == 0, outcome.err
    for name in MODEL_FILES:
        assert (tmp_path / "again" / name).read_bytes() == (run_dir / name).read_bytes(), name


def test_summary_tells_sizes_and_where_the_files_are(compressed: tuple[Path, Outcome]) -> None:
    summary = edgekit("report", compressed[0])

    assert (summary.code, summary.err) == (0, "")
    assert "int8 TFLite" in summary.out
    assert str(compressed[0]) in summary.out.replace("\n", "")
    assert not re.search(r"[ \t]\n|\x1b", summary.out)


def test_flat_folder_gives_agreement_but_no_accuracy(network: Path, tmp_path: Path) -> None:
    for index in range(20):
        paint(tmp_path / "flat" / f"{index}.png", (40 + 8 * index, 60, 200 - 8 * index), seed=index)

    outcome = edgekit("compress", network, "--data", tmp_path / "flat", "--out", tmp_path / "run", "--json", *QUICK)

    assert outcome.code == 0, outcome.err
    report = outcome.document
    assert report["accuracy"] == {"float": None, "onnx": None, "tflite": None}
    assert report["confusion"] is None
    assert report["agreement"]["tflite"]["n"] == report["dataset"]["n"] > 0
    assert report["agreement"]["tflite"]["top1"] >= 0.8


def test_folders_of_some_classes_in_another_order_are_told_by_name(
    compressed: tuple[Path, Outcome], tmp_path: Path
) -> None:
    model = compressed[0] / "float.onnx"  # it knows its classes: blue, green, red
    for label, (folder, name) in enumerate({"Red": "red", "blue": "blue"}.items()):
        for index in range(40):
            paint(tmp_path / "some" / folder / f"{name}{index}.png", COLOURS[name], seed=1000 * label + index)

    outcome = edgekit("compress", model, "--data", tmp_path / "some", "--out", tmp_path / "run", "--json", *QUICK)

    assert outcome.code == 0, outcome.err
    report = outcome.document
    assert report["dataset"]["class_names"] == ["blue", "green", "red"]
    assert report["accuracy"]["tflite"]["top1"] == 1.0
    blue, green, red = report["confusion"]
    assert (blue[0], red[2]) == (sum(blue), sum(red))
    assert min(sum(blue), sum(red)) > sum(green) == 0
    assert "1 class has no pictures here: green." in (tmp_path / "run" / "report.html").read_text()
    again = edgekit("verify", tmp_path / "run", "--json")
    assert (again.code, again.document["accuracy"]["tflite"]["top1"]) == (0, 1.0)


def test_folder_of_a_class_that_the_model_does_not_know_is_refused(
    compressed: tuple[Path, Outcome], tmp_path: Path
) -> None:
    for label, name in enumerate(("blue", "purple")):
        for index in range(40):
            paint(tmp_path / "some" / name / f"{name}{index}.png", COLOURS["blue"], seed=1000 * label + index)

    outcome = edgekit(
        "compress", compressed[0] / "float.onnx", "--data", tmp_path / "some", "--out", tmp_path / "run", *QUICK
    )

    assert_fails(outcome, 2, "some has 2 classes, the model 3")
    assert not (tmp_path / "run").exists()


def test_verify_passes_on_what_compress_made(compressed: tuple[Path, Outcome]) -> None:
    outcome = edgekit("verify", compressed[0], "--json")

    assert outcome.code == 0, outcome.err
    assert outcome.document["passed"] is True
    assert edgekit("verify", compressed[0]).out.count("ok  ") == len(outcome.document["checks"])


def test_verify_needs_only_the_run_folder(network: Path, colours: Path, tmp_path: Path) -> None:
    model = Path(shutil.copy(network, tmp_path / "mine.onnx"))
    assert edgekit("compress", model, "--data", colours, "--out", tmp_path / "run", *QUICK).code == 0
    model.unlink()

    assert edgekit("verify", tmp_path / "run").code == 0


def test_verify_names_the_layer_of_a_flipped_weight(run_copy: Path) -> None:
    path = run_copy / "model.onnx"
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] ^= 0x40
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)

    outcome = edgekit("verify", run_copy, "--json")

    assert outcome.code == 1
    assert failed_checks(outcome)["TFLite and ONNX hold the same integers"] == "stem"


def test_verify_names_the_first_layer_when_a_file_is_of_another_quantization(
    run_copy: Path, network: Path, colours: Path, tmp_path: Path
) -> None:
    other = edgekit("compress", network, "--bits", "4", "--data", colours, "--out", tmp_path / "other", *QUICK)
    assert other.code == 0, other.err
    shutil.copy(tmp_path / "other" / "model.tflite", run_copy / "model.tflite")

    outcome = edgekit("verify", run_copy, "--json")

    assert outcome.code == 1
    assert failed_checks(outcome)["TFLite and ONNX hold the same integers"] == "stem"


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_verify_names_the_layer_left_in_float(run_copy: Path, name: str) -> None:
    assert edgekit("export", run_copy / "float.onnx", "--out", run_copy / name).code == 0

    outcome = edgekit("verify", run_copy)

    assert outcome.code == 1
    title = "TFLite" if name.endswith("tflite") else "ONNX"
    line = next(line for line in outcome.out.splitlines() if f"{title} is integer throughout" in line)
    assert line.startswith("FAIL")
    assert re.search(r"\(layer \S+\)$", line)


def test_max_drop_is_a_bar_with_a_layer(run_copy: Path) -> None:
    outcome = edgekit("verify", run_copy, "--max-drop", "-1", "--json")

    assert outcome.code == 1
    missed = failed_checks(outcome)
    assert missed.keys() == {"ONNX keeps the accuracy", "TFLite keeps the accuracy"}
    assert set(missed.values()) <= {"stem", "dw", "fc"}


def test_missed_bar_leaves_the_files_and_the_report(network: Path, colours: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"

    outcome = edgekit("compress", network, "--data", colours, "--out", run_dir, "--max-drop", "-1", *QUICK)

    assert outcome.code == 1
    assert {path.name for path in run_dir.iterdir()} == FILES
    assert "keeps the accuracy" in outcome.out


def test_second_run_into_the_folder_replaces_the_first(run_copy: Path, network: Path, colours: Path) -> None:
    before = (run_copy / "model.tflite").read_bytes()
    (run_copy / "notes.txt").write_text("mine")

    outcome = edgekit("compress", network, "--bits", "5", "--data", colours, "--out", run_copy, *QUICK)

    assert outcome.code == 0, outcome.err
    assert (run_copy / "model.tflite").read_bytes() != before
    assert {path.name for path in run_copy.iterdir()} == FILES | {"notes.txt"}
    assert edgekit("verify", run_copy).code == 0


def test_run_folder_is_a_model_again(compressed: tuple[Path, Outcome], tmp_path: Path) -> None:
    outcome = edgekit("compress", compressed[0], "--out", tmp_path / "again", *QUICK)

    assert outcome.code == 0, outcome.err
    assert load_recipe(tmp_path / "again" / "recipe.toml").data == load_recipe(compressed[0] / "recipe.toml").data
    assert (tmp_path / "again" / "model.tflite").read_bytes() == (compressed[0] / "model.tflite").read_bytes()


def test_float_io_takes_floats(network: Path, colours: Path, tmp_path: Path) -> None:
    outcome = edgekit("compress", network, "--data", colours, "--out", tmp_path / "run", "--float-io", *QUICK)

    assert outcome.code == 0, outcome.err
    loaded = load_interpreter(tmp_path / "run" / "model.tflite")
    assert (loaded.input.dtype, loaded.output.dtype) == ("float32", "float32")


def test_verbose_tells_the_stages(network: Path, colours: Path, tmp_path: Path) -> None:
    outcome = edgekit("compress", network, "--data", colours, "--out", tmp_path / "run", "--verbose", *QUICK)

    stages = [line.split()[0] for line in outcome.err.splitlines() if "peak" in line]
    assert stages == ["load", "calibrate", "quantize", "export", "pack", "verify", "latency"]


def test_broken_pictures_are_named_counted_and_left_out(network: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    for index in range(24):
        paint(folder / f"{index:02}.png", (200, 40 + index, 40), seed=index)
    whole = (folder / "03.png").read_bytes()
    (folder / "03.png").write_bytes(whole[: len(whole) // 2])
    recipe = ("--no-bench", "--json")

    outcome = edgekit("compress", network, "--data", folder, "--out", tmp_path / "run", *recipe)

    assert outcome.code == 0, outcome.err
    assert "left out: unreadable picture" in outcome.err
    assert "03.png" in outcome.err
    assert 0 < outcome.document["dataset"]["n"] < 24


STAGES = ("quantize", "pack_file", "verify", "write_report")


@pytest.mark.parametrize("stage", STAGES)
def test_interrupt_leaves_nothing_behind(
    network: Path, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def interrupt(*_arguments: object, **_options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(pipeline, stage, interrupt)

    outcome = edgekit("compress", network, "--data", colours, "--out", tmp_path / "runs" / "run", *QUICK)

    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.splitlines()[-1] == "interrupted; nothing half-written is left behind"
    assert list(tmp_path.iterdir()) == []


def test_interrupt_leaves_the_run_before_as_it_was(
    run_copy: Path, network: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in run_copy.iterdir()}
    monkeypatch.setattr(pipeline, "write_report", lambda *_: signal.raise_signal(signal.SIGINT))

    outcome = edgekit("compress", network, "--bits", "5", "--data", colours, "--out", run_copy, *QUICK)

    assert outcome.code == 130
    assert {path.name: path.read_bytes() for path in run_copy.iterdir()} == before


def test_full_disk_leaves_nothing_behind(
    network: Path, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, num_calls = os.fsync, 0

    def fill_up(descriptor: int) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fill_up)

    outcome = edgekit("compress", network, "--data", colours, "--out", tmp_path / "runs" / "run", *QUICK)

    assert_fails(outcome, 3, "No space left on device", "--out")
    assert list(tmp_path.iterdir()) == []


def test_output_below_a_file_is_refused_before_the_work(
    network: Path, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(pipeline, "quantize", lambda *_: pytest.fail("worked for nothing"))

    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        assert_fails(edgekit("compress", network, "--data", colours, "--out", out, *QUICK), 3, str(out))

    assert (tmp_path / "file").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_open_height_and_width_ask_for_the_size(colours: Path, tmp_path: Path) -> None:
    path = write_network(tmp_path / "open.onnx", size="s")

    assert_fails(edgekit("compress", path, "--data", colours, "--out", tmp_path / "run"), 2, "--input-size")
    outcome = edgekit(
        "compress", path, "--data", colours, "--input-size", "24", "--out", tmp_path / "run", "--json", *QUICK
    )
    assert outcome.code == 0, outcome.err
    assert outcome.document["input_shape"] == [1, 3, 24, 24]
