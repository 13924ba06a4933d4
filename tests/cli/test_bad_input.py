"""What users get wrong: each is one clear error line, a hint, the right exit code, and nothing left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image

from cli_network import QUICK, paint, write_network
from command_line import Outcome, assert_fails, edgekit
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard, save_checkpoint
from edgekit.models.zoo import build_model


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run where there is nothing, so that what they leave is seen."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def nothing_left(empty_folder: Path):  # noqa: ANN201 - a generator fixture
    yield
    assert list(empty_folder.iterdir()) == []


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Random weights of a small MobileNet V1, with their card."""
    options = BuildOptions(variant="mobilenet_v1", width=0.25, num_classes=3, input_size=32)
    card = CheckpointCard(
        options=options,
        labels=("blue", "green", "red"),
        preprocess=PreprocessSpec(input_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3),
        dataset="colours",
        num_epochs=1,
    )
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, build_model(options).state_dict(), card)
    return path


UNTRAINED = ("compress", "mobilenet_v1", "--untrained")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compress"], ["no model named", "edgekit compress mobilenet"]),
        (["compress", "mobilnet_v2", "--untrained"], ["mobilnet_v2", "did you mean 'mobilenet_v2'?"]),
        (["compress", "shufflenet_v2_x0_7", "--untrained"], ["shufflenet_v2_x0_7", "did you mean 'shufflenet_v2_x"]),
        ([*UNTRAINED, "--data", "fashion_mnst"], ["fashion_mnst", "did you mean 'fashion_mnist"]),
        ([*UNTRAINED, "--data", "no/such/folder"], ["no folder no/such/folder", "edgekit data list"]),
        ([*UNTRAINED, "--set", "quantise.scheme=static_wi8_ai8"], ["quantise", "did you mean 'quantize'?"]),
        ([*UNTRAINED, "--set", "quantize.percentil=99"], ["percentil", "did you mean 'percentile'?"]),
        ([*UNTRAINED, "--set", "quantize.percentile=tall"], ["--set", "percentile"]),
        ([*UNTRAINED, "--set", "percentile"], ["section.key=value", "--set train.epochs=5"]),
        ([*UNTRAINED, "--set", "quantize.num_calibration=0"], ["num_calibration", ">= 1"]),
        ([*UNTRAINED, "--set", "verify.num_pictures=-1"], ["num_pictures", ">= 1"]),
        ([*UNTRAINED, "--set", "quantize.scheme=static_w8_a8"], ["static_w8_a8", "static_wi8_ai8"]),
        ([*UNTRAINED, "--set", "quantize.scheme=dynamic_wi8_ai8"], ["dynamic_wi8_ai8", "static_wi8_ai8"]),
        ([*UNTRAINED, "--recipe", "none.toml"], ["no recipe at none.toml"]),
        ([*UNTRAINED, "--bits", "7.5"], ["--bits", "7.5"]),
        ([*UNTRAINED, "--bits", "32"], ["--bits", "32"]),
        ([*UNTRAINED, "--bits", "eight"], ["--bits", "eight"]),
        ([*UNTRAINED, "--width", "0"], ["width 0", "more than 0"]),
        ([*UNTRAINED, "--width", "-1"], ["width -1", "more than 0"]),
        ([*UNTRAINED, "--input-size", "3"], ["input size 3", "24 to 1024"]),
        (["compress", "mobilenet_v1"], ["no weights at hand for mobilenet_v1", "--untrained"]),
        (["compress", "model.onnx"], ["model.onnx", "No such file"]),
        (["compress", "model.h5"], [".h5", "ONNX"]),
        (["compress", "model.tflite"], ["TFLite", ".onnx"]),
        (["export", "mobilenet_v1", "--untrained", "--out", "x.pb"], ["format '.pb'", ".onnx"]),
        (["export", "mobilenet_v1", "--untrained", "--out", "x.tflit"], ["did you mean '.tflite'?"]),
        (["verify", "."], ["no run folder", "edgekit compress"]),
        (["report", "nowhere"], ["no report at nowhere/report.json", "edgekit compress"]),
        (["bench", "model.txt"], ["model.txt", ".tflite, .onnx or .ekz"]),
        (["bench", "."], ["holds no model.tflite"]),
        (["classify", "none.tflite", "a.png"], ["no model file at none.tflite"]),
        (["evaluate", "none.tflite", "--data", "fashion_mnist_mini"], ["no model file at none.tflite"]),
        (["data", "show", "fashion_mnist_mini", "--split", "tset"], ["split 'tset'", "did you mean 'test'?"]),
        (["data", "add", "mine", "nowhere"], ["nowhere"]),
        (["train", "mobilenet_v9", "--data", "fashion_mnist_mini"], ["mobilenet_v9", "did you mean 'mobilenet_v"]),
        (["train", "lenet5", "--data", "fashion_mnist_mini", "--epsilon", "0.1"], ["--epsilon", "--adversarial fgsm"]),
        (
            ["train", "lenet5", "--data", "fashion_mnist_mini", "--adversarial", "pgd", "--epsilon", "8"],
            ["--epsilon is 8, expected above 0 and at most 1"],
        ),
        (
            ["train", "lenet5", "--data", "fashion_mnist_mini", "--adversarial", "fgsm", "--epsilon", "0"],
            ["--epsilon is 0, expected above 0", "leave --adversarial out"],
        ),
    ],
    ids=lambda value: "_".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_argument_is_exit_code_2(arguments: list[str], words: list[str]) -> None:
    assert_fails(edgekit(*arguments), 2, *words)


def test_recipe_with_an_unknown_key_names_the_file_and_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[model]\nname = "mobilenet_v1"\n[data]\nname = "x"\n[verify]\nmax_dorp = 1\n')

    assert_fails(edgekit("compress", "--recipe", path), 2, "mine.toml", "max_dorp", "did you mean 'max_drop'?")


def test_empty_folder_is_no_data(network: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert_fails(edgekit("compress", network, "--data", tmp_path / "empty"), 2, "holds no pictures", "<class>")


def test_one_class_is_none_to_train(tmp_path: Path) -> None:
    for index in range(12):
        paint(tmp_path / "one" / "blue" / f"{index}.png", (0, 0, 255), seed=index)

    assert_fails(edgekit("train", "mobilenet_v1", "--data", tmp_path / "one"), 2, "at least 2 classes", "1 (blue)")


def test_odd_pictures_are_read_and_truncated_ones_named(network: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    for index in range(20):
        paint(folder / f"{index:02}.png", (40, 40 + 8 * index, 200), seed=index)
    deep = np.full((16, 16, 3), 40000, np.uint16)
    assert cv2.imwrite(str(folder / "deep.png"), deep)
    Image.new("CMYK", (16, 16), (10, 20, 30, 40)).save(folder / "print.jpg")
    content = (folder / "07.png").read_bytes()
    (folder / "07.png").write_bytes(content[:60])

    outcome = edgekit("compress", network, "--data", folder, "--out", tmp_path / "run", "--json", "--no-bench")

    assert outcome.code == 0, outcome.err
    named = [line for line in outcome.err.splitlines() if line.startswith("left out: ")]
    assert len(named) == 1
    assert str(folder / "07.png") in named[0]


def test_too_many_broken_pictures_end_the_run(network: Path, tmp_path: Path) -> None:
    for index in range(20):
        paint(tmp_path / "bad" / f"{index:02}.png", (40, 40, 200), seed=index)
        if index % 2:
            (tmp_path / "bad" / f"{index:02}.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    outcome = edgekit("compress", network, "--data", tmp_path / "bad")

    assert_fails(outcome, 2, "pictures are unreadable", "at most 1%", "01.png", "remove or repair")


def test_unsupported_operator_is_named_with_its_node(colours: Path, tmp_path: Path) -> None:
    path = write_network(tmp_path / "odd.onnx", op="Erf")

    assert_fails(edgekit("compress", path, "--data", colours), 2, "operator Erf", "'activation'")


def test_quantized_file_is_refused_as_input(compressed: tuple[Path, Outcome], colours: Path) -> None:
    path = compressed[0] / "model.onnx"

    assert_fails(edgekit("compress", path, "--data", colours), 2, "quantized already", "float model")


def test_garbage_is_no_onnx_file(tmp_path: Path, colours: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model at all")

    assert_fails(edgekit("compress", path, "--data", colours), 2, str(path))


def test_truncated_onnx_is_refused(network: Path, tmp_path: Path, colours: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(network.read_bytes()[:-200])

    assert_fails(edgekit("compress", path, "--data", colours), 2, str(path))


def test_not_finite_weights_are_named(network: Path, tmp_path: Path, colours: Path) -> None:
    model = onnx.load(network)
    values = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    values.flat[0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "stem.w"))
    path = tmp_path / "nan.onnx"
    onnx.save(model, path)

    outcome = edgekit("compress", path, "--data", colours, *QUICK)

    assert outcome.code == 2
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("switch", [("--width", "0.5"), ("--untrained",)])
def test_sizes_of_a_finished_model_cannot_be_chosen(network: Path, colours: Path, switch: tuple[str, ...]) -> None:
    assert_fails(edgekit("compress", network, "--data", colours, *switch), 2, switch[0], "finished model")


def test_model_without_pictures_asks_for_them(network: Path) -> None:
    assert_fails(edgekit("compress", network), 2, "does not say what it was trained on", "--data")


def test_pictures_of_other_classes_are_refused(network: Path, colours: Path, tmp_path: Path) -> None:
    assert_fails(edgekit("compress", network, "--data", "fashion_mnist_mini"), 2, "10 classes, the model 3")

    renamed = Path(shutil.copytree(colours, tmp_path / "renamed"))
    (renamed / "green").rename(renamed / "grass")
    run_dir = tmp_path / "run"
    assert edgekit("compress", network, "--data", colours, "--out", run_dir, *QUICK).code == 0
    for command in (["compress", str(run_dir)], ["evaluate", str(run_dir)]):
        assert_fails(edgekit(*command, "--data", renamed), 2, "'grass'", "'green'")


def test_checkpoint_of_another_architecture_is_refused(checkpoint: Path) -> None:
    card = checkpoint.with_suffix(".json")
    card.write_text(card.read_text().replace('"mobilenet_v1"', '"mobilenet_v2"'))

    assert_fails(edgekit("compress", checkpoint), 2, str(checkpoint), "tensor ", "another architecture")


def test_damaged_checkpoint_is_refused(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(content)

    assert_fails(edgekit("compress", checkpoint), 2, str(checkpoint), "hash")


def test_checkpoint_has_the_size_it_has(checkpoint: Path) -> None:
    assert_fails(edgekit("compress", checkpoint, "--input-size", "64"), 2, "input size 32", "64", "--untrained")
    assert_fails(edgekit("compress", checkpoint, "--width", "1"), 2, "width 0.25", "1", "--untrained")


def test_checkpoint_of_unknown_pictures_asks_for_them(checkpoint: Path) -> None:
    assert_fails(edgekit("compress", checkpoint), 2, "trained on 'colours'", "--data")
