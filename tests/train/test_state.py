"""The resumable state: what was saved comes back, and damage is told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import safetensors.torch
import torch

from edgekit.core.errors import CheckpointError, OutputError
from edgekit.core.recipe import TrainSection
from edgekit.train.loop import make_optimizer
from edgekit.train.pace import NORMALIZED
from edgekit.train.state import load_state, restore_optimizer, save_state
from toy_training import make_trainer


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_state_round_trips(tmp_path: Path, optimizer: Literal["sgd", "adamw"], ema_decay: float) -> None:
    config = TrainSection(epochs=2, batch_size=16, optimizer=optimizer, learning_rate=0.01, ema_decay=ema_decay)
    trainer = make_trainer(config)
    trainer.run(tmp_path / "s.safetensors")

    state = load_state(tmp_path / "s.safetensors")

    assert (state.config, state.step, state.history) == (config, 6, trainer.history)
    assert (state.average is None) == (ema_decay == 0)
    live = trainer.module.state_dict()
    assert all(torch.equal(state.module[name], live[name]) for name in live)
    saved, kept = state.optimizer, trainer.optimizer.state_dict()
    assert [group["params"] for group in saved["param_groups"]] == [group["params"] for group in kept["param_groups"]]
    for index, slots in kept["state"].items():
        for name, value in slots.items():
            assert torch.equal(torch.as_tensor(saved["state"][index][name]), torch.as_tensor(value))


@pytest.mark.parametrize("damage", ["empty", "truncated", "foreign", "bare"])
def test_damaged_state_is_told(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s.safetensors"
    make_trainer(TrainSection(epochs=1, batch_size=16)).run(path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "foreign": b"not a state at all, but long enough to have a header",
            "bare": safetensors.torch.save({"weight": torch.zeros(2)}),
        }[damage]
    )

    with pytest.raises(CheckpointError, match="is no training state"):
        load_state(path)


def test_unwritable_state_leaves_nothing_behind(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    trainer = make_trainer(TrainSection(epochs=1, batch_size=16))

    with pytest.raises(OutputError):
        trainer.run(blocker / "s.safetensors")


def test_failed_write_keeps_the_earlier_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.safetensors"
    make_trainer(TrainSection(epochs=1, batch_size=16)).run(path)
    before, state = path.read_bytes(), load_state(path)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OutputError, match="No space left"):
        save_state(path, state)

    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_optimizer_of_another_shape_is_refused(tmp_path: Path) -> None:
    config = TrainSection(epochs=1, batch_size=16)
    make_trainer(config).run(tmp_path / "s.safetensors")
    state = load_state(tmp_path / "s.safetensors")
    other = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 4))

    with pytest.raises(CheckpointError, match="the saved optimizer"):
        restore_optimizer(make_optimizer(other, NORMALIZED), state.optimizer)
    with pytest.raises(CheckpointError, match="the saved optimizer"):
        restore_optimizer(make_optimizer(torch.nn.Linear(2, 2), NORMALIZED), state.optimizer)
