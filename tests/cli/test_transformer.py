"""A Vision Transformer through every verb."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from cli_network import QUICK, paint
from command_line import Outcome, assert_fails, edgekit
from edgekit.bundle.reading import open_bundle
from edgekit.core.recipe_files import load_recipe

MODEL = ("vit_ti_16_w0.33_d2", "--untrained", "--input-size", "24")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, colours: Path) -> tuple[Path, Outcome]:
    """What `compress` makes of random weights."""
    run_dir = tmp_path_factory.mktemp("runs") / "vit"
    outcome = edgekit("compress", *MODEL, "--data", colours, "--out", run_dir, "--json", *QUICK)
    assert outcome.code == 0, outcome.err
    return run_dir, outcome


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures without labels, which fit any number of classes."""
    folder = tmp_path_factory.mktemp("flat")
    for index in range(24):
        paint(folder / f"{index}.png", (9 * index, 200 - 5 * index, 40), seed=index)
    return folder


def test_compress_quantizes_dynamically_says_so_and_passes(run: tuple[Path, Outcome]) -> None:
    run_dir, outcome = run
    report = outcome.document

    assert "is a transformer: quantized dynamically (dynamic_wi8_ai8)" in outcome.err
    assert report["scheme"] == "dynamic_wi8_ai8"
    assert load_recipe(run_dir / "recipe.toml").quantize.scheme == "dynamic_wi8_ai8"
    assert {check["name"]: check["passed"] for check in report["checks"]}.items() >= {
        ("ONNX has integer weights throughout", True),
        ("TFLite has integer weights throughout", True),
        ("TFLite and ONNX hold the same integers", True),
        ("TFLite and ONNX answer alike", True),
    }
    assert len(report["layers"]) == 1 + 2 * 4 + 1
    assert all(layer["grid_bits"] == 8 and layer["sqnr_db"] > 15 for layer in report["layers"])
    sizes = report["sizes"]
    assert sizes["float_bytes"] > 2.5 * sizes["tflite_bytes"] > 2.5 * sizes["ekz_bytes"]


def test_run_is_named_after_the_scheme_that_it_got(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    outcome = edgekit("compress", *MODEL, "--bits", "6", "--data", colours, *QUICK)

    assert outcome.code == 0, outcome.err
    run_dir = tmp_path / "runs" / "vit_ti_16_w0.33_d2-colours-dynamic_wi6_ai8"
    report = json.loads((run_dir / "report.json").read_text())
    assert {row["grid_bits"] for row in report["bits"]["layers"]} == {6}
    assert report["bits"]["asked"] == "6"


def test_verify_meets_the_same_bars_and_finds_an_exchanged_weight(run: tuple[Path, Outcome], tmp_path: Path) -> None:
    assert edgekit("verify", run[0]).code == 0
    spoiled = Path(shutil.copytree(run[0], tmp_path / "run"))
    proto = onnx.load(spoiled / "model.onnx")
    tensor = next(each for each in proto.graph.initializer if each.name.endswith("0.attention.0.weight_quantized"))
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] ^= 1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(proto, spoiled / "model.onnx")

    outcome = edgekit("verify", spoiled, "--json")

    assert outcome.code == 1
    failed = {check["name"]: check["layer"] for check in outcome.document["checks"] if not check["passed"]}
    assert failed == {"TFLite and ONNX hold the same integers": "blocks.0.attention.0"}


def test_files_classify_alike_packed_or_not(run: tuple[Path, Outcome], colours: Path) -> None:
    picture = colours / "red" / "red0.png"

    answers = [edgekit("classify", run[0] / name, picture, "--json").document for name in ("model.tflite", "model.ekz")]

    first, second = (json.dumps(answer).replace("model.ekz", "model.tflite") for answer in answers)
    assert first == second


def test_file_is_measured_inspected_and_unpacked(run: tuple[Path, Outcome], tmp_path: Path) -> None:
    run_dir, _ = run

    bench = edgekit("bench", run_dir / "model.tflite", "--vs", run_dir / "float.onnx", "--queries", "5", "--json")
    inspected = edgekit("inspect", run_dir / "model.ekz")
    unpacked = edgekit("unpack", run_dir / "model.ekz", "--out", tmp_path / "again.tflite")

    assert bench.code == inspected.code == unpacked.code == 0, (bench.err, inspected.err, unpacked.err)
    assert "blocks.1.attention.0.weight" in inspected.out
    assert (tmp_path / "again.tflite").read_bytes() == (run_dir / "model.tflite").read_bytes()


def test_explain_lays_tokens_out_as_the_patches_that_they_stand_for(
    run: tuple[Path, Outcome], flat: Path, tmp_path: Path
) -> None:
    found = edgekit("explain", flat / "3.png", "--model", run[0], "--out", tmp_path, "--json")
    assert found.code == 0, found.err
    (one,) = found.document["pictures"]
    assert one["grad_cam"]["layer"] == "blocks.1.attention_norm"
    assert [len(row) for row in one["grad_cam"]["values"]] == [6] * 6
    assert "laid out as 6x6 patches" in " ".join(found.document["notes"])
    assert found.document["gradient"] == "plain"
    assert "6x6 maps of blocks.1.attention_norm" in (tmp_path / "explain.html").read_text(encoding="utf-8")


def test_embedded_transformer_is_verified_again_by_its_dynamic_scheme(flat: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    made = edgekit("embed", *MODEL, "--data", flat, "--out", out, "--json", *QUICK)
    assert made.code == 0, made.err
    found = edgekit("verify", out, "--json")
    assert (found.code, found.document["checks"]) == (0, made.document["checks"])
    assert "TFLite has integer weights throughout" in {check["name"] for check in found.document["checks"]}


def test_bundle_asks_for_a_runtime_that_knows_the_kernels(run: tuple[Path, Outcome], tmp_path: Path) -> None:
    """Interpreters of TensorFlow 2.14 refuse FULLY_CONNECTED of version 12."""
    outcome = edgekit("bundle", run[0], "--for", "host_cpu", "--out", tmp_path / "vit.ekb")

    assert outcome.code == 0, outcome.err
    compatible = open_bundle(tmp_path / "vit.ekb").manifest.compatible
    assert [need.name for need in compatible.runtimes] == ["litert"]


def test_float_onnx_of_a_run_is_a_users_file_like_any_other(
    run: tuple[Path, Outcome], flat: Path, tmp_path: Path
) -> None:
    """The same integers from the file as from torch: nothing is lost between the two."""
    out = tmp_path / "again"

    outcome = edgekit("compress", run[0] / "float.onnx", "--data", flat, "--out", out, *QUICK)

    assert outcome.code == 0, outcome.err
    assert _integers(out / "model.onnx") == _integers(run[0] / "model.onnx")


def _integers(path: Path) -> dict[str, bytes]:
    tensors = onnx.load(path).graph.initializer
    return {tensor.name: tensor.raw_data for tensor in tensors if tensor.name.endswith("_quantized")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--bits", "mixed"], ["is a transformer", "bits per layer", "--bits 8"]),
        (["--budget-kb", "100"], ["is a transformer", "bits per layer"]),
        (["--qat"], ["qat works on static integers", "dynamic_wi8_ai8"]),
        (["--set", "quantize.equalize=true"], ["quantize.equalize works on static integers"]),
        (["--bits", "4", "--compute", "int4"], ["quantize.compute works on static integers"]),
    ],
    ids=str,
)
def test_what_needs_static_integers_is_refused_with_a_way_out(
    options: list[str], words: list[str], colours: Path, tmp_path: Path
) -> None:
    outcome = edgekit("compress", *MODEL, "--data", colours, "--out", tmp_path / "run", *options)

    assert_fails(outcome, 2, *words)
    assert not (tmp_path / "run").exists()


def test_zeros_and_shared_values_reach_the_file(run: tuple[Path, Outcome], flat: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"

    outcome = edgekit(
        "compress", run[0] / "float.onnx", "--data", flat, "--prune", "0.5", "--share", "4", "--out", out, *QUICK
    )

    assert outcome.code in (0, 1), outcome.err  # random weights: their answers may change
    report = json.loads((out / "report.json").read_text())
    assert report["scheme"] == "dynamic_wi8_ai8"
    assert report["shrink"]["sparsity"] == pytest.approx(0.5, abs=0.05)
    checks = {check["name"]: check["passed"] for check in report["checks"]}
    assert checks["TFLite and ONNX hold the same integers"]
    levels = [row["num_levels"] for row in report["shrink"]["coding"] if row["num_levels"]]
    assert len([count for count in levels if count <= 17]) >= 8


def test_channels_of_the_perceptrons_go_and_the_rest_stays(
    run: tuple[Path, Outcome], flat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "narrow"

    outcome = edgekit(
        "compress", run[0] / "float.onnx", "--data", flat, "--prune-channels", "0.5", "--out", out, *QUICK
    )

    assert outcome.code in (0, 1), outcome.err
    report = json.loads((out / "report.json").read_text())
    shapes = {layer["name"]: tuple(layer["shape"]) for layer in report["layers"]}
    assert shapes["blocks.0.perceptron.0"] == (128, 64)
    assert shapes["blocks.0.perceptron.2"] == (64, 128)
    assert shapes["blocks.0.attention.0"] == (192, 64)
