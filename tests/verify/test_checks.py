"""The bars of verification: what passes, what does not, and which layer is named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgekit.core.measurement import Accuracy, Agreement
from edgekit.core.report import Check
from edgekit.export.stored import StoredFile
from edgekit.verify.checks import FileFindings, Findings, judge
from edgekit.verify.integers import Difference


def stored(*float_layers: str, num_weighted: int = 3) -> StoredFile:
    return StoredFile(constants={}, activations={}, float_layers=float_layers, num_weighted=num_weighted)


def accuracy(top1: float) -> Accuracy:
    return Accuracy(top1=top1, top5=None, n=1000, ci95=(top1, top1))


def agreement(top1: float = 1.0) -> Agreement:
    return Agreement(top1=top1, max_abs_error=0.0, n=1000)


def findings(**changes: Any) -> Findings:
    files = {
        "stored": {"onnx": stored(), "tflite": stored()},
        "difference": None,
        "mean_steps": 0.1,
        "max_steps": 2,
        "divergent_layer": None,
        "weakest_layer": "conv3",
        "trained": True,
        "is_dynamic": False,
    }
    answers = {
        "float_error": 1e-6,
        "largest_logit": 20.0,
        "accuracy": {"float": accuracy(0.9), "onnx": accuracy(0.9), "tflite": accuracy(0.9)},
        "agreement": {"onnx": agreement(), "tflite": agreement()},
    }
    changed_files = {name: changes.pop(name) for name in files if name in changes}
    return Findings(files=FileFindings(**{**files, **changed_files}), **{**answers, **changes})


def missed(found: Findings, max_drop: float = 1.0) -> dict[str, str | None]:
    checks: tuple[Check, ...] = judge(found, max_drop=max_drop, max_float_error=1e-4)
    return {check.name: check.layer for check in checks if not check.passed}


def test_good_files_meet_every_bar_and_name_no_layer() -> None:
    checks = judge(findings(), max_drop=1.0, max_float_error=1e-4)

    assert all(check.passed and check.layer is None for check in checks)
    assert len(checks) == 7


@pytest.mark.parametrize("accuracies", [None, {}], ids=["labelled", "unlabelled"])
def test_numbers_of_pictures_are_written_as_on_the_rest_of_the_page(accuracies: dict[str, Accuracy] | None) -> None:
    found = findings() if accuracies is None else findings(accuracy=accuracies)

    counted = [check for check in judge(found, max_drop=1.0, max_float_error=1e-4) if "pictures" in check.measured]

    assert len(counted) == 2
    assert all("1,000 pictures" in check.measured for check in counted)


def test_float_bar_grows_with_logits_that_are_larger_than_a_trained_classifiers() -> None:
    assert missed(findings(float_error=1.9e-4, largest_logit=64.0)) == {}


def test_float_bar_is_left_out_without_a_torch_model() -> None:
    names = [check.name for check in judge(findings(float_error=None), max_drop=1.0, max_float_error=1e-4)]

    assert "float ONNX equals torch" not in names


@pytest.mark.parametrize(
    ("changes", "name", "layer"),
    [
        ({"float_error": 2e-4}, "float ONNX equals torch", None),
        ({"float_error": float("nan")}, "float ONNX equals torch", None),
        ({"float_error": 2e-4, "largest_logit": 32.0}, "float ONNX equals torch", None),
        ({"float_error": 2.1e-4, "largest_logit": 64.0}, "float ONNX equals torch", None),
        ({"float_error": float("inf"), "largest_logit": float("inf")}, "float ONNX equals torch", None),
        ({"stored": {"tflite": stored("conv2", "conv3")}}, "TFLite is integer throughout", "conv2"),
        ({"stored": {"onnx": stored(num_weighted=0)}}, "ONNX is integer throughout", None),
        ({"difference": Difference(layer="a:0", what="x")}, "TFLite and ONNX hold the same integers", "a:0"),
        ({"mean_steps": 1.01}, "TFLite and ONNX answer alike", "conv3"),
    ],
)
def test_bar_is_missed_when(changes: dict[str, Any], name: str, layer: str | None) -> None:
    assert missed(findings(**changes)) == {name: layer}


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"stored": {"onnx": stored("a", "b"), "tflite": stored("softmax")}}, {}),  # float beside the layers is right
        (
            {"stored": {"tflite": msgspec.structs.replace(stored(), float_weights=("mlp", "head"))}},
            {"TFLite has integer weights throughout": "mlp"},
        ),
        ({"stored": {"onnx": stored(num_weighted=0)}}, {"ONNX has integer weights throughout": None}),
        ({"mean_steps": 3.9}, {}),
        ({"mean_steps": 4.1}, {"TFLite and ONNX answer alike": "conv3"}),
        ({"mean_steps": float("nan")}, {"TFLite and ONNX answer alike": "conv3"}),
    ],
)
def test_dynamic_scheme_has_bars_of_its_own(changes: dict[str, Any], missing: dict[str, str | None]) -> None:
    assert missed(findings(is_dynamic=True, **changes)) == missing


@pytest.mark.parametrize(("top1", "passes"), [(0.89, True), (0.8899, False), (0.95, True)])
def test_accuracy_may_drop_by_the_bar_and_no_more(top1: float, passes: bool) -> None:
    table = {"float": accuracy(0.9), "onnx": accuracy(0.9), "tflite": accuracy(top1)}

    assert missed(findings(accuracy=table), max_drop=1.0 + 1e-9) == (
        {} if passes else {"TFLite keeps the accuracy": "conv3"}
    )


def test_lost_accuracy_names_the_first_divergent_layer_before_the_weakest() -> None:
    table = {"float": accuracy(0.9), "onnx": accuracy(0.9), "tflite": accuracy(0.5)}

    assert missed(findings(accuracy=table, divergent_layer="conv1")) == {"TFLite keeps the accuracy": "conv1"}


@pytest.mark.parametrize(("trained", "top1", "passes"), [(True, 0.8, True), (True, 0.79, False), (False, 0.1, True)])
def test_agreement_stands_in_for_accuracy_without_labels(trained: bool, top1: float, passes: bool) -> None:
    found = findings(accuracy={}, trained=trained, agreement={"tflite": agreement(top1)})

    assert missed(found) == ({} if passes else {"TFLite agrees with float": "conv3"})
