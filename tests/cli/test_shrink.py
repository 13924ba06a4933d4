"""`edgekit compress --prune --prune-channels --share --code` from the outside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_network import QUICK
from command_line import Outcome, edgekit
from edgekit.encode.classic_reading import decode_classic
from edgekit.export.stored import read_stored
from edgekit.models.checkpoint import load_checkpoint
from edgekit.shrink import finetuning
from toy_pictures import write_mnist

TRAINING = ("--set", "train.batch_size=20", "--set", "train.learning_rate=0.05")
pytestmark = pytest.mark.slow  # they train

LOOSE = ("--max-drop", "100", *QUICK)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with toy MNIST files, which `--data mnist` finds."""
    folder = tmp_path_factory.mktemp("data")
    write_mnist(folder, num_train=200, num_test=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def trained(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MobileNet V1, trained for two epochs on toy pictures."""
    del toy
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    done = edgekit(
        "train", "mobilenet_v1", "--width", "0.125", "--data", "mnist", "--epochs", "2", "--out", run_dir, *TRAINING
    )
    assert done.code == 0, done.err
    return run_dir


def weights_of(run_dir: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Layer -> integers of the weights in a run's TFLite file."""
    stored = read_stored(run_dir / "model.tflite")
    names = {row["name"] for row in report_of(run_dir)["layers"]}
    return {name: stored.constants[f"{name}.weight"].values for name in names}


def report_of(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "report.json").read_text())


def shrink(trained: Path, out: Path, *arguments: str) -> Outcome:
    return edgekit("compress", trained, "--out", out, "--epochs", "1", *arguments, *LOOSE)


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """Pruned, shared, coded the classic way."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    outcome = shrink(trained, run_dir, "--prune", "0.7", "--share", "4/3", "--code", "huffman")
    assert outcome.code == 0, outcome.err + outcome.out
    return run_dir, outcome


def test_three_stages_hold_in_the_exported_file(whole: tuple[Path, Outcome]) -> None:
    run_dir, _ = whole
    weights = weights_of(run_dir)
    zeros = sum(int((values == 0).sum()) for values in weights.values())

    assert zeros >= 0.7 * sum(values.size for values in weights.values())
    assert len(np.unique(weights["classifier"])) <= 8
    rows = {row["layer"]: row for row in report_of(run_dir)["shrink"]["coding"]}
    for name, values in weights.items():
        limit = rows[name]["max_levels"]
        assert rows[name]["num_levels"] == len(np.unique(values))
        assert limit is None or rows[name]["num_levels"] <= limit
    assert rows["classifier"]["max_levels"] == 8
    depthwise = [name for name, values in weights.items() if values.shape[1:] == (1, 3, 3) and name != "features.0.0"]
    assert all(rows[name]["max_levels"] is None for name in depthwise)


def test_classic_coding_holds_the_same_integers(whole: tuple[Path, Outcome]) -> None:
    run_dir, _ = whole
    weights = weights_of(run_dir)

    layers = decode_classic((run_dir / "model.dc").read_bytes())

    assert {layer.name for layer in layers} == weights.keys()
    assert all(np.array_equal(layer.weights, weights[layer.name]) for layer in layers)
    total = report_of(run_dir)["shrink"]["coding"][-1]
    assert total["classic_bytes"] == (run_dir / "model.dc").stat().st_size


def test_run_says_what_was_planned_and_what_came_of_it(whole: tuple[Path, Outcome]) -> None:
    run_dir, outcome = whole

    assert "plan: 70.0 % of the weights become zero" in outcome.err
    assert "classifier: at most 8 values" in outcome.err
    assert "Zeros save download size, not time" in " ".join(outcome.out.split())  # lines break anywhere
    section = report_of(run_dir)["shrink"]
    assert section["num_epochs"] == 2
    assert section["original"]["ekz_bytes"] > report_of(run_dir)["sizes"]["ekz_bytes"]
    page = (run_dir / "report.html").read_text()
    assert "Pruned, shared, coded" in page
    names = {check["name"] for check in report_of(run_dir)["checks"]}
    assert {"TFLite keeps the original's accuracy", "planned zeros are zeros in the file"} <= names
    assert "shared layers have no more values than they may" in names


def test_only_the_run_folder_is_left(whole: tuple[Path, Outcome]) -> None:
    run_dir, _ = whole

    assert [path.name for path in run_dir.parent.iterdir()] == [run_dir.name]
    assert {"checkpoint.safetensors", "checkpoint.json", "model.dc"} <= {path.name for path in run_dir.iterdir()}


def test_verify_takes_the_shrunk_model_for_float(whole: tuple[Path, Outcome]) -> None:
    assert edgekit("verify", whole[0], "--max-drop", "100").code == 0


def test_same_recipe_gives_the_same_file(whole: tuple[Path, Outcome], tmp_path: Path) -> None:
    again = edgekit("compress", "--recipe", whole[0] / "recipe.toml", "--out", tmp_path / "again", "--no-bench")

    assert again.code == 0, again.err
    assert (tmp_path / "again" / "model.tflite").read_bytes() == (whole[0] / "model.tflite").read_bytes()


def test_resumed_run_gives_the_same_file(
    whole: tuple[Path, Outcome], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = finetuning.train
    asked = ("--prune", "0.7", "--share", "4/3", "--code", "huffman")

    def interrupted(recipe: Any, run_dir: Path, **settings: Any) -> Any:
        if run_dir.name == "shared":
            raise KeyboardInterrupt
        return real(recipe, run_dir, **settings)

    monkeypatch.setattr(finetuning, "train", interrupted)
    stopped = shrink(trained, tmp_path / "run", *asked)
    assert stopped.code == 130
    assert "--resume" in stopped.err
    trained_again: list[str] = []

    def watched(recipe: Any, run_dir: Path, **settings: Any) -> Any:
        trained_again.extend(str(row) for row in ([] if (run_dir / "checkpoint.json").exists() else [run_dir.name]))
        return real(recipe, run_dir, **settings)

    monkeypatch.setattr(finetuning, "train", watched)
    resumed = shrink(trained, tmp_path / "run", "--resume", *asked)

    assert resumed.code == 0, resumed.err
    assert trained_again == ["shared"]
    assert (tmp_path / "run" / "model.tflite").read_bytes() == (whole[0] / "model.tflite").read_bytes()
    assert not (tmp_path / "run.work").exists()


@pytest.mark.parametrize("importance", ["magnitude", "taylor", "bn_scale"])
def test_pruned_channels_make_every_file_smaller(trained: Path, tmp_path: Path, importance: str) -> None:
    outcome = shrink(trained, tmp_path / "run", "--prune-channels", "0.5", "--set", f"prune.importance={importance}")

    assert outcome.code == 0, outcome.err
    report = report_of(tmp_path / "run")
    before = report["shrink"]["original"]
    assert report["macs"] < 0.8 * before["macs"]
    assert report["num_params"] < before["num_params"]
    assert report["sizes"]["tflite_bytes"] < before["tflite_bytes"]
    assert "multiply-accumulates" in outcome.err
    module, card = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert sum(each.numel() for each in module.parameters()) == report["num_params"]
    assert card.widths
    assert all(group["num_kept"] % 8 == 0 for group in report["shrink"]["channels"] if group["reason"] is None)


def test_shrunk_run_can_be_compressed_again(whole: tuple[Path, Outcome], tmp_path: Path) -> None:
    outcome = edgekit("compress", whole[0], "--bits", "6", "--out", tmp_path / "again", *LOOSE)

    assert outcome.code == 0, outcome.err
    assert report_of(tmp_path / "again")["shrink"] is None


def test_pattern_leaves_two_of_four(trained: Path, tmp_path: Path) -> None:
    outcome = shrink(trained, tmp_path / "run", "--prune", "2:4")

    assert outcome.code == 0, outcome.err
    for name, values in weights_of(tmp_path / "run").items():
        rows = np.moveaxis(values, 1, -1)
        if rows.shape[-1] % 4 == 0 and name != "features.0.0":
            assert ((rows.reshape(-1, 4) != 0).sum(axis=1) <= 2).all(), name


def test_weights_without_their_pictures_are_pruned_as_they_are(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for index in range(12):
        import cv2

        cv2.imwrite(str(folder / f"{index}.png"), np.random.default_rng(index).integers(0, 255, (28, 28), np.uint8))
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "nothing"))

    outcome = shrink(trained, tmp_path / "run", "--prune", "0.5", "--data", str(folder))

    assert outcome.code in {0, 1}, outcome.err
    assert "without fine-tuning" in outcome.err
    assert report_of(tmp_path / "run")["shrink"]["sparsity"] >= 0.5


def test_gradients_need_pictures(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Path(shutil.copytree(trained, tmp_path / "model"))
    monkeypatch.setattr(finetuning, "open_at_hand", lambda _names, _split: iter(()))

    outcome = shrink(pictures, tmp_path / "run", "--prune-channels", "0.5", "--set", "prune.importance=taylor")

    assert_fails_after_plans(outcome, "gradients need labelled training pictures")


def assert_fails_after_plans(outcome: Outcome, word: str) -> None:
    assert outcome.code == 2
    assert any(line.startswith("error: ") and word in line for line in outcome.err.splitlines())
