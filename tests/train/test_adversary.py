"""Adversarial training: what the attack may do to a batch, that it helps, and what it goes together with."""

from __future__ import annotations

import copy
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgekit.core.errors import RecipeError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import AugmentSection, DataSection, ModelSection, Recipe, TrainSection
from edgekit.core.recipe_files import override_recipe
from edgekit.perturb.gradient import pgd
from edgekit.perturb.torch_gradient import make_loss_gradient
from edgekit.prune.masking import GradualMasks
from edgekit.prune.sparsity import LayerSparsity, SparsityPlan
from edgekit.train.adversary import Adversary, make_adversary
from edgekit.train.augment import Mixed
from edgekit.train.loop import Trainer
from edgekit.train.loss import classification_loss
from edgekit.train.run import train
from toy_pictures import toy_source
from toy_training import SPEC, TinyNet, make_trainer

COLOR = PreprocessSpec(input_size=(6, 5), num_channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
EVERYTHING = AugmentSection(crop_padding=2, flip=True, erase=0.3, rand_ops=1, mixup=0.3, cutmix=0.5)
CPU = torch.device("cpu")


def section(method: str, **settings: float) -> TrainSection:
    given = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05, "adversarial": method} | settings
    return msgspec.convert(given, TrainSection)


def adversary(config: TrainSection, spec: PreprocessSpec) -> Adversary:
    made = make_adversary(config, spec, CPU)
    assert made is not None
    return made


def levels_of(batch: Tensor, spec: PreprocessSpec) -> Tensor:
    """A normalized batch [n, c, h, w] back on the scale 0..255."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    return 255 * (batch * std + mean)


def test_nothing_is_attacked_unless_asked_for() -> None:
    assert make_adversary(TrainSection(), SPEC, CPU) is None


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
@given(
    epsilon=st.floats(1e-3, 1), steps=st.integers(1, 4), smoothing=st.sampled_from([0, 0.1]), seed=st.integers(0, 99)
)
def test_attacked_batch_is_within_epsilon_and_the_range_of_pictures(
    method: str, epsilon: float, steps: int, smoothing: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(90, 4))
    levels = torch.randint(0, 256, (5, 3, 6, 5), generator=generator).float()
    levels[0], levels[1] = 0, 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (COLOR.mean, COLOR.std))
    pictures = ((levels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
    before = pictures.clone()
    first, second = (torch.randint(0, 4, (5,), generator=generator) for _ in range(2))
    config = section(method, adversarial_epsilon=epsilon, adversarial_steps=steps, label_smoothing=smoothing)

    attacked = adversary(config, COLOR).attack(network, pictures, Mixed(first, second, 0.7))

    changed = levels_of(attacked, COLOR)
    assert not attacked.requires_grad
    assert attacked.is_contiguous(memory_format=torch.channels_last)
    assert float(changed.min()) > -0.01
    assert float(changed.max()) < 255.01
    assert 0 < float((changed - levels).abs().max()) <= 255 * epsilon + 0.01
    assert torch.equal(pictures, before)
    assert network[1].weight.grad is None


def test_attack_raises_the_loss_and_more_steps_raise_it_more() -> None:
    torch.manual_seed(0)
    trainer = trained(None)
    pictures, target = next(iter(trainer.feed.batches(1)))
    network = trainer.module.eval()

    def loss_of(method: str | None) -> float:
        if method is None:
            shift = adversary(section("fgsm", adversarial_epsilon=0.2), SPEC).epsilon
            attacked = pictures + shift * (2 * torch.rand_like(pictures) - 1)
        else:
            attacked = adversary(section(method, adversarial_epsilon=0.2), SPEC).attack(network, pictures, target)
        with torch.inference_mode():
            return float(classification_loss(network(attacked), target, 0.0))

    assert 2 * loss_of(None) < loss_of("fgsm") < loss_of("pgd")


def trained(method: str | None, *, epsilon: float = 0.2) -> Trainer:
    """A tiny network after a second of training."""
    config = TrainSection(epochs=16, batch_size=16, learning_rate=0.05, warmup_epochs=0.5)
    if method is not None:
        config = section(method, epochs=16, warmup_epochs=0.5, adversarial_epsilon=epsilon)
    trainer = make_trainer(config, num_pictures=160)
    for epoch in range(1, config.epochs + 1):
        trainer.history.append(trainer.run_epoch(epoch))
    return trainer


def accuracy_under_attack(network: nn.Module, epsilon: float) -> float:
    source = toy_source(60, split="test", size=12, seed=9)
    assert source.labels is not None
    gradient_of = make_loss_gradient(network, SPEC)
    attacked = pgd(gradient_of, source.pictures, source.labels, epsilon, num_steps=10, rng=np.random.default_rng(0))
    _, logits = gradient_of(attacked.astype(np.float32), source.labels)
    return float((logits.argmax(axis=1) == source.labels).mean())


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_adversarial_training_helps_against_pgd(method: str) -> None:
    plain, robust = trained(None), trained(method)

    before, after = (accuracy_under_attack(trainer.module, 0.2) for trainer in (plain, robust))

    assert after > before + 0.3
    val_top1 = robust.history[-1].val_top1
    assert val_top1 is not None
    assert val_top1 > 0.9


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(method: str, tmp_path: Path) -> None:
    """With every augmentation, smoothing, averaging, clipping and a teacher at once."""
    config = section(method, ema_decay=0.9, label_smoothing=0.1, grad_clip=1.0, distill_weight=0.3)
    torch.manual_seed(1)
    teacher = TinyNet().eval()
    expected = make_trainer(config, EVERYTHING, teacher=teacher).run(tmp_path / "whole.safetensors")

    cut = make_trainer(config, EVERYTHING, teacher=teacher)
    stop_after(cut, num_epochs=2)
    with pytest.raises(KeyboardInterrupt):
        cut.run(tmp_path / "cut.safetensors")
    torch.manual_seed(12345)  # whatever happened in between must not matter
    resumed = make_trainer(config, EVERYTHING, teacher=teacher)
    actual = resumed.run(tmp_path / "cut.safetensors", resume=True)

    assert len(resumed.history) == 3
    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []


def stop_after(trainer: Trainer, num_epochs: int) -> None:
    """Ctrl-C once so many epochs are saved."""

    def interrupt(history: list[object]) -> None:
        if len(history) == num_epochs:
            raise KeyboardInterrupt

    trainer.hooks = msgspec.structs.replace(trainer.hooks, on_epoch=interrupt)


def test_network_learns_from_attacked_pictures_and_the_teacher_sees_them_as_they_are() -> None:
    seen: list[tuple[bool, Tensor]] = []

    class Watched(TinyNet):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((self.training, x.detach()))
            return super().forward(x)

    teacher = Watched().eval()
    trainer = make_trainer(section("pgd", adversarial_steps=3, adversarial_epsilon=0.1), teacher=teacher)
    student = Watched()
    student.load_state_dict(trainer.module.state_dict())
    trainer.module = student
    pictures, target = next(iter(trainer.feed.batches(1)))
    statistics = student.norm.running_mean
    assert statistics is not None
    convolution = copy.deepcopy(student.conv)

    trainer._run_step(pictures, target)

    # Three steps of the attack in eval mode, one forward pass to learn from, one of the teacher.
    assert [training for training, _ in seen] == [False, False, False, True, False]
    learnt_from, teacher_saw = seen[3][1], seen[4][1]
    assert torch.equal(teacher_saw, pictures)
    change = (levels_of(learnt_from, SPEC) - levels_of(pictures, SPEC)).abs()
    assert 0.09 * 255 < float(change.max()) < 0.1 * 255 + 0.01
    # BatchNorm has seen one batch, that of the attacked pictures.
    assert student.norm.num_batches_tracked == 1
    torch.testing.assert_close(statistics, 0.1 * convolution(learnt_from).detach().mean(dim=(0, 2, 3)))


def test_masks_of_pruning_hold_under_adversarial_training(tmp_path: Path) -> None:
    trainer = make_trainer(section("fgsm", epochs=2))
    layer = LayerSparsity(layer="classifier", num_weights=800, sparsity=0.5)
    masks = GradualMasks(SparsityPlan(layers=(layer,)))
    trainer.hooks = msgspec.structs.replace(trainer.hooks, constraint=masks)

    state = trainer.run(tmp_path / "state.safetensors")

    assert int((state["classifier.weight"] == 0).sum()) == 400


def test_auxiliary_heads_learn_from_attacked_pictures(toy_mnist: str, tmp_path: Path) -> None:
    recipe = Recipe(
        model=ModelSection(name="googlenet_w0.25"),
        data=DataSection(name=toy_mnist),
        train=section("fgsm", epochs=1, batch_size=48),
    )

    run = train(recipe, tmp_path)

    assert np.isfinite(run.history[0].train_loss)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.adversarial=cw", "cw"),
        ("train.adversarial_epsilon=0", "adversarial_epsilon"),
        ("train.adversarial_epsilon=8", "adversarial_epsilon"),
        ("train.adversarial_steps=0", "adversarial_steps"),
    ],
)
def test_attack_that_cannot_be_is_refused(setting: str, message: str) -> None:
    recipe = Recipe(model=ModelSection(name="lenet5"), data=DataSection(name="mnist"))

    with pytest.raises(RecipeError, match=message):
        override_recipe(recipe, [setting])
