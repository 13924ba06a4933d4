"""`edgekit embed`, `edgekit search`, and what becomes of an extractor where a classifier is wanted."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest

from cli_network import COLOURS, QUICK, paint
from command_line import Outcome, assert_fails, edgekit
from edgekit.core.errors import UsageError
from edgekit.core.features import FeaturesReport
from edgekit.pipeline import verify_run
from edgekit.report.files import read_report
from edgekit.runtime.interpreter import load_interpreter


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, network: Path, colours: Path) -> tuple[Path, Outcome]:
    """Run folder and outcome of `embed colours.onnx --data colours --json`."""
    run_dir = tmp_path_factory.mktemp("runs") / "features"
    outcome = edgekit("embed", network, "--data", colours, "--out", run_dir, "--json", *QUICK)
    assert outcome.code == 0, outcome.err
    return run_dir, outcome


def read_features(run_dir: Path) -> FeaturesReport:
    features = read_report(run_dir).features
    assert features is not None
    return features


def test_embed_writes_both_formats_in_float_and_quantized(embedded: tuple[Path, Outcome]) -> None:
    run_dir, _ = embedded
    made = sorted(path.name for path in run_dir.iterdir())
    files = ["float.onnx", "float.tflite", "model.onnx", "model.tflite", "model.ekz"]
    assert made == sorted([*files, "recipe.toml", "report.json", "report.html"])
    for name in files:
        interpreter = load_interpreter(run_dir / name)
        card = interpreter.card
        assert card is not None
        assert (card.kind, card.labels, card.model) == ("features", (), "colours")
        assert interpreter.output.shape[-1] == 8
        assert card.scheme == ("float" if name.startswith("float") else "static_wi8_ai8")


def test_report_tells_what_features_find(embedded: tuple[Path, Outcome], colours: Path) -> None:
    run_dir, outcome = embedded
    report = outcome.document
    features = report["features"]
    assert (features["layer"], features["num_features"]) == ("fc", 8)
    assert [row["k"] for row in features["precision"]["tflite"]] == [1, 5, 10]
    for rows in features["precision"].values():
        assert rows[0]["share"] == 1.0
        assert rows[2]["share"] < 1.0  # of no class there are ten others among the test pictures
        assert {row["n"] for row in rows} == {report["dataset"]["n"]}
    assert features["tflite"]["mean"] > 0.99
    assert features["float_tflite_bytes"] == (run_dir / "float.tflite").stat().st_size
    assert report["agreement"] is None
    assert report["accuracy"] == {"float": None, "onnx": None, "tflite": None}
    assert report["dataset"]["labelled"] is True
    assert report["dataset"]["class_names"] == sorted(COLOURS)
    assert {check["name"] for check in report["checks"]} >= {
        "float TFLite equals float ONNX",
        "TFLite and ONNX hold the same integers",
        "TFLite and ONNX answer alike",
        "TFLite is integer throughout",
        "ONNX finds what float finds",
        "TFLite finds what float finds",
    }
    assert "colours" in report["command"]
    assert str(colours) in report["command"]


def test_report_is_shown_again(embedded: tuple[Path, Outcome]) -> None:
    shown = edgekit("report", embedded[0])
    assert shown.code == 0, shown.err
    assert "at 10" in shown.out
    assert "Precision at k" in shown.out


def test_features_are_those_of_a_run_of_compress(
    compressed: tuple[Path, Outcome], embedded: tuple[Path, Outcome], colours: Path, tmp_path: Path
) -> None:
    out = tmp_path / "features"
    found = edgekit("embed", compressed[0], "--data", colours, "--out", out, "--json", *QUICK)
    assert found.code == 0, found.err
    assert found.document["features"]["precision"] == embedded[1].document["features"]["precision"]
    assert found.document["num_params"] < compressed[1].document["num_params"]


def test_torch_model_is_compared_with_its_float_file(tmp_path: Path) -> None:
    out = tmp_path / "features"
    arguments = ("embed", "lenet5", "--untrained", "--data", "fashion_mnist_mini", "--out", out, "--json", *QUICK)
    found = edgekit(*arguments, "--set", "verify.num_pictures=64")
    assert found.code == 0, found.err
    checks = {check["name"]: check for check in found.document["checks"]}
    assert checks["float ONNX equals torch"]["passed"]
    assert found.document["features"]["float_onnx_error"] < 1e-3


@pytest.mark.parametrize(
    "options", [("--bits", "4"), ("--bits", "4", "--compute", "int4"), ("--budget-kb", "60"), ("--float-io",)]
)
def test_options_of_compress_hold_for_features(
    wide: Path, colours: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    out = tmp_path / "features"
    found = edgekit("embed", wide, "--data", colours, "--out", out, "--json", *QUICK, *options)
    assert found.code == 0, found.err
    assert found.document["features"]["num_features"] == 64
    if "--bits" in options:
        assert found.document["bits"]["asked"] == "4"
        assert {row["grid_bits"] for row in found.document["bits"]["layers"]} == {4, 8}
    if "--budget-kb" in options:
        assert found.document["sizes"]["ekz_bytes"] <= 60_000
    again = edgekit("verify", out, "--json")
    assert (again.code, again.document["checks"]) == (0, found.document["checks"])
    assert load_interpreter(out / "model.tflite").input.dtype == ("float32" if "--float-io" in options else "int8")
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in out.iterdir() if path.is_file())


HAS_NNCF = importlib.util.find_spec("nncf") is not None


@pytest.mark.skipif(not HAS_NNCF, reason="NNCF is not installed (pip install 'edgekit[nncf]')")
def test_features_are_quantized_by_nncf_when_it_is_asked(wide: Path, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    found = edgekit("embed", wide, "--data", colours, "--engine", "nncf", "--out", out, "--json", *QUICK)
    assert found.code == 0, found.err
    assert found.document["bits"]["engine"] == "nncf"
    assert found.document["features"]["tflite_onnx_max_steps"] <= 1
    assert edgekit("verify", out).code == 0


@pytest.mark.skipif(HAS_NNCF, reason="NNCF is installed")
def test_engine_that_is_not_installed_is_named_before_anything_is_made(
    wide: Path, colours: Path, tmp_path: Path
) -> None:
    found = edgekit("embed", wide, "--data", colours, "--engine", "nncf", "--out", tmp_path / "out", *QUICK)
    assert_fails(found, 3, "NNCF is not installed", "pip install 'edgekit[nncf]'")
    assert not (tmp_path / "out").exists()


def test_pictures_without_labels_are_judged_by_the_cosine(network: Path, tmp_path: Path) -> None:
    for index in range(40):
        paint(tmp_path / "flat" / f"{index}.png", (index * 6, 100, 255 - index * 6), seed=index)
    out = tmp_path / "features"
    found = edgekit("embed", network, "--data", tmp_path / "flat", "--out", out, "--json", *QUICK)
    assert found.code == 0, found.err
    assert found.document["features"]["precision"] == {}
    assert found.document["dataset"]["labelled"] is False
    assert "TFLite features point where float's do" in {check["name"] for check in found.document["checks"]}
    shown = edgekit("report", out)
    assert "nobody knows which of them are alike" in " ".join(shown.out.split())


def test_labels_of_other_classes_than_the_models_say_what_is_alike(network: Path, tmp_path: Path) -> None:
    for label, rgb in enumerate(((10, 10, 10), (240, 240, 240), (240, 240, 10), (10, 240, 240))):
        for index in range(30):
            paint(tmp_path / "other" / f"class{label}" / f"{label}-{index}.png", rgb, seed=100 * label + index)
    found = edgekit("embed", network, "--data", tmp_path / "other", "--out", tmp_path / "out", "--json", *QUICK)
    assert found.code == 0, found.err
    assert found.document["features"]["precision"]["tflite"][0]["share"] > 0.9


def test_missed_bar_ends_with_1_and_says_which(network: Path, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = edgekit("embed", network, "--data", colours, "--out", out, *QUICK, "--set", "verify.max_drop=-1")
    assert found.code == 1
    assert "TFLite finds what float finds" in found.out
    assert read_report(out).features is not None  # the files and the report are there to look at


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--bits", "mixed"), ("an extractor has no answers to lose", "--budget-kb")),
        (("--set", "prune.sparsity=0.5"), ("not pruned or shared", "edgekit compress")),
        (("--set", "share.conv_bits=4"), ("not pruned or shared",)),
        (("--set", "qat.epochs=1"), ("not trained",)),
        (("--bits", "mixed", "--set", "quantize.pareto=3"), ("no accuracy to sweep",)),
        (("--bits", "9"), ("--bits takes a whole number",)),
    ],
)
def test_what_needs_the_classifier_is_refused(
    network: Path, colours: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    found = edgekit("embed", network, "--data", colours, "--out", tmp_path / "out", *options)
    assert_fails(found, 2, *words)
    assert not (tmp_path / "out").exists()


def test_verify_finds_again_what_embed_found(embedded: tuple[Path, Outcome]) -> None:
    run_dir, made = embedded
    found = edgekit("verify", run_dir, "--json")
    assert found.code == 0, found.err
    assert found.document["passed"] is True
    assert found.document["checks"] == made.document["checks"]
    assert found.document["features"] == made.document["features"]
    assert (found.document["agreement"], found.document["num_pictures"]) == (None, made.document["dataset"]["n"])


def test_verify_asks_the_torch_model_that_was_cut_and_does_without_when_it_is_gone(tmp_path: Path) -> None:
    out = tmp_path / "features"
    arguments = ("embed", "lenet5", "--untrained", "--data", "fashion_mnist_mini", "--out", out, *QUICK)
    assert edgekit(*arguments, "--set", "verify.num_pictures=64").code == 0
    checks = edgekit("verify", out, "--json").document["checks"]
    assert "float ONNX equals torch" in {check["name"] for check in checks}

    recipe = out / "recipe.toml"
    gone = recipe.read_text(encoding="utf-8").replace('name = "lenet5"', f'name = "{tmp_path / "gone"}"')
    recipe.write_text(gone, encoding="utf-8")
    found = edgekit("verify", out, "--json")
    names = {check["name"] for check in found.document["checks"]}
    assert "float ONNX equals torch" not in names
    assert "float TFLite equals float ONNX" in names
    assert found.document["features"]["layer"] == read_features(out).layer


def test_verify_misses_a_bar_and_names_the_file_that_is_another(
    embedded: tuple[Path, Outcome], wide: Path, colours: Path, tmp_path: Path
) -> None:
    bar = edgekit("verify", embedded[0], "--max-drop", "-1")
    assert bar.code == 1
    assert "FAIL TFLite finds what float finds" in bar.out

    first, second = tmp_path / "first", tmp_path / "second"
    for run_dir, bits in ((first, "8"), (second, "4")):
        made = edgekit("embed", wide, "--data", colours, "--bits", bits, "--out", run_dir, *QUICK)
        assert made.code == 0, made.err
    shutil.copy(second / "model.tflite", first / "model.tflite")
    swapped = edgekit("verify", first)
    assert swapped.code == 1
    assert "FAIL TFLite and ONNX hold the same integers" in swapped.out


def test_verify_of_an_incomplete_extractor_names_what_is_missing(
    embedded: tuple[Path, Outcome], tmp_path: Path
) -> None:
    for name in ("recipe.toml", "float.tflite", "model.onnx"):
        run_dir = Path(shutil.copytree(embedded[0], tmp_path / name))
        (run_dir / name).unlink()
        assert_fails(edgekit("verify", run_dir), 2, f"is no whole feature extractor: {name} missing", "edgekit embed")
    run_dir = Path(shutil.copytree(embedded[0], tmp_path / "damaged"))
    (run_dir / "float.onnx").write_bytes(b"no model")
    assert_fails(edgekit("verify", run_dir), 2, "float.onnx")


REFUSAL = "gives features of colours, not classes"


def test_extractor_is_refused_where_classes_are_wanted(
    embedded: tuple[Path, Outcome], colours: Path, tmp_path: Path
) -> None:
    run_dir, _ = embedded
    picture = next((colours / "red").iterdir())
    for name in ("model.tflite", "model.onnx", "model.ekz", "float.onnx"):
        assert_fails(edgekit("classify", run_dir / name, picture), 2, REFUSAL, "name the model itself")
        assert_fails(edgekit("evaluate", run_dir / name, "--data", colours), 2, REFUSAL)
    assert_fails(edgekit("classify", run_dir, picture), 2, REFUSAL)
    assert_fails(edgekit("bundle", run_dir, "--for", "host_cpu", "--out", tmp_path / "model.ekb"), 2, REFUSAL)
    agent = edgekit("agent", "run", "--bundle", run_dir, "--camera", "synthetic:640x480@30", "--http", "0")
    assert (agent.code, REFUSAL in agent.err) == (2, True)
    for name in (run_dir, run_dir / "float.onnx"):
        assert_fails(edgekit("compress", name, "--data", colours, "--out", tmp_path / "run"), 2, REFUSAL)
        assert_fails(edgekit("embed", name, "--data", colours, "--out", tmp_path / "run"), 2, REFUSAL)
    assert not (tmp_path / "model.ekb").exists()
    with pytest.raises(UsageError, match=REFUSAL):
        verify_run(run_dir)


def test_extractor_can_be_packed_and_timed(embedded: tuple[Path, Outcome], tmp_path: Path) -> None:
    run_dir, _ = embedded
    assert edgekit("unpack", run_dir / "model.ekz", "--out", tmp_path / "again.tflite").code == 0
    assert (tmp_path / "again.tflite").read_bytes() == (run_dir / "model.tflite").read_bytes()


def test_search_finds_pictures_of_the_same_kind(embedded: tuple[Path, Outcome], colours: Path, tmp_path: Path) -> None:
    like = tmp_path / "like.png"
    paint(like, COLOURS["green"], seed=123_456)
    index = tmp_path / "index"
    arguments = ("search", colours, "--like", like, "--model", embedded[0], "--index", index, "--top", "20")

    found = edgekit(*arguments, "--json")

    assert found.code == 0, found.err
    document = found.document
    assert [Path(match["path"]).parent.name for match in document["matches"]] == ["green"] * 20
    assert (document["num_pictures"], document["num_described"], document["num_unreadable"]) == (180, 180, 0)
    assert document["index"] == str(index)
    again = edgekit(*arguments)
    assert again.code == 0, again.err
    assert "180 pictures compared, 0 of them new" in again.err
    assert again.out.count("green") >= 20
    assert document["matches"][0]["path"] in again.out


def test_search_names_what_it_cannot_read(embedded: tuple[Path, Outcome], tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "good.png", COLOURS["red"], seed=1)
    (tmp_path / "pictures" / "bad.png").write_bytes(b"no picture")
    like = tmp_path / "pictures" / "good.png"
    found = edgekit("search", tmp_path / "pictures", "--like", like, "--model", embedded[0] / "model.ekz", "--json")
    assert found.code == 0, found.err
    assert "left out: unreadable picture" in found.err
    assert "bad.png" in found.err
    assert json.loads(found.out)["num_unreadable"] == 1


def test_search_tells_names_in_another_encoding(embedded: tuple[Path, Outcome], tmp_path: Path) -> None:
    paint(tmp_path / "like.png", COLOURS["red"], seed=1)
    named = tmp_path / "pictures" / os.fsdecode(b"caf\xe9.png")
    named.parent.mkdir()
    shutil.copy(tmp_path / "like.png", named)
    (tmp_path / "pictures" / os.fsdecode(b"bad\xe9.png")).write_bytes(b"no picture")
    arguments = ("search", named.parent, "--like", tmp_path / "like.png", "--model", embedded[0])

    found, shown = edgekit(*arguments, "--json"), edgekit(*arguments)

    assert found.code == 0, found.err
    assert found.document["matches"][0]["path"].endswith("caf\\udce9.png")
    assert "bad\\udce9.png" in found.document["unreadable"][0]
    assert (shown.code, "caf" in shown.out) == (0, True)


def test_search_with_a_classifier_says_how_to_make_an_extractor(
    compressed: tuple[Path, Outcome], colours: Path
) -> None:
    like = next((colours / "red").iterdir())
    found = edgekit("search", colours, "--like", like, "--model", compressed[0])
    assert_fails(found, 2, "is a classifier: it gives colours's classes", "edgekit embed MODEL --out DIR")


def test_search_with_a_foreign_file_says_how_to_make_an_extractor(network: Path, colours: Path, tmp_path: Path) -> None:
    foreign = shutil.copy(network, tmp_path / "foreign.onnx")
    like = next((colours / "red").iterdir())
    found = edgekit("search", colours, "--like", like, "--model", foreign)
    assert_fails(found, 2, "carries no edgekit card", "edgekit embed MODEL --out DIR")


@pytest.mark.parametrize(("folder", "words"), [("nowhere", ("no folder at",)), ("empty", ("no pictures in", ".jpg"))])
def test_search_without_pictures_is_told(
    embedded: tuple[Path, Outcome], colours: Path, tmp_path: Path, folder: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    like = next((colours / "red").iterdir())
    assert_fails(edgekit("search", tmp_path / folder, "--like", like, "--model", embedded[0]), 2, *words)


def test_search_leaves_a_file_that_is_no_index_alone(
    embedded: tuple[Path, Outcome], colours: Path, tmp_path: Path
) -> None:
    like = next((colours / "red").iterdir())
    mine = tmp_path / "diary.txt"
    mine.write_text("dear diary")
    found = edgekit("search", colours, "--like", like, "--model", embedded[0], "--index", mine)
    assert_fails(found, 2, "diary.txt is no index of edgekit", "--index")
    assert mine.read_text() == "dear diary"


def test_transformer_gives_features_with_dynamic_layers(tmp_path: Path, colours: Path) -> None:
    run_dir = tmp_path / "features"
    asked = ("vit_ti_16_w0.33_d1", "--untrained", "--input-size", "28", "--data", colours, "--out", run_dir)
    outcome = edgekit("embed", *asked, "--json", *QUICK)
    assert outcome.code == 0, outcome.err
    assert "transformer" in outcome.err
    assert outcome.document["scheme"] == "dynamic_wi8_ai8"
    assert outcome.document["features"]["num_features"] == load_interpreter(run_dir / "model.tflite").output.shape[-1]
