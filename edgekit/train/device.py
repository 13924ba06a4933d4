"""Which device trains, and what it can do."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def choose_device() -> torch.device:
    """The best device at hand: CUDA, then MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; where it does not, bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - no public form
    return False


def place(module: ModuleT, device: torch.device) -> ModuleT:
    """Move a module to a device, its convolutions' weights in channels-last memory, in which they run fastest."""
    return module.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - not in torch's stubs
