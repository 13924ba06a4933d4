"""`edgekit explain` on runs, files and torch weights, as a user calls it."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgekit as package
from cli_network import COLOURS, SIZE, paint, write_network
from command_line import Outcome, assert_fails, edgekit
from edgekit.report.explanation_files import read_explanation


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Red in one quadrant, dark elsewhere."""
    pixels = np.full((SIZE, SIZE, 3), 40, np.uint8)
    pixels[: SIZE // 2, SIZE // 2 :] = COLOURS["red"]
    path = tmp_path / "corner.png"
    assert cv2.imwrite(str(path), pixels[:, :, ::-1])
    return path


def test_run_is_explained_float_and_file_side_by_side(
    compressed: tuple[Path, Outcome], picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "look"
    found = edgekit("explain", picture, "--model", compressed[0], "--out", out, "--window", "4", "--stride", "2")

    assert found.code == 0, found.err
    assert found.out.rstrip().endswith(str(out / "explain.html"))
    written = read_explanation(out)
    assert written.float_model is not None
    assert written.file is not None
    assert (written.float_model.file, written.file.file) == ("float.onnx", "model.tflite")
    assert written.command.startswith("edgekit explain ")
    (one,) = written.pictures
    assert (one.label_name, one.is_chosen, one.file) == ("red", False, str(picture))
    assert one.occlusion_correlation is not None
    assert one.occlusion_correlation > 0.9
    assert one.grad_cam is not None
    half = SIZE // 2
    for occlusion in (one.float_occlusion, one.file_occlusion):
        assert occlusion is not None
        assert occlusion.row < half <= occlusion.column  # the red quadrant
        drops = np.array(occlusion.drops)
        rows, columns = (size // 2 for size in drops.shape)
        assert drops[:rows, columns:].mean() > 3 * np.abs(drops[rows:, :columns]).mean()
    cam = np.array(one.grad_cam.values)
    rows, columns = (size // 2 for size in cam.shape)
    assert cam[:rows, columns:].sum() > cam.sum() / 2
    assert [layer.layer for layer in one.layers] == ["stem", "dw"]
    page = (out / "explain.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 6


def test_json_is_the_document_and_the_same_every_time(
    compressed: tuple[Path, Outcome], picture: Path, tmp_path: Path
) -> None:
    arguments = ("explain", picture, picture, "--model", compressed[0], "--label", "blue", "--out", tmp_path, "--json")
    first, second = edgekit(*arguments).document, edgekit(*arguments).document

    assert [one["label_name"] for one in first["pictures"]] == ["blue", "blue"]
    assert [one["is_chosen"] for one in first["pictures"]] == [True, True]
    assert first["pictures"] == second["pictures"]


def test_file_without_its_float_model_is_only_covered(
    compressed: tuple[Path, Outcome], picture: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(compressed[0] / "model.ekz", alone)

    found = edgekit("explain", picture, "--model", alone / "model.ekz", "--out", tmp_path / "look")

    assert found.code == 0, found.err
    assert "Only the file is known" in found.out
    written = read_explanation(tmp_path / "look")
    assert (written.float_model, written.gradient) == (None, None)
    assert written.pictures[0].layers == ()
    page = (tmp_path / "look" / "explain.html").read_text(encoding="utf-8")
    assert "Only the file is known" in page
    assert page.count("<figure>") == 2
    assert_fails(
        edgekit("explain", picture, "--model", alone / "model.ekz", "--layer", "stem"), 2, "shows no layers", "--layer"
    )


def test_float_onnx_without_rectifiers_shows_its_gradient(picture: Path, tmp_path: Path) -> None:
    network = write_network(tmp_path / "smooth.onnx", op="HardSwish")
    found = edgekit("explain", picture, "--model", network, "--out", tmp_path / "look")

    assert found.code == 0, found.err
    written = read_explanation(tmp_path / "look")
    assert written.file is None
    assert any("HardSwish" in note for note in written.notes)


def test_public_function_writes_nothing_unless_told(tmp_path: Path) -> None:
    shoe = tmp_path / "shoe.png"
    paint(shoe, (200, 200, 200), seed=0, size=28)
    before = set(tmp_path.rglob("*"))
    found = package.explain(shoe, model="squeezenet", label="ankle boot")
    assert set(tmp_path.rglob("*")) == before
    assert found.pictures[0].label == 9
    package.explain(shoe, model="squeezenet", out=tmp_path / "look", layers=[found.pictures[0].layers[0].layer])
    assert len(read_explanation(tmp_path / "look").pictures[0].layers) == 1


def test_wrong_use_is_one_line(compressed: tuple[Path, Outcome], picture: Path, tmp_path: Path) -> None:
    run_dir, out = compressed[0], tmp_path / "look"

    def explain(*arguments: str | Path, of: Path = picture, model: str | Path = run_dir) -> Outcome:
        return edgekit("explain", of, "--model", model, "--out", out, *arguments)

    assert_fails(explain(of=tmp_path / "none.png"), 2, "no picture at")
    assert_fails(explain("--label", "rod"), 2, "no class 'rod' among the model's 3", "did you mean 'red'?")
    assert_fails(explain("--label", "3"), 2, "no class '3'", "choose one of: blue, green, red")
    assert_fails(explain("--layer", "stm"), 2, "unknown layer 'stm'", "did you mean 'stem'?")
    assert_fails(explain("--window", str(SIZE)), 2, f"window of {SIZE} pixels, expected 1 to {SIZE - 1}")
    assert_fails(explain("--window", "4", "--stride", "5"), 2, "stride of 5 pixels, expected 1 to 4")
    assert_fails(explain(model="mobilnet"), 2, "mobilnet", "did you mean 'mobilenet'?")
    assert_fails(explain(model=tmp_path / "none.tflite"), 2, "none.tflite")
    assert_fails(edgekit("explain", "--model", run_dir), 2, "Missing argument", "pictures")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    assert_fails(explain(of=text), 2, "unreadable picture")
    assert not out.exists()


def test_picture_of_next_to_no_pixels_is_an_error(compressed: tuple[Path, Outcome], tmp_path: Path) -> None:
    dot = tmp_path / "dot.png"
    paint(dot, (200, 40, 40), seed=0, size=2)

    for model in (compressed[0], compressed[0] / "model.ekz"):
        failed = edgekit("explain", dot, "--model", model, "--out", tmp_path / "look")
        assert_fails(failed, 2, "unreadable picture", "dot.png: 2x2 pixels, a picture has 3x3 or more")
    paint(dot, (200, 40, 40), seed=0, size=5)
    enlarged = edgekit("explain", dot, "--model", compressed[0], "--out", tmp_path / "look")
    assert enlarged.code == 0, enlarged.err
    assert "was enlarged" in (tmp_path / "look" / "explain.html").read_text(encoding="utf-8")
