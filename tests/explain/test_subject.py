"""What is known of a model: the float model, the file, or both."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import Tensor

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import EdgekitError, UnsupportedOpError, UsageError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.encode.files import pack_file
from edgekit.explain import subject as subjects
from edgekit.explain.rectified import RectifiedNetwork
from edgekit.explain.subject import open_subject
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from graphs import GraphBuilder, quantize_for_test

SPEC = PreprocessSpec(input_size=(12, 12), num_channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)


def card(scheme: str = "float", labels: tuple[str, ...] = ("a", "b", "c")) -> ModelCard:
    return ModelCard(model="net", scheme=scheme, labels=labels, preprocess=SPEC)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model files of a run, without the rest."""
    folder = tmp_path_factory.mktemp("run")
    net = GraphBuilder((1, 3, 12, 12), seed=1)
    x = net.relu6(net.conv("input", 4, 3))
    net.gemm(net.flatten(net.global_pool(x)), 3)
    graph = net.build()
    model = quantize_for_test(graph, np.random.default_rng(0).normal(size=(8, 3, 12, 12)).astype(np.float32))
    write_onnx(graph, folder / "float.onnx", card())
    write_onnx(model, folder / "model.onnx", card("static_wi8_ai8"))
    write_tflite(model, folder / "model.tflite", card("static_wi8_ai8"))
    pack_file(folder / "model.tflite", folder / "model.ekz")
    return folder


@pytest.mark.parametrize(
    ("name", "file"),
    [("", "model.tflite"), ("model.tflite", "model.tflite"), ("model.onnx", "model.onnx"), ("model.ekz", "model.ekz")],
)
def test_run_and_its_files_know_both(run_dir: Path, name: str, file: str) -> None:
    found = open_subject(str(run_dir / name), num_threads=1)

    assert found.file is not None
    assert found.float_model is not None
    assert (found.file.about.file, found.float_model.about.file) == (file, "float.onnx")
    assert found.main is found.file
    assert (found.num_classes, found.notes) == (3, ())
    assert found.float_model.network is not None
    assert found.float_model.network.num_rectifiers == 1
    pictures = np.random.default_rng(1).integers(0, 256, (2, 12, 12, 3), np.uint8)
    np.testing.assert_allclose(found.file.predict(pictures), found.float_model.predict(pictures), atol=0.2)


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx", "model.ekz"])
def test_file_by_itself_is_said_to_show_no_gradients(run_dir: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(run_dir / name, tmp_path)
    found = open_subject(str(tmp_path / name), num_threads=1)

    assert found.float_model is None
    assert found.file is not None
    assert found.num_classes == 3
    assert "Only the file is known" in found.notes[0]
    assert "`" not in found.notes[0]


def test_quantized_onnx_with_the_card_of_its_float_model_is_a_file(run_dir: Path, tmp_path: Path) -> None:
    model = onnx.load(run_dir / "model.onnx")
    for entry in model.metadata_props:
        entry.value = entry.value.replace("static_wi8_ai8", "float")
    onnx.save(model, tmp_path / "model.onnx")

    found = open_subject(str(tmp_path / "model.onnx"), num_threads=1)

    assert found.float_model is None
    assert found.file is not None


def test_float_file_of_another_model_is_not_taken_for_the_origin(run_dir: Path, tmp_path: Path) -> None:
    shutil.copy(run_dir / "model.tflite", tmp_path)
    net = GraphBuilder((1, 3, 12, 12))
    net.gemm(net.flatten(net.global_pool(net.conv("input", 4, 3))), 5)
    write_onnx(net.build(), tmp_path / "float.onnx", card(labels=()))

    found = open_subject(str(tmp_path), num_threads=1)

    assert found.float_model is None
    assert "it is not its float model" in found.notes[0]


def test_float_onnx_is_a_float_model_with_or_without_a_card(run_dir: Path, tmp_path: Path) -> None:
    model = onnx.load(run_dir / "float.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "theirs.onnx")
    for path in (run_dir / "float.onnx", tmp_path / "theirs.onnx"):
        found = open_subject(str(path), num_threads=1)
        assert found.file is None
        assert found.float_model is not None
        assert found.float_model.about.file == path.name
        assert found.num_classes == 3


def test_catalogue_name_is_a_float_model() -> None:
    found = open_subject("squeezenet", num_threads=1)

    assert found.file is None
    assert found.float_model is not None
    assert found.float_model.about.runtime.startswith("onnxruntime ")
    assert found.main.labels[9] == "Ankle boot"


def test_network_that_torch_cannot_run_keeps_its_occlusion(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unknown(RectifiedNetwork):
        def forward(self, x: Tensor) -> Tensor:
            del x
            raise UnsupportedOpError("node odd: no torch implementation of Odd")

    monkeypatch.setattr(subjects, "RectifiedNetwork", Unknown)
    found = open_subject(str(run_dir), num_threads=1)

    assert found.float_model is not None
    assert found.float_model.network is None
    assert found.notes == (
        "No gradients and no layers can be shown, only occlusion maps: node odd: no torch implementation of Odd.",
    )


def test_absent_models_are_errors(tmp_path: Path) -> None:
    for name in ("mobilnet", str(tmp_path / "none.onnx"), str(tmp_path / "none.tflite"), str(tmp_path / "none.ekb")):
        with pytest.raises(EdgekitError):
            open_subject(name)
    with pytest.raises(UsageError, match="no weights at hand"):
        open_subject("resnet18")
