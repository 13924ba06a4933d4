"""`edgekit evaluate --robustness` on files, runs and torch weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli_network import QUICK, paint, write_network
from command_line import Outcome, assert_fails, edgekit
from edgekit.report.robustness_files import read_robustness

FEW = ("--robustness", "--pictures", "18", "--attacked", "6", "--queries", "20", "--epsilon", "8/255", "--epsilon", "1")


@pytest.fixture(scope="module")
def measured(
    compressed: tuple[Path, Outcome], colours: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """Folder and outcome of a run's robustness."""
    out = tmp_path_factory.mktemp("robust")
    found = edgekit("evaluate", compressed[0], "--data", colours, *FEW, "--out", out)
    assert found.code == 0, found.err
    return out, found


def figures(document: Any) -> dict[str, Any]:
    """What was measured, without pictures, names and times."""
    kept = ("attacks", "fooling", "movements", "corruptions")
    return {key: document[key] for key in kept}


def test_run_stands_beside_its_origin(measured: tuple[Path, Outcome], compressed: tuple[Path, Outcome]) -> None:
    found = read_robustness(measured[0])

    assert [model.about.scheme for model in found.models] == ["float", "static_wi8_ai8"]
    assert found.models[1].about.given == str(compressed[0])
    assert found.notes == ("The float model is the run's float.onnx.",)
    assert found.has_gradient
    assert [(sweep.kind, sweep.attacked) for sweep in found.attacks] == [
        ("fgsm", 0), ("pgd", 0), ("square", 0), ("square", 1)
    ]  # fmt: skip
    assert [fooling.method for fooling in found.fooling] == ["evolved", "optimized"]
    assert len(found.corruptions) == 15
    assert [sweep.name for sweep in found.movements] == ["translation", "rotation", "scale"]
    assert {shown.section for shown in found.shown} >= {"attacks", "movements", "corruptions"}
    assert len([shown for shown in found.shown if shown.section == "corruptions"]) == 15
    assert found.command.startswith("edgekit evaluate ")
    assert [model.balanced_accuracy for model in found.models] == [1.0, 1.0]
    assert found.balance is not None
    assert (found.balance.is_imbalanced, found.balance.missing) == (False, ())


def test_epsilon_0_changes_nothing_and_1_everything(measured: tuple[Path, Outcome]) -> None:
    found = read_robustness(measured[0])

    for sweep in found.attacks:
        assert [level.amount for level in sweep.levels] == [0.0, 8 / 255, 1.0]
        assert [outcome.top1 for outcome in sweep.levels[0].outcomes] == [1.0, 1.0]
        assert [outcome.flipped for outcome in sweep.levels[0].outcomes] == [0.0, 0.0]
    pgd = found.attacks[1]
    assert pgd.levels[2].outcomes[0].top1 == 0.0


def test_terminal_tells_what_was_found(measured: tuple[Path, Outcome]) -> None:
    out, outcome = measured

    said = " ".join(outcome.out.split())
    assert "mean corruption error" in said
    assert "Gaussian noise" in said
    assert "PGD on" in said
    assert "On corrupted pictures" in said
    assert str(out / "robustness.html") in outcome.out
    assert (out / "robustness.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_model_against_itself_has_equal_figures(compressed: tuple[Path, Outcome], colours: Path) -> None:
    file = compressed[0] / "float.onnx"
    document = edgekit("evaluate", file, "--float", file, "--data", colours, *FEW, "--json").document

    first, second = document["models"]
    assert {**first, "about": None} == {**second, "about": None}
    assert second["mean_error"] in (None, pytest.approx(100))
    assert (second["difference"], second["difference_ci95"]) == (0.0, [0.0, 0.0])
    sweeps = [*document["attacks"], *document["movements"], *document["corruptions"]]
    for level in (level for sweep in sweeps for level in sweep["levels"]):
        assert level["outcomes"][0] == level["outcomes"][1]
        assert level["outcomes"][1]["agreement"] == 1.0
    squares = [sweep["levels"] for sweep in document["attacks"] if sweep["kind"] == "square"]
    assert squares[0] == squares[1]
    for fooling in document["fooling"]:
        assert fooling["fooled"][0] == fooling["fooled"][1]
        assert fooling["fooled"][0]["num_sure"] == fooling["num_fooling"]


def test_same_command_gives_the_same_figures(
    measured: tuple[Path, Outcome], compressed: tuple[Path, Outcome], colours: Path
) -> None:
    again = edgekit("evaluate", compressed[0], "--data", colours, *FEW, "--json").document

    assert figures(json.loads((measured[0] / "robustness.json").read_text(encoding="utf-8"))) == figures(again)


def test_file_alone_runs_what_needs_no_gradient_and_says_so(
    compressed: tuple[Path, Outcome], colours: Path, tmp_path: Path
) -> None:
    file = Path(shutil.copy(compressed[0] / "model.tflite", tmp_path / "alone.tflite"))
    document = edgekit("evaluate", file, "--data", colours, *FEW, "--json").document

    assert document["has_gradient"] is False
    assert [sweep["kind"] for sweep in document["attacks"]] == ["square"]
    assert [fooling["method"] for fooling in document["fooling"]] == ["evolved"]
    assert "name the model before compression by --float" in document["notes"][0]


@pytest.mark.parametrize("flag", ["--float", "--vs"])
def test_float_model_of_a_file_is_named(
    compressed: tuple[Path, Outcome], colours: Path, network: Path, tmp_path: Path, flag: str
) -> None:
    file = Path(shutil.copy(compressed[0] / "model.ekz", tmp_path / "alone.ekz"))
    document = edgekit("evaluate", file, flag, network, "--data", colours, *FEW, "--json").document

    assert [model["about"]["given"] for model in document["models"]] == [str(network), str(file)]
    assert document["has_gradient"] is True


def test_origin_that_is_gone_is_replaced_by_the_runs_float_file(
    compressed: tuple[Path, Outcome], colours: Path, network: Path, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(compressed[0], tmp_path / "run"))
    recipe = (run_dir / "recipe.toml").read_text(encoding="utf-8")
    (run_dir / "recipe.toml").write_text(recipe.replace(str(network), str(tmp_path / "gone")), encoding="utf-8")
    document = edgekit("evaluate", run_dir / "model.tflite", "--data", colours, *FEW, "--json").document

    (note,) = document["notes"]
    assert note.startswith("The run's origin cannot be loaded (")
    assert note.endswith("so its float.onnx, what was compressed, is the float model.")
    assert document["models"][0]["about"]["given"] == str(run_dir / "float.onnx")
    assert document["has_gradient"] is True


def test_other_files_stand_beside_run_and_origin(
    compressed: tuple[Path, Outcome], colours: Path, tmp_path: Path
) -> None:
    names = ("model.onnx", "model.ekz")
    beside = [Path(shutil.copy(compressed[0] / name, tmp_path / f"other{Path(name).suffix}")) for name in names]
    out = tmp_path / "out"
    arguments = ("evaluate", compressed[0], "--vs", beside[0], "--vs", beside[1], "--data", colours)
    found = edgekit(*arguments, *FEW, "--out", out)

    assert found.code == 0, found.err
    models = read_robustness(out).models
    assert [model.about.scheme for model in models] == ["float", *["static_wi8_ai8"] * 3]
    assert [model.about.given for model in models[1:]] == [str(compressed[0]), *map(str, beside)]
    page = (out / "robustness.html").read_text(encoding="utf-8")
    assert "other.onnx" in page
    assert "other.ekz" in page


def test_reference_sets_what_errors_are_relative_to(
    measured: tuple[Path, Outcome], compressed: tuple[Path, Outcome], colours: Path
) -> None:
    arguments = ("evaluate", compressed[0], "--data", colours, *FEW, "--reference", measured[0], "--json")
    document = edgekit(*arguments).document

    found = read_robustness(measured[0])
    assert document["reference"] == found.models[0].about.given
    assert [sweep["error"] for sweep in document["corruptions"]] == [list(sweep.error) for sweep in found.corruptions]
    other = edgekit("evaluate", compressed[0], "--data", colours, *FEW, "--pictures", "9", "--reference", measured[0])
    assert_fails(other, 2, "the reference was measured on 1", "this is on 9")


def test_wrong_use_is_one_line(compressed: tuple[Path, Outcome], colours: Path, tmp_path: Path) -> None:
    run_dir = compressed[0]
    base = ("evaluate", run_dir, "--data", colours)
    assert_fails(edgekit(*base, "--epsilon", "8/255"), 2, "--epsilon says nothing without --robustness")
    assert_fails(edgekit(*base, "--float", run_dir), 2, "--float says nothing without --robustness")
    assert_fails(edgekit(*base, "--robustness", "--top", "2"), 2, "--top does not go with --robustness")
    for text, words in {
        "-0.1": "outside 0 to 1",
        "1.5": "outside 0 to 1",
        "256/255": "outside",
        "1/0": "no number",
        "x": "no number",
    }.items():
        assert_fails(edgekit(*base, "--robustness", f"--epsilon={text}"), 2, "epsilon", words)
    assert_fails(edgekit(*base, "--robustness", "--reference", tmp_path), 2, "no report at")
    assert_fails(edgekit(*base, "--robustness", "--vs", "mobilenet"), 2, "they cannot be shown the same pictures")
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(next(colours.rglob("*.png")), flat)
    assert_fails(edgekit("evaluate", run_dir, "--data", flat, *FEW), 2, "has no labels")


def test_input_smaller_than_the_kernels_is_a_clear_error(tmp_path: Path) -> None:
    tiny = write_network(tmp_path / "tiny.onnx", size=4)
    pictures = tmp_path / "pictures"
    for label, name in enumerate(("blue", "green", "red")):
        for number in range(8):
            paint(pictures / "test" / name / f"{number}.png", (40, 40, 200), seed=10 * label + number)
    run_dir = tmp_path / "run"
    assert edgekit("compress", tiny, "--data", pictures, "--out", run_dir, *QUICK).code in {0, 1}
    found = edgekit("evaluate", run_dir, "--data", pictures, *FEW)

    assert_fails(found, 2, "needs pictures of at least 8 pixels, got [4, 4]")


@pytest.mark.slow
def test_run_of_trained_weights_stands_beside_them(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    quick = ("--no-bench", "--set", "verify.num_pictures=50", "--set", "quantize.num_calibration=16")
    assert edgekit("compress", "squeezenet", "--out", run_dir, "--quiet", *quick).code in {0, 1}
    arguments = ("evaluate", run_dir, "--data", "fashion_mnist_mini", "--robustness", "--pictures", "20")
    document = edgekit(*arguments, "--attacked", "5", "--queries", "5", "--epsilon", "4/255", "--json").document

    assert [model["about"]["given"] for model in document["models"]] == ["squeezenet", str(run_dir)]
    assert document["notes"] == ["The float model is the run's origin, squeezenet."]


@pytest.mark.slow
def test_trained_weights_are_measured_alone() -> None:
    arguments = ("evaluate", "mobilenet", "--data", "fashion_mnist_mini", "--robustness", "--pictures", "20")
    found = edgekit(*arguments, "--attacked", "5", "--queries", "5", "--epsilon", "4/255", "--json")

    assert found.code == 0, found.err
    (model,) = found.document["models"]
    assert model["mean_error"] == pytest.approx(100)
    assert found.document["has_gradient"] is True
