"""From a run to a bundle: reproducible, judged by another runtime, and honest about where its pictures come from."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bundles import CARD, write_run
from edgekit.bundle.manifest import MODEL, Budgets, Manifest
from edgekit.bundle.reading import Bundle, model_stream, open_bundle
from edgekit.core.errors import BarNotMetError, UnknownNameError, UsageError
from edgekit.core.recipe import DataSection, ModelSection, Recipe
from edgekit.core.recipe_files import dump_recipe
from edgekit.deploy import bundling
from edgekit.deploy.bundling import BundleRequest, bundle_run, make_bundle
from edgekit.encode.files import pack_file
from edgekit.encode.unpacking import MemorySink, unpack
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.predict import predict_logits


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a recipe: its pictures are not at hand. Not to be changed by a test."""
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture
def own_run(run_dir: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(run_dir, tmp_path / "run"))


def request(run_dir: Path, **changes: object) -> BundleRequest:
    return msgspec.structs.replace(BundleRequest(run_dir=run_dir, boards=("host_cpu",)), **changes)


def name_data(run_dir: Path, name: str) -> None:
    recipe = Recipe(model=ModelSection(name="mobilenet_v2"), data=DataSection(name=name))
    (run_dir / "recipe.toml").write_text(dump_recipe(recipe))


def unpacked(bundle: Bundle) -> bytes:
    sink = MemorySink()
    with model_stream(bundle) as (stream, size_bytes):
        unpack(stream, size_bytes, sink)
    return bytes(sink.content)


def test_same_run_and_request_make_the_same_bytes(run_dir: Path, tmp_path: Path) -> None:
    for name in ("one.ekb", "two.ekb"):
        make_bundle(request(run_dir), tmp_path / name)

    assert (tmp_path / "one.ekb").read_bytes() == (tmp_path / "two.ekb").read_bytes()


def test_manifest_says_what_was_asked_and_found(run_dir: Path, tmp_path: Path) -> None:
    asked = request(
        run_dir, release=12, name="kitchen", created_unix_s=1_700_000_000, budgets=Budgets(p90_ms=30.0), num_golden=3
    )
    bundle = make_bundle(asked, tmp_path / "b.ekb")
    manifest: Manifest = bundle.manifest

    assert (manifest.name, manifest.release, manifest.created_unix_s) == ("kitchen", 12, 1_700_000_000)
    assert manifest.budgets == Budgets(p90_ms=30.0)
    assert manifest.compatible.boards == ("host_cpu",)
    assert manifest.compatible.architectures == ()
    assert {need.name for need in manifest.compatible.runtimes} == {"litert", "tflite_runtime", "tensorflow"}
    assert (manifest.model.name, manifest.model.scheme) == ("tiny", "static_wi8_ai8")
    assert (manifest.model.input_size, manifest.model.num_channels, manifest.model.num_classes) == ((8, 8), 3, 7)
    assert manifest.needs.ram_mib > 100
    assert bundle.labels == CARD.labels
    assert len(manifest.golden.top1) == 3
    assert unpacked(bundle) == (run_dir / "model.tflite").read_bytes()


def test_golden_answers_are_those_of_the_other_runtime(run_dir: Path, tmp_path: Path) -> None:
    golden = make_bundle(request(run_dir), tmp_path / "b.ekb").golden
    judge = load_interpreter(run_dir / "model.onnx")

    np.testing.assert_array_equal(golden.logits, predict_logits(judge, golden.pictures, CARD.preprocess))


def test_tolerance_is_as_wide_when_a_float_output_hides_the_grid(run_dir: Path, tmp_path: Path) -> None:
    hidden = make_bundle(request(write_run(tmp_path / "run", float_io=True)), tmp_path / "hidden.ekb").manifest.golden
    plain = make_bundle(request(run_dir), tmp_path / "plain.ekb").manifest.golden

    assert plain.tolerance / 4 < hidden.tolerance < plain.tolerance * 4


def test_run_without_pictures_gets_generated_ones_and_says_so(run_dir: Path, tmp_path: Path) -> None:
    manifest = make_bundle(request(run_dir), tmp_path / "b.ekb").manifest

    assert manifest.golden.origin == "generated"
    assert manifest.golden.source.startswith("smooth fields of colour, seeds ")
    assert manifest.baseline is None
    assert manifest.name == "tiny"


def test_pictures_come_from_the_run_s_dataset_when_it_is_at_hand(own_run: Path, tmp_path: Path) -> None:
    name_data(own_run, "fashion_mnist_mini")
    manifest = make_bundle(request(own_run, num_sample=200), tmp_path / "b.ekb").manifest

    assert manifest.golden.origin == "test_pictures"
    assert manifest.golden.source.startswith("fashion_mnist_mini test, pictures ")
    assert manifest.name == "tiny-fashion_mnist_mini"
    assert manifest.baseline is not None
    assert sum(manifest.baseline) == pytest.approx(1)


def test_baseline_is_left_out_when_there_are_too_few_pictures(own_run: Path, tmp_path: Path) -> None:
    name_data(own_run, "fashion_mnist_mini")

    assert make_bundle(request(own_run, num_sample=30), tmp_path / "b.ekb").manifest.baseline is None


@pytest.mark.parametrize("name", ["no_such_dataset", "/no/such/folder"])
def test_dataset_that_is_gone_is_no_error(own_run: Path, tmp_path: Path, name: str) -> None:
    name_data(own_run, name)

    assert make_bundle(request(own_run), tmp_path / "b.ekb").manifest.golden.origin == "generated"


def test_test_pictures_without_clear_answers_are_replaced(
    own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_data(own_run, "fashion_mnist_mini")
    choose = bundling.choose

    def picky(judged: bundling.Judged, num_pictures: int) -> bundling.Chosen:
        if len(calls) == 0:
            calls.append(1)
            raise BarNotMetError("nothing is clear")
        return choose(judged, num_pictures)

    calls: list[int] = []
    monkeypatch.setattr(bundling, "choose", picky)
    assert make_bundle(request(own_run), tmp_path / "b.ekb").manifest.golden.origin == "generated"


def test_files_of_different_models_are_refused(own_run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", seed=11)
    shutil.copy(other / "model.onnx", own_run)

    with pytest.raises(BarNotMetError, match="no golden picture among 128 candidates"):
        make_bundle(request(own_run), tmp_path / "b.ekb")
    assert not (tmp_path / "b.ekb").exists()


def test_model_ekz_of_the_run_is_used_when_it_is_of_this_model(own_run: Path, tmp_path: Path) -> None:
    pack_file(own_run / "model.tflite", own_run / "model.ekz")
    bundle = make_bundle(request(own_run), tmp_path / "b.ekb")

    assert bundle.manifest.file(MODEL).size_bytes == (own_run / "model.ekz").stat().st_size


def test_model_ekz_of_another_model_is_made_anew(own_run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", seed=11)
    pack_file(other / "model.tflite", own_run / "model.ekz")

    assert unpacked(make_bundle(request(own_run), tmp_path / "b.ekb")) == (own_run / "model.tflite").read_bytes()


def test_packed_model_alone_is_enough(own_run: Path, run_dir: Path, tmp_path: Path) -> None:
    pack_file(own_run / "model.tflite", own_run / "model.ekz")
    (own_run / "model.tflite").unlink()
    make_bundle(request(own_run), tmp_path / "packed.ekb")
    make_bundle(request(run_dir), tmp_path / "plain.ekb")

    assert (tmp_path / "packed.ekb").read_bytes() == (tmp_path / "plain.ekb").read_bytes()


@pytest.mark.parametrize("missing", ["model.tflite", "model.onnx"])
def test_run_with_a_missing_file_is_a_usage_error(own_run: Path, tmp_path: Path, missing: str) -> None:
    (own_run / missing).unlink()

    with pytest.raises(UsageError, match=missing):
        make_bundle(request(own_run), tmp_path / "b.ekb")


def test_impossible_request_is_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="toaster"):
        make_bundle(request(run_dir, boards=("toaster",)), tmp_path / "b.ekb")
    with pytest.raises(UsageError, match="release -1"):
        make_bundle(request(run_dir, release=-1), tmp_path / "b.ekb")
    with pytest.raises(UsageError, match="0 boards"):
        make_bundle(request(run_dir, boards=()), tmp_path / "b.ekb")
    with pytest.raises(UsageError, match="name is"):
        make_bundle(request(run_dir, name="../../etc/passwd"), tmp_path / "b.ekb")
    with pytest.raises(UsageError, match=r"budgets\.p90_ms"):
        make_bundle(request(run_dir, budgets=Budgets(p90_ms=-1.0)), tmp_path / "b.ekb")
    assert list(tmp_path.iterdir()) == []


def test_folder_form_holds_the_same_files(run_dir: Path, tmp_path: Path) -> None:
    folder = make_bundle(request(run_dir), tmp_path / "folder")
    archive = make_bundle(request(run_dir), tmp_path / "b.ekb")

    assert folder.digest == archive.digest
    assert (tmp_path / "folder" / "labels.txt").read_text().splitlines() == list(CARD.labels)


def test_bundle_for_this_machine_is_made_once(run_dir: Path, tmp_path: Path) -> None:
    path = bundle_run(run_dir, tmp_path)
    before = path.stat().st_mtime_ns
    assert bundle_run(run_dir, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    assert open_bundle(path).manifest.release == 0

    path.write_bytes(b"damaged")
    assert open_bundle(bundle_run(run_dir, tmp_path)).manifest.model.name == "tiny"
