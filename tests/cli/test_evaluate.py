"""`edgekit evaluate` on files, runs, bundles and torch weights."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from cli_network import COLOURS, paint
from command_line import Outcome, assert_fails, edgekit
from edgekit.report.evaluation_files import read_evaluation


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model.ekz", "float.onnx"])
def test_every_kind_of_file_is_measured_alike(compressed: tuple[Path, Outcome], colours: Path, name: str) -> None:
    found = edgekit("evaluate", compressed[0] / name, "--data", colours, "--json")

    assert found.code == 0, found.err
    one = found.document["model"]
    assert one["about"]["file"] == name
    assert one["scores"]["accuracy"]["top1"] == one["scores"]["averages"]["auc"] == 1.0
    assert [row["recall"] for row in one["scores"]["classes"]] == [1.0] * 3


def test_bundle_answers_as_the_file_in_it(compressed: tuple[Path, Outcome], colours: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "kitchen.ekb"
    assert edgekit("bundle", compressed[0], "--for", "host_cpu", "--out", bundle).code == 0

    found = edgekit("evaluate", bundle, "--vs", compressed[0], "--data", colours, "--json")

    assert found.code == 0, found.err
    assert found.document["model"]["about"]["file"] == "kitchen.ekb: model.ekz"
    assert found.document["model"]["scores"] == found.document["other"]["scores"]
    assert found.document["comparison"]["same_answer"] == 1.0


def test_torch_weights_stand_beside_the_embedded_ones_of_another(tmp_path: Path) -> None:
    out = tmp_path / "evaluated"
    arguments = ("evaluate", "mobilenet", "--vs", "squeezenet", "--data", "fashion_mnist_mini", "--pictures", "64")
    found = edgekit(*arguments, "--top", "3", "--out", out)

    assert found.code == 0, found.err
    written = read_evaluation(out)
    assert written.model.about.runtime.startswith("torch ")
    assert (written.model.about.file, written.dataset.n) == (None, 64)
    assert [row.k for row in written.model.scores.top_k] == [1, 3, 5]
    assert written.comparison is not None
    cells = written.comparison
    assert cells.num_both_right + cells.num_only_first + cells.num_only_second + cells.num_both_wrong == 64
    assert written.command.startswith("edgekit evaluate mobilenet --vs squeezenet")
    assert str(out / "evaluate.html") in found.out


def test_some_pictures_are_drawn_from_all_classes(compressed: tuple[Path, Outcome], colours: Path) -> None:
    arguments = ("evaluate", compressed[0], "--data", colours, "--pictures", "12", "--json")
    first, second = edgekit(*arguments).document, edgekit(*arguments).document

    counts = [row["num_pictures"] for row in first["model"]["scores"]["classes"]]
    assert sum(counts) == first["dataset"]["n"] == 12
    assert min(counts) > 0
    assert first["model"] == second["model"]


def test_imbalance_puts_balanced_accuracy_first(compressed: tuple[Path, Outcome], tmp_path: Path) -> None:
    counts = {"blue": 60, "green": 4, "red": 4}
    for index, (name, rgb) in enumerate({"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}.items()):
        for number in range(counts[name]):
            paint(tmp_path / "test" / name / f"{number}.png", rgb, seed=1000 * index + number)

    found = edgekit("evaluate", compressed[0], "--data", tmp_path)

    assert found.code == 0, found.err
    said = " ".join(found.out.split())  # a folder keeps some pictures for calibration, so the counts are its own
    assert re.search(r"unevenly filled: blue has \d+\.\d times the pictures of (green|red), and always", said)
    assert "the mean over classes, leads." in said
    assert found.out.rstrip().splitlines()[-1].startswith("Balanced accuracy 100.0 %")


def test_picture_of_one_pixel_is_left_out_as_an_unreadable_one(
    compressed: tuple[Path, Outcome], tmp_path: Path
) -> None:
    for name, rgb in {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}.items():
        for number in range(3):
            paint(tmp_path / "test" / name / f"{number}.png", rgb, seed=number, size=5)
        paint(tmp_path / "train" / name / "0.png", rgb, seed=9)
    paint(tmp_path / "test" / "red" / "dot.png", (200, 40, 40), seed=0, size=1)

    found = edgekit("evaluate", compressed[0], "--data", tmp_path, "--json")

    assert found.code == 0, found.err
    assert (found.document["dataset"]["n"], found.document["dataset"]["num_left_out"]) == (9, 1)
    assert "dot.png: 1x1 pixels, a picture has 3x3 or more" in found.err


def test_wrong_use_is_one_line(compressed: tuple[Path, Outcome], colours: Path, tmp_path: Path) -> None:
    run_dir = compressed[0]
    assert_fails(edgekit("evaluate", run_dir, "--data", colours, "--top", "4"), 2, "top-4 of 3 classes", "1 to 3")
    assert_fails(edgekit("evaluate", run_dir, "--data", colours, "--top", "0"), 2, "top-0 of 3 classes")
    assert_fails(edgekit("evaluate", run_dir, "--data", "fashion_mnist_mini"), 2, "has 10 classes, the model 3")
    assert_fails(edgekit("evaluate", run_dir, "--vs", "mobilenet", "--data", colours), 2, "3 classes, the model 10")
    twice = edgekit("evaluate", run_dir, "--vs", run_dir, "--vs", run_dir, "--data", colours)
    assert_fails(twice, 2, "--vs is given 2 times", "add --robustness, which takes any number")
    assert_fails(edgekit("evaluate", "mobilnet_v9", "--data", colours), 2, "mobilnet_v9")
    assert_fails(edgekit("evaluate", tmp_path / "none.ekb", "--data", colours), 2, "no bundle at")
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(next(colours.rglob("*.png")), flat)
    assert_fails(edgekit("evaluate", run_dir, "--data", flat), 2, "has no labels")


def test_class_without_pictures_in_the_test_set_is_named_and_left_out_of_means(
    compressed: tuple[Path, Outcome], tmp_path: Path
) -> None:
    for index, (name, rgb) in enumerate(COLOURS.items()):
        paint(tmp_path / "train" / name / "0.png", rgb, seed=index)
        for number in range(0 if name == "red" else 6):
            paint(tmp_path / "test" / name / f"{number}.png", rgb, seed=100 * index + number)

    found = edgekit("evaluate", compressed[0], "--data", tmp_path)

    assert found.code == 0, found.err
    said = " ".join(found.out.split())
    assert "1 class has no pictures here: red. Means leave classes without pictures out." in said
    scores = edgekit("evaluate", compressed[0], "--data", tmp_path, "--json").document["model"]["scores"]
    assert scores["averages"]["num_classes"] == 2
    assert scores["averages"]["balanced_accuracy"] == 1.0
    red = scores["classes"][2]
    assert (red["num_pictures"], red["recall"], red["auc"], red["false_positive_rate"]) == (0, None, None, 0.0)


def test_pictures_smaller_than_the_stem_are_enlarged_and_answered(
    compressed: tuple[Path, Outcome], tmp_path: Path
) -> None:
    for index, (name, rgb) in enumerate(COLOURS.items()):
        for number in range(4):
            paint(tmp_path / "test" / name / f"{number}.png", rgb, seed=100 * index + number, size=3)

    found = edgekit("evaluate", compressed[0], "--data", tmp_path, "--json")

    assert found.code == 0, found.err
    assert found.document["dataset"]["n"] > 0
    assert found.document["model"]["scores"]["accuracy"]["top1"] == 1.0


def test_pictures_of_one_pixel_are_refused_as_damaged(compressed: tuple[Path, Outcome], tmp_path: Path) -> None:
    for name, rgb in COLOURS.items():
        for number in range(4):
            paint(tmp_path / "test" / name / f"{number}.png", rgb, seed=number, size=1)

    found = edgekit("evaluate", compressed[0], "--data", tmp_path)

    assert found.code == 2
    assert "1x1 pixels, a picture has 3x3 or more" in found.err


def test_class_folder_missing_in_the_test_set_leaves_the_others_theirs(
    compressed: tuple[Path, Outcome], colours: Path, tmp_path: Path
) -> None:
    lacking = Path(shutil.copytree(colours, tmp_path / "lacking"))
    shutil.rmtree(lacking / "green")

    found = edgekit("evaluate", compressed[0], "--data", lacking, "--json")

    assert found.code == 0, found.err
    scores = found.document["model"]["scores"]
    assert scores["accuracy"]["top1"] == 1.0
    assert [(row["name"], row["recall"]) for row in scores["classes"]] == [("blue", 1.0), ("green", None), ("red", 1.0)]


def test_class_folder_that_the_model_does_not_know_is_a_clear_error(
    compressed: tuple[Path, Outcome], colours: Path, tmp_path: Path
) -> None:
    foreign = Path(shutil.copytree(colours, tmp_path / "foreign"))
    (foreign / "green").rename(foreign / "grey")
    assert_fails(edgekit("evaluate", compressed[0], "--data", foreign), 2, "class 1 is 'grey', the model's 'green'")
    (foreign / "grey").rename(foreign / "red" / "deeper")
    (foreign / "blue").rename(foreign / "azure")
    assert_fails(edgekit("evaluate", compressed[0], "--data", foreign), 2, "has 2 classes, the model 3")
