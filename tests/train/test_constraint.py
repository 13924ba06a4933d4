"""Training under a constraint: here, pruned weights that must stay zero."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

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


class Recorder:
    """A constraint that notes when it is called, and stops every second gradient."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.module: nn.Module = nn.Identity()

    def attach(self, module: nn.Module) -> None:
        self.module = module
        self.calls.append("attach")

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        self.calls.append(f"before epoch {epoch}/{num_epochs}")

    def before_step(self) -> None:
        self.calls.append("before step")
        weight = self.module.get_parameter("conv.weight")
        assert weight.grad is not None
        weight.grad.zero_()

    def after_step(self, step: int, num_steps: int) -> None:
        self.calls.append(f"after step {step}/{num_steps}")

    def after_epoch(self, epoch: int, num_epochs: int) -> None:
        self.calls.append(f"after epoch {epoch}/{num_epochs}")

    def hold(self, state: dict[str, Tensor]) -> None:
        self.calls.append("hold")
        state["classifier.bias"].fill_(7.0)


def test_constraint_is_called_around_every_epoch_and_step(tmp_path: Path) -> None:
    trainer = make_trainer(TrainSection(epochs=2, batch_size=25, weight_decay=0.0))
    recorder = Recorder()
    trainer.hooks = msgspec.structs.replace(trainer.hooks, constraint=recorder)
    before = trainer.module.get_parameter("conv.weight").detach().clone()

    trainer.run(tmp_path / "s.safetensors")

    assert recorder.calls == [
        "attach",
        *("before epoch 1/2", "before step", "after step 1/4", "before step", "after step 2/4", "after epoch 1/2"),
        *("before epoch 2/2", "before step", "after step 3/4", "before step", "after step 4/4", "after epoch 2/2"),
        "hold",
    ]
    assert torch.equal(trainer.module.get_parameter("conv.weight"), before)


def test_averaged_network_is_validated_as_it_will_be_saved(tmp_path: Path) -> None:
    trainer = make_trainer(TrainSection(epochs=1, batch_size=25, ema_decay=0.9))
    seen: list[Tensor] = []

    def validate(module: nn.Module) -> tuple[float, float]:
        seen.append(module.get_parameter("classifier.bias").detach().clone())
        return 0.0, 0.0

    trainer.hooks = msgspec.structs.replace(trainer.hooks, constraint=Recorder(), validate=validate)
    state = trainer.run(tmp_path / "s.safetensors")

    assert [bias.tolist() for bias in seen] == [[7.0] * 4] == [state["classifier.bias"].tolist()]
    assert trainer.module.get_parameter("classifier.bias").tolist() != [7.0] * 4
