"""The training loop: it learns, it repeats itself exactly, and it stops when it must."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.errors import CheckpointError, TrainingError
from edgekit.core.history import EpochRow
from edgekit.core.recipe import AugmentSection, TrainSection
from edgekit.train.state import load_state
from toy_pictures import toy_source
from toy_training import make_trainer

EVERYTHING = AugmentSection(crop_padding=2, flip=True, erase=0.3, rand_ops=1, mixup=0.3, cutmix=0.5)
CONFIGS = {
    "sgd": TrainSection(epochs=4, batch_size=16, learning_rate=0.05),
    "sgd with everything": TrainSection(
        epochs=4,
        batch_size=16,
        learning_rate=0.05,
        ema_decay=0.9,
        label_smoothing=0.1,
        grad_clip=1.0,
        warmup_epochs=0.5,
    ),
    "adamw": TrainSection(epochs=4, batch_size=16, optimizer="adamw", learning_rate=0.01, ema_decay=0.5),
}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def without_times(history: list[EpochRow]) -> list[EpochRow]:
    return [msgspec.structs.replace(row, seconds=0, images_per_second=0) for row in history]


class Recorder:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.done: list[int] = []
        self.statuses: list[str] = []
        self.num_ended = 0

    def begin(self, label: str, total: int) -> None:
        assert label.startswith("epoch")
        self.totals.append(total)
        self.done.append(0)

    def advance(self, amount: int = 1, status: str = "") -> None:
        self.done[-1] += amount
        self.statuses.append(status)

    def end(self) -> None:
        self.num_ended += 1


class Interrupted(Recorder):
    """A progress that is interrupted by Ctrl-C at the first report of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def advance(self, amount: int = 1, status: str = "") -> None:
        super().advance(amount, status)
        if len(self.totals) == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", CONFIGS)
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, name: str) -> None:
    config = CONFIGS[name]
    whole = make_trainer(config, EVERYTHING)
    expected = whole.run(tmp_path / "whole.safetensors")

    with pytest.raises(KeyboardInterrupt):
        make_trainer(config, EVERYTHING, progress=Interrupted(epoch=3)).run(tmp_path / "cut.safetensors")
    assert len(load_state(tmp_path / "cut.safetensors").history) == 2
    torch.manual_seed(12345)  # whatever happened in between must not matter
    resumed = make_trainer(config, EVERYTHING)
    actual = resumed.run(tmp_path / "cut.safetensors", resume=True)

    assert_same(actual, expected)
    assert without_times(resumed.history) == without_times(whole.history)


def test_restored_optimizer_has_its_parameters_memory_layout(tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIGS["sgd"], epochs=1)
    make_trainer(config).run(tmp_path / "s.safetensors")
    trainer = make_trainer(config)
    trainer.run(tmp_path / "s.safetensors", resume=True)

    for parameter, slots in trainer.optimizer.state.items():
        assert slots["momentum_buffer"].stride() == parameter.stride()


def test_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    config = CONFIGS["sgd with everything"]
    first = make_trainer(config, EVERYTHING).run(tmp_path / "a.safetensors")
    torch.rand(7)
    again = make_trainer(config, EVERYTHING).run(tmp_path / "b.safetensors")
    other = make_trainer(msgspec.structs.replace(config, seed=1), EVERYTHING).run(tmp_path / "c.safetensors")

    assert_same(first, again)
    assert not torch.equal(first["conv.weight"], other["conv.weight"])


def test_tiny_network_learns_a_separable_set(tmp_path: Path) -> None:
    trainer = make_trainer(TrainSection(epochs=12, batch_size=16, learning_rate=0.05, ema_decay=0.8), num_pictures=160)

    trainer.run(tmp_path / "s.safetensors")

    last = trainer.history[-1]
    assert last.val_top1 is not None
    assert last.val_top1 > 0.9
    assert last.train_loss < trainer.history[0].train_loss
    assert [row.epoch for row in trainer.history] == list(range(1, 13))


def test_infinite_loss_ends_the_run_and_keeps_the_last_epoch(tmp_path: Path) -> None:
    config = TrainSection(epochs=3, batch_size=16, learning_rate=1e30, warmup_epochs=0)

    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at epoch 1") as caught:
        make_trainer(config).run(tmp_path / "s.safetensors")

    assert "train.learning_rate (now 1e+30)" in str(caught.value.hint)
    assert not (tmp_path / "s.safetensors").exists()


def test_mixed_targets_have_no_training_accuracy(tmp_path: Path) -> None:
    config = TrainSection(epochs=1, batch_size=16)
    plain, mixed = make_trainer(config), make_trainer(config, AugmentSection(mixup=0.2))

    for name, trainer in (("plain", plain), ("mixed", mixed)):
        trainer.run(tmp_path / f"{name}.safetensors")

    assert plain.history[0].train_top1 is not None
    assert mixed.history[0].train_top1 is None


def test_set_smaller_than_a_batch_is_one_batch(tmp_path: Path) -> None:
    trainer = make_trainer(TrainSection(epochs=2, batch_size=500))

    trainer.run(tmp_path / "s.safetensors")

    assert trainer.step == 2


def test_last_smaller_batch_is_left_out(tmp_path: Path) -> None:
    trainer = make_trainer(TrainSection(epochs=2, batch_size=16))  # 50 pictures: 3 batches, 2 left over

    trainer.run(tmp_path / "s.safetensors")

    assert trainer.step == 6


def test_progress_reaches_its_total_and_shows_the_numbers(tmp_path: Path) -> None:
    recorder = Recorder()

    make_trainer(TrainSection(epochs=2, batch_size=16), progress=recorder).run(tmp_path / "s.safetensors")

    assert recorder.totals == recorder.done == [3, 3]
    assert recorder.num_ended == 2
    for word in ("loss", "top-1", "images/s", "left"):
        assert word in recorder.statuses[-1]


def test_averaged_network_is_validated_and_live_one_trains_on(tmp_path: Path) -> None:
    trainer = make_trainer(TrainSection(epochs=1, batch_size=16, ema_decay=0.999))

    result = trainer.run(tmp_path / "s.safetensors")

    live = trainer.module.state_dict()
    assert not torch.equal(live["conv.weight"], result["conv.weight"])
    trainer.module.load_state_dict(result)
    assert trainer.hooks.validate is not None
    row = trainer.history[-1]
    assert trainer.hooks.validate(trainer.module.eval()) == (row.val_loss, row.val_top1)


def test_biases_and_batchnorm_do_not_decay() -> None:
    trainer = make_trainer(TrainSection(weight_decay=0.1))

    for group in trainer.optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)


def test_run_shorter_than_its_warmup_still_cools_down(tmp_path: Path) -> None:
    trainer = make_trainer(TrainSection(epochs=1, batch_size=4, learning_rate=0.1, warmup_epochs=5))

    trainer.run(tmp_path / "s.safetensors")

    assert trainer.history[-1].learning_rate < 0.02


def test_state_of_another_recipe_is_refused(tmp_path: Path) -> None:
    make_trainer(TrainSection(epochs=1, batch_size=16)).run(tmp_path / "s.safetensors")

    with pytest.raises(TrainingError, match="another recipe"):
        make_trainer(TrainSection(epochs=1, batch_size=8)).run(tmp_path / "s.safetensors", resume=True)


def test_state_of_another_network_is_refused(tmp_path: Path) -> None:
    config = TrainSection(epochs=1, batch_size=16)
    make_trainer(config).run(tmp_path / "s.safetensors")
    trainer = make_trainer(config)
    trainer.module = nn.Linear(3, 3)

    with pytest.raises(CheckpointError, match="the saved state"):
        trainer.run(tmp_path / "s.safetensors", resume=True)


def test_distillation_brings_the_student_to_the_teachers_answers(tmp_path: Path) -> None:
    class Stubborn(nn.Module):
        """A teacher that calls every bar by the next one's name."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Tensor:
            return self.module(x).roll(1, dims=1)

    first = make_trainer(TrainSection(epochs=8, batch_size=16, learning_rate=0.05), num_pictures=160)
    first.run(tmp_path / "teacher.safetensors")
    teacher = Stubborn(first.module).eval()
    config = TrainSection(epochs=8, batch_size=16, learning_rate=0.05, distill_weight=1.0, distill_temperature=2.0)
    student = make_trainer(config, teacher=teacher, num_pictures=160)
    pictures = torch.from_numpy(toy_source(60, size=12).pictures).permute(0, 3, 1, 2) / 128 - 1

    def divergence() -> float:
        with torch.inference_mode():
            answers, wanted = student.module.eval()(pictures), teacher(pictures)
        return float(
            functional.kl_div(answers.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)
        )

    before = divergence()
    student.run(tmp_path / "student.safetensors")

    assert divergence() < 0.3 * before
    # With all the weight on the teacher, its wrong names are learnt and the labels are not.
    val_top1 = student.history[-1].val_top1
    assert val_top1 is not None
    assert val_top1 < 0.1
