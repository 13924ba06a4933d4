"""`edgekit compress --prune --share` of a user's own ONNX file, and wishes that cannot be met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cli_network import QUICK
from command_line import Outcome, assert_fails, edgekit

LOOSE = ("--max-drop", "100", *QUICK)


def report_of(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "report.json").read_text())


def test_onnx_file_is_pruned_without_training(network: Path, colours: Path, tmp_path: Path) -> None:
    outcome = edgekit(
        "compress", network, "--data", colours, "--prune", "0.5", "--set", "prune.dense_layers=[]", "--share", "4",
        "--out", tmp_path / "run", *LOOSE,
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    assert "without fine-tuning" in outcome.err
    assert report_of(tmp_path / "run")["shrink"]["num_epochs"] == 0
    constants = {
        each.name: numpy_helper.to_array(each) for each in onnx.load(tmp_path / "run" / "float.onnx").graph.initializer
    }
    weights = [values for values in constants.values() if values.ndim > 1]
    assert sum(int((values == 0).sum()) for values in weights) >= 0.5 * sum(values.size for values in weights)
    shared = [values for values in weights if values.shape[1:] != (1, 3, 3)]
    assert all(len(np.unique(values)) <= 16 for values in shared)


def test_layer_wise_pruning_spares_what_matters(network: Path, colours: Path, tmp_path: Path) -> None:
    outcome = edgekit(
        "compress", network, "--data", colours, "--prune", "layer-wise:0.4", "--set", "prune.dense_layers=[]",
        "--out", tmp_path / "run", *LOOSE,
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    section = report_of(tmp_path / "run")["shrink"]
    assert section["method"] == "layer_wise"
    assert section["sparsity"] >= 0.39


def test_prune_nothing_is_a_plain_run(
    network: Path, colours: Path, compressed: tuple[Path, Outcome], tmp_path: Path
) -> None:
    outcome = edgekit(
        "compress",
        network,
        "--data",
        colours,
        "--prune",
        "0",
        "--prune-channels",
        "0",
        "--out",
        tmp_path / "run",
        *QUICK,
    )

    assert outcome.code == 0, outcome.err
    assert report_of(tmp_path / "run")["shrink"] is None
    assert (tmp_path / "run" / "model.tflite").read_bytes() == (compressed[0] / "model.tflite").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prune", "1.0"), ("prune.sparsity", "< 1.0")),
        (("--prune", "-0.1"), ("prune.sparsity",)),
        (("--prune", "half"), ("--prune", "layer-wise")),
        (("--prune", "layer-wise:x"), ("--prune", "layer-wise")),
        (("--prune-channels", "1"), ("prune.channels", "< 1.0")),
        (("--share", "9"), ("share.conv_bits", "<= 8")),
        (("--share", "8/"), ("--share", "8/5")),
        (("--code", "arithmetic"), ("code.method",)),
        (("--prune", "0.9"), ("weights may become zero",)),
        (("--set", "prune.ignored_layers=[\"nowhere\"]", "--prune-channels", "0.5"), ("nowhere",)),
    ],
)  # fmt: skip
def test_wrong_wishes_are_errors(
    network: Path, colours: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    outcome = edgekit("compress", network, "--data", colours, "--out", tmp_path / "run", *arguments, *QUICK)

    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert not (tmp_path / "run").exists()
    for word in words:
        assert word in outcome.err


def test_too_few_weights_to_share_are_no_error(network: Path, colours: Path, tmp_path: Path) -> None:
    outcome = edgekit("compress", network, "--data", colours, "--share", "8", "--out", tmp_path / "run", *LOOSE)

    assert outcome.code == 0, outcome.err
    assert_fails(edgekit("compress", network, "--share", "five"), 2, "--share")
