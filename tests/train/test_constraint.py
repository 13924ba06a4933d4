"""Training under a constraint: here, pruned weights that must stay zero."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from edgekit.core.recipe import TrainSection
from edgekit.prune.masking import GradualMasks
from edgekit.prune.sparsity import LayerSparsity, SparsityPlan
from edgekit.train.loop import Trainer
from edgekit.train.state import load_state
from toy_training import make_trainer

PLAN = SparsityPlan(
    layers=(
        LayerSparsity(layer="conv", num_weights=72, sparsity=0.0),
        LayerSparsity(layer="classifier", num_weights=800, sparsity=0.75),
    )
)


def pruned_trainer(config: TrainSection) -> Trainer:
    trainer = make_trainer(config)
    trainer.hooks = msgspec.structs.replace(trainer.hooks, constraint=GradualMasks(PLAN, ramp=0.5))
    return trainer


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_pruned_weights_are_exactly_zero_at_the_end(tmp_path: Path, ema_decay: float) -> None:
    config = TrainSection(epochs=4, batch_size=16, learning_rate=0.05, ema_decay=ema_decay)
    state = pruned_trainer(config).run(tmp_path / "s.safetensors")
    assert int((state["classifier.weight"] == 0).sum()) == 600
    assert bool((state["conv.weight"] != 0).all())


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, stop: int, ema_decay: float) -> None:
    config = TrainSection(epochs=4, batch_size=16, learning_rate=0.05, ema_decay=ema_decay)
    expected = pruned_trainer(config).run(tmp_path / "whole.safetensors")

    cut = pruned_trainer(config)
    path = tmp_path / "cut.safetensors"

    def interrupt(history: list[object]) -> None:
        if len(history) == stop:
            raise KeyboardInterrupt

    cut.hooks = msgspec.structs.replace(cut.hooks, on_epoch=interrupt)
    with pytest.raises(KeyboardInterrupt):
        cut.run(path)
    assert len(load_state(path).history) == stop
    actual = pruned_trainer(config).run(path, resume=True)

    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []
