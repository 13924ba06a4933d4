"""The resumable state of a training run: safetensors plus JSON, written after every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edgekit.core.errors import CheckpointError
from edgekit.core.history import EpochRow
from edgekit.core.recipe import TrainSection
from edgekit.core.storage import write_bytes

STATE_KEY = "edgekit.train_state"


class TrainState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the next epoch depends on (randomness is a function of seed and epoch).

    Args:
        module: State dict of the live network.
        average: State dict of the averaged network, None without averaging.
        optimizer: State dict of the optimizer.
        history: One row per finished epoch.
        step: Optimizer steps so far.
        config: The recipe's training section; a run resumes only under the same one.
    """

    module: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    history: list[EpochRow]
    step: int
    config: TrainSection


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a state that is no tensor; stored in the safetensors header, so that both are one atomic file."""

    history: list[EpochRow]
    step: int
    config: TrainSection
    groups: list[dict[str, Any]]
    scalars: dict[str, dict[str, float]]


def save_state(path: Path, state: TrainState) -> None:
    """Write a state as one safetensors file, atomically. Raises `OutputError` when it cannot."""
    tensors = {f"module.{name}": tensor for name, tensor in state.module.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in (state.average or {}).items()}
    scalars: dict[str, dict[str, float]] = {}
    for index, slots in state.optimizer["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            elif value is not None:
                scalars.setdefault(str(index), {})[name] = value
    record = _Record(
        history=state.history,
        step=state.step,
        config=state.config,
        groups=state.optimizer["param_groups"],
        scalars=scalars,
    )
    # A clone each: averaged and live BatchNorm counters may share memory, which safetensors refuses.
    content = safetensors.torch.save(
        {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()},
        metadata={STATE_KEY: msgspec.json.encode(record).decode()},
    )
    write_bytes(path, content)


def load_state(path: Path) -> TrainState:
    """Read a state back.

    Raises:
        CheckpointError: Not a state that `save_state` wrote.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
        record = msgspec.json.decode(metadata[STATE_KEY], type=_Record)
    except (SafetensorError, KeyError, OSError, msgspec.DecodeError) as error:
        raise CheckpointError(f"{path} is no training state: {error}", hint="train without --resume") from error
    slots: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in record.scalars.items()}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".", 2)
            slots.setdefault(int(index), {})[slot] = tensor
    average = _with_prefix(tensors, "average.")
    return TrainState(
        module=_with_prefix(tensors, "module."),
        average=average or None,
        optimizer={"state": slots, "param_groups": record.groups},
        history=record.history,
        step=record.step,
        config=record.config,
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a saved state dict, each slot on the device and in the memory layout of its parameter.

    A slot in another layout gives the same numbers, but the fused update falls back to one parameter at a time.

    Raises:
        CheckpointError: It belongs to another optimizer or network.
    """
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"the saved optimizer does not fit: {error}", hint="train without --resume") from error
    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.ndim:
                if value.shape != parameter.shape:
                    raise CheckpointError(
                        f"the saved optimizer has {name} of {list(value.shape)}, expected {list(parameter.shape)}",
                        hint="train without --resume",
                    )
                slots[name] = torch.empty_like(parameter).copy_(value)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
