"""The bars of pruning and sharing fail when the exported file breaks the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.graph import Graph, Node
from edgekit.core.measurement import Accuracy
from edgekit.core.report import Check, Original
from edgekit.export.stored import StoredFile, StoredTensor
from edgekit.prune.sparsity import LayerSparsity, SparsityPlan
from edgekit.quantize.codebook import Sharing
from edgekit.quantize.share_plan import LayerSharing, SharePlan
from edgekit.shrink.reporting import Exported, follows_2_4, judge_shrinking, measure_coding, most_values
from edgekit.shrink.request import Shrunk

HUB: Any = None
"""The bars look at plans and at the file, not at the model."""


def accuracy(top1: float) -> Accuracy:
    return Accuracy(top1=top1, top5=None, n=100, ci95=(0.0, 1.0))


def original(top1: float | None = 0.9) -> Original:
    measured = None if top1 is None else accuracy(top1)
    return Original(num_params=8, macs=8, float_bytes=90, tflite_bytes=50, ekz_bytes=40, accuracy=measured)


def exported(values: list[list[int]], top1: float | None = 0.9) -> Exported:
    weight = np.array(values, np.int8)
    graph = Graph(
        name="one",
        nodes=(Node(name="fc", op="Gemm", inputs=("x", "fc.weight", "fc.bias"), outputs=("y",), attrs={}),),
        constants={"fc.weight": weight.astype(np.float32), "fc.bias": np.zeros(len(weight), np.float32)},
        input="x",
        output="y",
        shapes={"x": (1, weight.shape[1]), "y": (1, weight.shape[0])},
    )
    tensor = StoredTensor(values=weight, scale=np.ones(1, np.float32), zero_point=np.zeros(1, np.int32))
    stored = StoredFile(constants={"fc.weight": tensor}, activations={}, float_layers=(), num_weighted=1)
    measured = None if top1 is None else accuracy(top1)
    return Exported(graph=graph, stored=stored, run_dir=Path(), accuracy=measured)


def shrunk(*, sparsity: float | None = None, pattern: str | None = None, num_clusters: int | None = None) -> Shrunk:
    zeros = None
    if sparsity is not None:
        layer = LayerSparsity(layer="fc", num_weights=8, sparsity=sparsity)
        zeros = SparsityPlan(layers=(layer,), pattern=pattern)  # type: ignore[arg-type]
    sharing = None
    if num_clusters is not None:
        how = Sharing(num_clusters=num_clusters)
        sharing = SharePlan(layers=(LayerSharing(layer="fc", op="Gemm", num_weights=8, num_bits=1, sharing=how),))
    return Shrunk(hub=HUB, sparsity=zeros, sharing=sharing)


def judged(plan: Shrunk, file: Exported, *, max_drop: float = 1.0, before: Original | None = None) -> dict[str, Check]:
    return {check.name: check for check in judge_shrinking(plan, before or original(), file, max_drop)}


FOUR_VALUES = [[0, 0, 5, 7], [0, 0, -5, 7]]


def test_accuracy_bar_looks_at_the_original() -> None:
    assert judged(shrunk(), exported(FOUR_VALUES, 0.895))["TFLite keeps the original's accuracy"].passed
    assert not judged(shrunk(), exported(FOUR_VALUES, 0.88))["TFLite keeps the original's accuracy"].passed
    assert judged(shrunk(), exported(FOUR_VALUES, 0.88), max_drop=3)["TFLite keeps the original's accuracy"].passed


def test_accuracy_bar_is_absent_without_labels() -> None:
    assert judged(shrunk(), exported(FOUR_VALUES, None), before=original(None)) == {}


@pytest.mark.parametrize(("num_clusters", "passed"), [(4, True), (3, False)])
def test_values_are_counted_in_the_file(num_clusters: int, passed: bool) -> None:
    check = judged(shrunk(num_clusters=num_clusters), exported(FOUR_VALUES))[
        "shared layers have no more values than they may"
    ]
    assert check.passed is passed
    assert check.layer == (None if passed else "fc")


@pytest.mark.parametrize(("sparsity", "passed"), [(0.5, True), (0.625, False)])
def test_zeros_are_counted_in_the_file(sparsity: float, passed: bool) -> None:
    check = judged(shrunk(sparsity=sparsity), exported(FOUR_VALUES))["planned zeros are zeros in the file"]
    assert check.passed is passed
    assert check.layer == (None if passed else "fc")


def test_pattern_is_looked_for_in_the_file() -> None:
    name = "planned zeros are zeros in the file"
    assert judged(shrunk(sparsity=0.5, pattern="2:4"), exported(FOUR_VALUES))[name].passed
    unequal = [[0, 0, 0, 0], [1, 1, 1, 2]]
    assert not judged(shrunk(sparsity=0.5, pattern="2:4"), exported(unequal))[name].passed


def test_pattern_runs_along_the_inputs() -> None:
    kernel = np.zeros((2, 4, 3, 3), np.int8)
    kernel[:, :2] = 1
    assert follows_2_4(kernel)
    kernel[0, 2, 0, 0] = 1
    assert not follows_2_4(kernel)


def test_most_values_count_every_group() -> None:
    how = Sharing(num_clusters=16, num_groups=4)
    plan = SharePlan(layers=(LayerSharing(layer="a", op="Conv", num_weights=99, num_bits=4, sharing=how),))
    assert most_values(Shrunk(hub=HUB, sharing=plan)) == {"a": 64}
    assert most_values(shrunk()) == {}


def test_coding_counts_what_is_kept() -> None:
    table = measure_coding(exported(FOUR_VALUES), gap_bits=4)

    assert (table.total.num_weights, table.total.num_kept) == (8, 4)
    assert [row.name for row in table.rows] == ["fc"]
