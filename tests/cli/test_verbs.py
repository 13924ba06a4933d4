"""The other verbs: what each prints for people and for programs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from command_line import Outcome, assert_fails, edgekit
from edgekit.core.recipe_files import load_recipe
from edgekit.models.zoo import variant_names


def picture(colours: Path, name: str) -> Path:
    return colours / name / f"{name}0.png"


def test_zoo_json_lists_every_variant_with_its_size() -> None:
    outcome = edgekit("zoo", "--json")

    models = outcome.document["models"]
    assert outcome.document.keys() == {"models"}
    assert set(variant_names()) <= {model["name"] for model in models}
    assert all(model["num_params"] > 0 and model["macs"] > 0 for model in models)


def test_zoo_is_one_line_per_model() -> None:
    lines = edgekit("zoo").out.splitlines()

    assert lines[0].split()[:2] == ["name", "parameters"]
    assert {line.split()[0] for line in lines[1:]} >= set(variant_names())


def test_zoo_table_of_sizes_sets_the_compact_beside_the_classic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")  # test processes have narrow terminals
    lines = edgekit("zoo", "--table", "size").out.splitlines()

    assert lines[0].split()[:3] == ["system", "year", "parameters"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert rows.keys() >= set(variant_names())
    years = [int(line.split()[1]) for line in lines[1:] if line.split()[0] in variant_names()]
    assert years == sorted(years)
    packed = r"~\d+\.\d\d MB"  # of random weights
    assert re.search(rf"2012 +61\.10 M +714 M +244\.4 MB +{packed} +{packed} +56\.5 % +79\.1 %", rows["alexnet"])
    assert re.search(r"4\.9 MB", rows["squeezenet1_1"])


def test_zoo_json_of_sizes_has_years_and_published_accuracy() -> None:
    models = {model["name"]: model for model in edgekit("zoo", "--table", "size", "--json").document["models"]}

    assert models["vgg16"]["year"] == 2014
    assert models["vgg16"]["published"]["top1"] == 71.5
    assert models["resnet50"]["published"]["top5"] == 92.9


def test_doctor_json_tells_versions_and_that_all_is_well() -> None:
    document = edgekit("doctor", "--json").document

    assert document["ok"] is True
    assert {"environment", "board", "packages"} <= document.keys()


def test_doctor_without_any_runtime_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.core.environment.installed_version", lambda _package: None)

    outcome = edgekit("doctor")

    assert outcome.code == 3
    assert "pip install edgekit[runtime]" in outcome.out


def test_data_added_is_listed_and_shown(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    assert edgekit("data", "add", "paint", colours).code == 0
    listed = {entry["name"]: entry for entry in edgekit("data", "list", "--json").document["datasets"]}
    assert listed["paint"]["path"] == str(colours)
    assert "fashion_mnist_mini" in listed

    sheet = tmp_path / "sheet.png"
    assert edgekit("data", "show", "paint", "--out", sheet).code == 0
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_classify_says_the_colour(compressed: tuple[Path, Outcome], colours: Path) -> None:
    pictures = [picture(colours, name) for name in ("red", "blue")]

    document = edgekit("classify", compressed[0], *pictures, "--json").document

    assert document["model"] == str(compressed[0] / "model.tflite")
    assert [answer["label"] for answer in document["predictions"].values()] == ["red", "blue"]
    table = edgekit("classify", compressed[0] / "model.onnx", *pictures).out
    assert re.search(r"red0\.png +red", table)


def test_classify_names_a_picture_that_it_cannot_read(compressed: tuple[Path, Outcome], tmp_path: Path) -> None:
    assert_fails(edgekit("classify", compressed[0], tmp_path / "none.png"), 2, "no picture at", "none.png")


def test_evaluate_measures_the_files_accuracy(compressed: tuple[Path, Outcome], colours: Path) -> None:
    outcome = edgekit("evaluate", compressed[0], "--data", colours, "--json")

    accuracy = outcome.document["model"]["scores"]["accuracy"]
    assert (accuracy["top1"], accuracy["n"]) == (1.0, compressed[1].document["dataset"]["n"])
    assert outcome.document["model"]["about"]["file"] == "model.tflite"
    assert "Top-1 accuracy 100.0 %" in edgekit("evaluate", compressed[0] / "model.onnx", "--data", colours).out


def test_bench_measures_in_turns(compressed: tuple[Path, Outcome]) -> None:
    outcome = edgekit(
        "bench", compressed[0], "--vs", compressed[0] / "model.onnx", "--queries", "70", "--warmup", "1", "--json"
    )

    first, second = outcome.document["latency"]
    assert (first["file"], second["file"]) == ("model.tflite", "model.onnx")
    assert first["n"] == second["n"] == 70
    assert first["p90_ms"] is not None
    assert first["p99_ms"] is None  # fewer than 662
    assert len(outcome.document["ratios"]) == 1


def test_bench_table_withholds_what_it_cannot_tell(compressed: tuple[Path, Outcome]) -> None:
    out = edgekit("bench", compressed[0], "--queries", "5", "--warmup", "1").out

    row = next(line for line in out.splitlines() if line.startswith("model.tflite")).split()
    assert row.count("-") == 2  # p90 and p99
    assert "- too few samples to tell" in out


def test_report_draws_the_page_anew(compressed: tuple[Path, Outcome]) -> None:
    page = compressed[0] / "report.html"
    before = page.read_bytes()
    page.unlink()

    outcome = edgekit("report", compressed[0], "--json")

    assert outcome.document == compressed[1].document
    assert page.read_bytes() == before
    assert edgekit("report", compressed[0], "--markdown").out.startswith("# colours")


@pytest.mark.parametrize("name", ["float.onnx", "float.tflite"])
def test_export_writes_a_float_file(network: Path, tmp_path: Path, name: str) -> None:
    document = edgekit("export", network, "--out", tmp_path / name, "--json").document

    assert document["size_bytes"] == (tmp_path / name).stat().st_size > 0
    assert document["format"] == name.rsplit(".", maxsplit=1)[1]


@pytest.mark.slow
def test_train_then_compress_remembers_the_pictures(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(colours.parent)
    small = ("--width", "0.25", "--input-size", "24", "--epochs", "3", "--set", "train.batch_size=16")

    trained = edgekit("train", "mobilenet_v1", "--data", colours.name, *small, "--out", tmp_path / "run", "--json")

    assert trained.code == 0, trained.err
    assert len(trained.document["history"]) == 3
    monkeypatch.chdir(tmp_path)
    outcome = edgekit("compress", "run", "--no-bench", "--max-drop", "100", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["dataset"]["name"] == "colours"
    assert outcome.document["trained"] is True
    assert (tmp_path / "runs").is_dir()


@pytest.mark.slow
def test_adversarial_training_is_in_the_recipe_of_its_run(colours: Path, tmp_path: Path) -> None:
    small = ("--width", "0.25", "--input-size", "24", "--epochs", "1", "--set", "train.batch_size=16")
    attack = ("--adversarial", "fgsm", "--epsilon", "0.1")

    trained = edgekit("train", "mobilenet_v1", "--data", colours, *small, *attack, "--out", tmp_path)

    assert trained.code == 0, trained.err
    section = load_recipe(tmp_path / "recipe.toml").train
    assert (section.adversarial, section.adversarial_epsilon) == ("fgsm", 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        "mobilenet_v1_w0.25",
        "mobilenet_v2_w0.35",
        "shufflenet_v1_x0_5_g3",
        "shufflenet_v2_x0_5",
        "squeezenet1_1",
        "efficientnet_lite0",
    ],
)
def test_untrained_architectures_go_through_the_whole_pipeline(model: str, tmp_path: Path) -> None:
    few = ("--set", "verify.num_pictures=32", "--set", "quantize.num_calibration=16", "--no-bench")

    outcome = edgekit("compress", model, "--untrained", "--input-size", "32", "--out", tmp_path / "run", "--json", *few)

    assert outcome.code == 0, outcome.err
    assert outcome.document["trained"] is False
    assert all(check["passed"] for check in outcome.document["checks"])
    assert edgekit("verify", tmp_path / "run").code == 0


@pytest.mark.slow
@pytest.mark.parametrize(("model", "width"), [("resnet18", "0.25"), ("mobilenet_v2", "0.35")])
def test_se_gives_a_residual_network_its_squeeze_and_excitation(model: str, width: str, tmp_path: Path) -> None:
    few = ("--set", "verify.num_pictures=32", "--set", "quantize.num_calibration=16", "--no-bench")
    sizes = ("--width", width, "--input-size", "32")

    outcome = edgekit("compress", model, "--se", "--untrained", *sizes, "--out", tmp_path / "run", "--json", *few)

    assert outcome.code == 0, outcome.err
    assert outcome.document["model"] == f"se_{model}_w{width}"
    assert all(check["passed"] for check in outcome.document["checks"])
    excites = [row for row in outcome.document["layers"] if row["name"].endswith(".excite")]
    assert len(excites) == (8 if model == "resnet18" else 17)
    assert edgekit("verify", tmp_path / "run").code == 0


def test_se_is_refused_where_it_has_no_place(tmp_path: Path) -> None:
    outcome = edgekit("export", "vgg16", "--se", "--untrained", "--out", tmp_path / "vgg.onnx")

    assert_fails(outcome, 2, "VGG takes no squeeze-and-excitation", "resnet")
