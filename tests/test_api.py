"""What the commands do, called from Python."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit
from cli_network import COLOURS, paint, write_network
from edgekit.core.errors import DataError, UnknownNameError, UsageError
from edgekit.core.robustness import RobustnessSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its pictures."""
    root = tmp_path_factory.mktemp("api")
    write_network(root / "colours.onnx")
    for label, (name, rgb) in enumerate(COLOURS.items()):
        for index in range(40):
            paint(root / "pictures" / name / f"{name}{index}.png", rgb, seed=100 * label + index)
    return root


@pytest.fixture(scope="module")
def result(folder: Path):  # noqa: ANN201 - edgekit.Compressed is not public
    return edgekit.compress(
        folder / "colours.onnx",
        data=folder / "pictures",
        out=folder / "run",
        overrides=["quantize.num_calibration=16"],
        measure_latency=False,
    )


def test_compress_gives_run_report_and_verdict(result, folder: Path) -> None:  # noqa: ANN001
    assert result.passed is True
    assert result.run_dir == folder / "run"
    assert result.report.scheme == "static_wi8_ai8"
    assert result.report.accuracy.tflite.top1 == 1.0
    assert (result.num_unreadable, result.unreadable) == (0, ())


def test_search_and_verify_take_what_embed_made(folder: Path, tmp_path: Path) -> None:
    made = edgekit.embed(
        folder / "colours.onnx",
        data=folder / "pictures",
        out=tmp_path / "features",
        overrides=["quantize.num_calibration=16"],
        measure_latency=False,
    )
    assert made.passed
    assert made.report.features is not None
    like = folder / "pictures" / "red" / "red3.png"
    model = made.run_dir / "model.tflite"
    found = edgekit.search(folder / "pictures", like, model, top=3, index=tmp_path / "index")
    assert found.matches[0].path == str(like)
    assert {Path(match.path).parent.name for match in found.matches} == {"red"}
    again = edgekit.verify(made.run_dir)
    assert again.passed
    assert again.checks == made.report.checks
    assert again.agreement is None


def test_robustness_takes_one_model_beside_it_or_several(result, folder: Path) -> None:  # noqa: ANN001
    few = RobustnessSettings(
        num_pictures=6, num_attacked=2, epsilons=(8 / 255,), num_queries=2, num_fooling=1, num_generations=1
    )
    names = [str(result.run_dir / name) for name in ("model.onnx", "model.ekz")]
    for vs, beside in ((names[0], names[:1]), (names, names)):
        found = edgekit.robustness(
            result.run_dir, folder / "pictures", vs=vs, float_model=result.run_dir / "float.onnx", settings=few
        )
        assert [model.about.given for model in found.models[1:]] == [str(result.run_dir), *beside]


def test_verify_classify_and_evaluate_take_what_compress_made(result, folder: Path) -> None:  # noqa: ANN001
    assert edgekit.verify(result.run_dir).passed
    assert not edgekit.verify(result.run_dir, max_drop=-1.0).passed
    model = result.run_dir / "model.tflite"
    red, blue = (folder / "pictures" / name / f"{name}3.png" for name in ("red", "blue"))
    assert [answer.label for answer in edgekit.classify(model, red, blue)] == ["red", "blue"]
    assert edgekit.evaluate_file(model, folder / "pictures").top1 == 1.0
    both = edgekit.evaluate(model, folder / "pictures", vs=result.run_dir / "float.onnx", out=folder / "evaluated")
    assert both.model.scores.averages.balanced_accuracy == 1.0
    assert both.comparison is not None
    assert both.comparison.p_value == 1.0
    assert (folder / "evaluated" / "evaluate.html").is_file()


def test_export_makes_an_untrained_model_of_a_size(tmp_path: Path) -> None:
    artifact = edgekit.export("mobilenet_v1", tmp_path / "m.tflite", width=0.25, input_size=32, untrained=True)

    assert (artifact.path, artifact.format) == (tmp_path / "m.tflite", "tflite")


def test_errors_are_the_command_lines(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        edgekit.compress("mobilnet_v2", overrides=["model.untrained=true"])
    assert caught.value.hint == "did you mean 'mobilenet_v2'?"
    with pytest.raises(UsageError, match="--bits"):
        edgekit.compress("mobilenet_v2", bits=3)
    with pytest.raises(DataError):
        edgekit.compress(folder / "colours.onnx", data=tmp_path / "none")
    assert issubclass(DataError, edgekit.EdgekitError)


@pytest.mark.parametrize("name", ["train", "evaluate", "export", "verify"])
def test_public_function_outlives_the_import_of_its_namesake(name: str) -> None:
    module = importlib.import_module(f"edgekit.{name}")

    assert callable(getattr(edgekit, name))
    with pytest.raises(TypeError, match="missing"):
        getattr(edgekit, name)()
    assert module.__name__ == f"edgekit.{name}"


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        _ = edgekit.compres  # pyright: ignore[reportAttributeAccessIssue]


def test_import_brings_nothing_heavy() -> None:
    code = "import sys, edgekit; print([m for m in ('torch', 'onnx', 'numpy', 'cv2', 'rich') if m in sys.modules])"
    repository = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
