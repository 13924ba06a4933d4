"""The training loop: one readable pass over epochs and batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import torch
from torch import Tensor, nn

from edgekit.core.errors import TrainingError
from edgekit.core.history import EpochRow
from edgekit.core.progress import Progress
from edgekit.core.recipe import TrainSection
from edgekit.models.checkpoint import load_into
from edgekit.train.adversary import make_adversary
from edgekit.train.augment import Mixed
from edgekit.train.auxiliary import AuxiliaryLoss
from edgekit.train.device import has_bf16
from edgekit.train.feed import Feed
from edgekit.train.loss import total_loss
from edgekit.train.memory import retained_memory
from edgekit.train.meter import EpochMeter
from edgekit.train.pace import Pace, choose_pace
from edgekit.train.schedule import WeightAverage, learning_rate_at
from edgekit.train.state import TrainState, load_state, restore_optimizer, save_state


class Constraint(Protocol):
    """What a network must hold to while it is trained: zeros that stay, weights that stay shared.

    It keeps no state that the weights do not tell, so that a resumed run goes on exactly.
    """

    def attach(self, module: nn.Module) -> None:
        """Take hold of the weights, before the first step or after a resumed run's weights are loaded."""
        ...

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Before the steps of an epoch, counted from 1."""
        ...

    def before_step(self) -> None:
        """After the backward pass and clipping, before the optimizer's step: change gradients."""
        ...

    def after_step(self, step: int, num_steps: int) -> None:
        """Put the weights back where they must be; `step` counts from 1 over the whole run."""
        ...

    def after_epoch(self, epoch: int, num_epochs: int) -> None:
        """After the steps of an epoch, before it is validated and its state saved."""
        ...

    def hold(self, state: dict[str, Tensor]) -> None:
        """The same for a state dict of averaged weights, in place."""
        ...


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """What a training run calls besides its own steps.

    Args:
        validate: Measures loss and top-1 of the (averaged) network after every epoch; None when there is nothing to
            measure on.
        progress: Shows how far it is.
        on_epoch: Receives the history after every epoch (logs, curves).
        constraint: What the weights must hold to; None for nothing.
    """

    validate: Callable[[nn.Module], tuple[float, float]] | None
    progress: Progress
    on_epoch: Callable[[list[EpochRow]], None]
    constraint: Constraint | None = None


def make_optimizer(module: nn.Module, pace: Pace) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum 0.9, or AdamW; no weight decay on biases and norms."""
    decayed = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": pace.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if pace.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=pace.learning_rate, momentum=0.9, nesterov=True, foreach=True)
    return torch.optim.AdamW(groups, lr=pace.learning_rate, foreach=True)


class Trainer:
    """One training run.

    Args:
        module: The network, on the device that trains, in channels-last memory.
        feed: Training batches.
        config: How to train.
        hooks: Validation, progress, logs.
        teacher: Network to distil from, in eval mode on the same device; None for none.
    """

    def __init__(
        self, module: nn.Module, feed: Feed, config: TrainSection, hooks: Hooks, teacher: nn.Module | None = None
    ) -> None:
        self.module = module
        self.feed = feed
        self.config = config
        self.hooks = hooks
        self.teacher = teacher
        self.pace = choose_pace(config, module)
        self.optimizer = make_optimizer(module, self.pace)
        self.auxiliary = AuxiliaryLoss(module)
        self.average = WeightAverage(module, config.ema_decay) if config.ema_decay else None
        self.num_batches = max(1, feed.num_pictures // config.batch_size)
        self.history: list[EpochRow] = []
        self.step = 0
        self.device = next(module.parameters()).device
        self.uses_bf16 = config.precision == "bf16" and has_bf16(self.device)
        self.adversary = make_adversary(config, feed.spec, self.device)

    def run(self, state_path: Path, *, resume: bool = False) -> dict[str, Tensor]:
        """Train to the last epoch, saving the state after each.

        Args:
            state_path: Where the resumable state lies (.safetensors).
            resume: Continue from it if it exists; the result is that of an uninterrupted run, bit for bit.

        Returns:
            State dict of the trained (averaged) network.

        Raises:
            TrainingError: The loss is not finite, or the state was trained with another recipe.
            CheckpointError: The state to resume from is damaged or of another network.
        """
        if resume and state_path.exists():
            self._restore(load_state(state_path))
        if self.hooks.constraint is not None:
            self.hooks.constraint.attach(self.module)
        for epoch in range(len(self.history) + 1, self.config.epochs + 1):
            self.history.append(self.run_epoch(epoch))
            save_state(state_path, self._snapshot())
            self.hooks.on_epoch(self.history)
        return self.final_state()

    def final_state(self) -> dict[str, Tensor]:
        """State dict of the network as it would be saved now: averaged, when weights are averaged."""
        source = self.module.state_dict() if self.average is None else self.average.shadow
        state = {name: tensor.detach().clone() for name, tensor in source.items()}
        if self.hooks.constraint is not None:
            self.hooks.constraint.hold(state)
        return state

    def run_epoch(self, epoch: int) -> EpochRow:
        """Train one pass over the pictures, then validate; `epoch` counts from 1. Raises `TrainingError` as `run`."""
        start = time.perf_counter()
        # Dropout draws from torch's own generator: set by epoch, so that a resumed run draws the same.
        torch.manual_seed(self.config.seed * 1_000_003 + epoch)
        self.hooks.progress.begin(f"epoch {epoch}/{self.config.epochs}", self.num_batches)
        try:
            with retained_memory(), self.auxiliary.watching():
                meter = self._run_steps(epoch)
            train_seconds = meter.seconds
            val_loss, val_top1 = self._validate()
        finally:
            self.hooks.progress.end()
        return EpochRow(
            epoch=epoch,
            seconds=time.perf_counter() - start,
            train_loss=meter.mean_loss,
            train_top1=meter.top1,
            val_loss=val_loss,
            val_top1=val_top1,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            images_per_second=meter.num_seen / train_seconds,
        )

    def _run_steps(self, epoch: int) -> EpochMeter:
        constraint = self.hooks.constraint
        if constraint is not None:
            constraint.before_epoch(epoch, self.config.epochs)
        self.module.train()
        meter = EpochMeter(self.hooks.progress, self.device, self.num_batches * (self.config.epochs - epoch + 1))
        for pictures, target in self.feed.batches(epoch):
            loss, logits = self._run_step(pictures, target)
            meter.add(loss, logits, target)
            if meter.is_due:
                self._check_finite(meter.mean_loss, epoch)
                meter.report()
        self._check_finite(meter.mean_loss, epoch)
        meter.report()
        if constraint is not None:
            constraint.after_epoch(epoch, self.config.epochs)
        return meter

    def _run_step(self, pictures: Tensor, target: Mixed) -> tuple[Tensor, Tensor]:
        """One forward and backward pass and weight update; returns the detached loss and logits."""
        config = self.config
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        attacked = self._attack(pictures, target)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.uses_bf16):
            logits = self.module(attacked)
            teacher_logits = None
            if self.teacher is not None:
                # Of the pictures as they are: a student can be robust by a teacher who is not (Goldblum et al. 2020).
                with torch.no_grad():
                    teacher_logits = self.teacher(pictures).float()
        logits = logits.float()
        loss = total_loss(logits, target, teacher_logits, config)
        loss = loss + self.auxiliary.take(target, config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.pace.grad_clip:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.pace.grad_clip)
        if self.hooks.constraint is not None:
            self.hooks.constraint.before_step()
        self.optimizer.step()
        if self.hooks.constraint is not None:
            self.hooks.constraint.after_step(self.step + 1, self.num_batches * config.epochs)
        if self.average is not None:
            self.average.update(self.step)
        self.step += 1
        return loss.detach(), logits.detach()

    def _attack(self, pictures: Tensor, target: Mixed) -> Tensor:
        """The pictures to learn from: changed to the network's disadvantage in adversarial training."""
        if self.adversary is None:
            return pictures

        def answer(tried: Tensor) -> Tensor:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.uses_bf16):
                return self.module(tried).float()

        self.module.eval()  # BatchNorm's statistics shall be of what is learnt from, not of half-finished attacks
        attacked = self.adversary.attack(answer, pictures, target)
        self.module.train()
        return attacked

    def _learning_rate(self) -> float:
        num_steps = self.num_batches * self.config.epochs
        # A run shorter than its warm-up would end at the peak: half of it is left for cooling down.
        num_warmup = min(round(self.config.warmup_epochs * self.num_batches), num_steps // 2)
        return learning_rate_at(self.step, peak=self.pace.learning_rate, num_steps=num_steps, num_warmup=num_warmup)

    def _check_finite(self, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at epoch {epoch}, step {self.step}",
                hint=f"lower train.learning_rate (now {self.pace.learning_rate:g}) or set train.grad_clip=1.0; "
                "the last epoch's state is kept",
            )

    def _validate(self) -> tuple[float | None, float | None]:
        """Measure the network that would be saved, then put the live weights back."""
        if self.hooks.validate is None:
            return None, None
        if self.average is None:
            return self.hooks.validate(self.module.eval())
        live = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        self.module.load_state_dict(self.final_state())
        result = self.hooks.validate(self.module.eval())
        self.module.load_state_dict(live)
        return result

    def _snapshot(self) -> TrainState:
        return TrainState(
            module=self.module.state_dict(),
            average=None if self.average is None else self.average.shadow,
            optimizer=self.optimizer.state_dict(),
            history=self.history,
            step=self.step,
            config=self.config,
        )

    def _restore(self, state: TrainState) -> None:
        if state.config != self.config:
            raise TrainingError(
                "the saved state was trained with another recipe",
                hint="resume with the run folder's own recipe.toml, or train into a new folder",
            )
        load_into(self.module, state.module, "the saved state")
        restore_optimizer(self.optimizer, state.optimizer)
        if self.average is not None and state.average is not None:
            self.average.restore(state.average)
        self.history, self.step = list(state.history), state.step
