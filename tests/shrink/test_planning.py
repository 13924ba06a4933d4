"""Plans in words, the distance that the scan measures, and names of run folders."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.recipe import DataSection, ModelSection, PruneSection, Recipe, ShareSection
from edgekit.prune.plan import PrunedGroup, PrunePlan
from edgekit.prune.sparsity import LayerSparsity, SparsityPlan
from edgekit.quantize.codebook import Sharing
from edgekit.quantize.share_plan import LayerSharing, SharePlan
from edgekit.shrink.loss import log_softmax
from edgekit.shrink.request import is_asked, name_suffix
from edgekit.shrink.telling import tell_channels, tell_sharing, tell_sparsity


def recipe(prune: PruneSection | None = None, share: ShareSection | None = None) -> Recipe:
    return Recipe(
        model=ModelSection(name="m"),
        data=DataSection(name="d"),
        prune=prune or PruneSection(),
        share=share or ShareSection(),
    )


@pytest.mark.parametrize(
    ("asked", "suffix"),
    [
        (recipe(), ""),
        (recipe(PruneSection(channels=0.3)), "-channels0.3"),
        (recipe(PruneSection(sparsity=0.6)), "-zeros0.6"),
        (recipe(PruneSection(method="2:4")), "-zeros2in4"),
        (recipe(PruneSection(sparsity=0.5), ShareSection(conv_bits=8, fc_bits=5)), "-zeros0.5-shared8.5"),
    ],
)
def test_folder_name_says_what_was_asked(asked: Recipe, suffix: str) -> None:
    assert name_suffix(asked) == suffix
    assert is_asked(asked) is bool(suffix)


def test_channel_plan_is_told_with_predicted_macs() -> None:
    plan = PrunePlan(
        pruning_ratio=0.3,
        round_to=8,
        groups=(
            PrunedGroup(layers=("a", "b"), num_channels=32, num_kept=24),
            PrunedGroup(layers=("c",), num_channels=10, num_kept=10, reason="the model's output"),
        ),
        cuts=(),
        num_params=(1000, 800),
        macs=(4000, 3000),
    )
    text = "\n".join(tell_channels(plan))

    assert "a and 1 more: 32 -> 24" in text
    assert "c: 10 (stays: the model's output)" in text
    assert "multiply-accumulates 4,000 -> 3,000 (-25.0 %)" in text


def test_sparsity_and_sharing_are_told_layer_by_layer() -> None:
    zeros = SparsityPlan(layers=(LayerSparsity(layer="a", num_weights=1000, sparsity=0.5),), pattern="2:4")
    assert list(tell_sparsity(zeros)) == [
        "plan: 50.0 % of the weights become zero, pattern 2:4",
        "  a: 50.0 % of 1,000",
    ]
    how = Sharing(num_clusters=32, num_groups=2)
    sharing = SharePlan(
        layers=(
            LayerSharing(layer="a", op="Conv", num_weights=9, num_bits=5, sharing=how),
            LayerSharing(layer="b", op="Conv", num_weights=9),
        )
    )
    assert list(tell_sharing(sharing))[1:] == ["  a: at most 32 values in each of 2 groups", "  b: not shared"]


def test_log_softmax_bears_large_logits() -> None:
    rows = np.exp(log_softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]])))

    assert np.allclose(rows, [[1.0, 0.0], [0.5, 0.5]])
