"""Weights that stay shared while they are trained."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.core.errors import GraphError, RecipeError
from edgekit.core.recipe import TrainSection
from edgekit.quantize.codebook import Sharing, read_codebook, share
from edgekit.quantize.share_plan import LayerSharing, SharePlan
from edgekit.quantize.sharing import Assignments, SharedWeights
from edgekit.train.loop import Trainer
from toy_training import make_trainer

CONV, FC = Sharing(num_clusters=8, num_groups=2), Sharing(num_clusters=16)
ASSIGNMENTS: tuple[Assignments, ...] = ("fixed", "refreshed")


def plan_of(**sharings: Sharing | None) -> SharePlan:
    return SharePlan(
        layers=tuple(
            LayerSharing(layer=name, op="Conv", num_weights=0, sharing=sharing) for name, sharing in sharings.items()
        )
    )


def shared_trainer(config: TrainSection, assignments: Assignments) -> Trainer:
    """A TinyNet with a quarter of the classifier's weights pruned, its two layers shared."""
    trainer = make_trainer(config)
    with torch.no_grad():
        trainer.module.get_parameter("classifier.weight")[:, ::4] = 0
    constraint = SharedWeights(plan_of(conv=CONV, classifier=FC), assignments)
    trainer.hooks = msgspec.structs.replace(trainer.hooks, constraint=constraint)
    return trainer


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("assignments", ASSIGNMENTS)
def test_trained_weights_are_shared_and_zeros_stay(
    tmp_path: Path, assignments: Assignments, optimizer: str, ema_decay: float
) -> None:
    config = TrainSection(epochs=3, batch_size=16, learning_rate=0.002, optimizer=optimizer, ema_decay=ema_decay)  # type: ignore[arg-type]
    trainer = shared_trainer(config, assignments)
    before = trainer.module.get_parameter("classifier.weight").detach().clone()
    state = trainer.run(tmp_path / "s.safetensors")

    conv, fc = (state[f"{name}.weight"].numpy() for name in ("conv", "classifier"))
    assert all(2 <= size <= 8 for size in read_codebook(conv, 2).group_sizes)
    assert 2 <= read_codebook(fc).group_sizes[0] <= 16
    assert np.array_equal(fc == 0, before.numpy() == 0)
    start = share(before.numpy(), FC).values
    assert not np.array_equal(np.unique(start), np.unique(fc))  # the values were trained


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("assignments", ASSIGNMENTS)
@pytest.mark.parametrize("stop", [1, 2])
def test_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, stop: int, assignments: Assignments, optimizer: str, ema_decay: float
) -> None:
    config = TrainSection(epochs=3, batch_size=16, learning_rate=0.002, optimizer=optimizer, ema_decay=ema_decay)  # type: ignore[arg-type]
    expected = shared_trainer(config, assignments).run(tmp_path / "whole.safetensors")

    cut = shared_trainer(config, assignments)
    path = tmp_path / "cut.safetensors"

    def interrupt(history: list[object]) -> None:
        if len(history) == stop:
            raise KeyboardInterrupt

    cut.hooks = msgspec.structs.replace(cut.hooks, on_epoch=interrupt)
    with pytest.raises(KeyboardInterrupt):
        cut.run(path)
    actual = shared_trainer(config, assignments).run(path, resume=True)

    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []


def attached(weight: Tensor, sharing: Sharing, assignments: Assignments = "fixed") -> tuple[SharedWeights, nn.Linear]:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    module = nn.Sequential(layer)
    constraint = SharedWeights(plan_of(**{"0": sharing}), assignments)
    constraint.attach(module)
    return constraint, layer


def test_gradient_is_the_sum_over_the_cluster() -> None:
    weight = torch.tensor([[1.0, 2.0, 0.0, 1.0], [2.0, 1.0, 2.0, 0.0]])
    constraint, layer = attached(weight, Sharing(num_clusters=3))
    layer.weight.grad = torch.tensor([[1.0, 10.0, 5.0, 2.0], [20.0, 4.0, 40.0, 5.0]])
    constraint.before_step()
    assert layer.weight.grad.tolist() == [[7.0, 70.0, 0.0, 7.0], [70.0, 7.0, 70.0, 0.0]]


def test_gradient_is_summed_in_each_channel_group() -> None:
    weight = torch.tensor([[1.0, 2.0], [1.0, 1.0], [1.0, 2.0], [2.0, 2.0]])
    constraint, layer = attached(weight, Sharing(num_clusters=2, num_groups=2))
    layer.weight.grad = torch.tensor([[1.0, 10.0], [2.0, 4.0], [8.0, 20.0], [40.0, 80.0]])
    constraint.before_step()
    assert layer.weight.grad.tolist() == [[7.0, 10.0], [7.0, 7.0], [8.0, 140.0], [140.0, 140.0]]


def test_unpinned_zero_is_a_value_like_the_others() -> None:
    constraint, layer = attached(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), Sharing(num_clusters=2, pin_zero=False))
    layer.weight.grad = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    constraint.before_step()
    assert layer.weight.grad.tolist() == [[3.0, 30.0], [3.0, 30.0]]


def test_weights_move_freely_only_in_epochs_before_the_last_one() -> None:
    constraint, layer = attached(torch.tensor([[1.0, 1.0, 0.0, 3.0]]), Sharing(num_clusters=3), "refreshed")
    moved = torch.tensor([[1.0, 2.9, 0.5, 3.1]])

    constraint.before_epoch(1, 2)
    layer.weight.grad = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    constraint.before_step()
    assert layer.weight.grad.tolist() == [[1.0, 2.0, 3.0, 4.0]]
    with torch.no_grad():
        layer.weight.copy_(moved)
    constraint.after_step(1, 2)
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[1.0, 2.9, 0.0, 3.1]]))
    constraint.after_epoch(1, 2)
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[1.0, 3.0, 0.0, 3.0]]))

    constraint.before_epoch(2, 2)
    constraint.before_step()
    assert layer.weight.grad.tolist() == [[1.0, 6.0, 0.0, 6.0]]
    with torch.no_grad():
        layer.weight.copy_(moved)
    constraint.after_step(2, 2)
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[1.0, 3.0, 0.0, 3.0]]))


def test_weights_with_few_values_are_taken_as_they_are() -> None:
    weight = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    _, layer = attached(weight, Sharing(num_clusters=256))
    assert torch.equal(layer.weight.detach(), weight)


def test_clusters_that_meet_are_one_after_the_epoch() -> None:
    constraint, layer = attached(torch.tensor([[1.0, 2.0, 3.0]]), Sharing(num_clusters=4))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 2.0, 3.0]]))
    constraint.after_epoch(1, 2)
    layer.weight.grad = torch.tensor([[1.0, 2.0, 4.0]])
    constraint.before_step()
    assert layer.weight.grad.tolist() == [[3.0, 3.0, 4.0]]


def test_averaged_weights_are_given_the_mean_of_their_cluster() -> None:
    constraint, _ = attached(torch.tensor([[1.0, 1.0, 0.0, 3.0]]), Sharing(num_clusters=3))
    state = {"0.weight": torch.tensor([[1.0, 2.0, 0.3, 5.0]])}
    constraint.hold(state)
    assert state["0.weight"].tolist() == [[1.5, 1.5, 0.0, 5.0]]


def test_important_weights_draw_the_clusters() -> None:
    weight = torch.tensor([[1.0, 2.0, 10.0]])
    values: list[float] = []
    for importance in (np.array([[1.0, 1.0, 1.0]]), np.array([[1.0, 99.0, 1.0]])):
        module = nn.Sequential(nn.Linear(3, 1, bias=False))
        with torch.no_grad():
            module.get_parameter("0.weight").copy_(weight)
        SharedWeights(plan_of(**{"0": Sharing(num_clusters=2)}), importance={"0": importance}).attach(module)
        values.append(module.get_parameter("0.weight").tolist()[0][0])
    assert values == pytest.approx([1.5, 1.99])


def test_plan_of_another_model_is_refused() -> None:
    with pytest.raises(GraphError, match="nowhere"):
        SharedWeights(plan_of(nowhere=FC)).attach(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize("weight", [[[float("nan"), 1.0]], [[0.0, 1.0]]])
def test_weights_that_cannot_be_shared_are_refused(weight: list[list[float]]) -> None:
    with pytest.raises(RecipeError):
        attached(torch.tensor(weight), Sharing(num_clusters=1))
