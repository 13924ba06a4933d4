"""Keeping freed memory changes what the kernel does, and nothing else."""

from __future__ import annotations

import ctypes

import pytest
import torch

from edgekit.train import memory
from edgekit.train.memory import retained_memory


class FakeLibc:
    """Records what is asked of the C library."""

    def __init__(self) -> None:
        self.options: dict[int, int] = {}
        self.num_trims = 0

    def mallopt(self, option: ctypes.c_int, value: ctypes.c_int) -> int:
        self.options[option.value] = value.value
        return 1

    def malloc_trim(self, _: int) -> int:
        self.num_trims += 1
        return 1


def test_thresholds_are_put_back_when_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = FakeLibc()
    monkeypatch.setattr(memory, "_find_glibc", lambda: libc)
    during: dict[int, int] = {}

    @retained_memory()
    def fail() -> None:
        during.update(libc.options)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert during == memory._KEEP
    assert libc.options == memory._USUAL
    assert libc.num_trims == 1


def test_nothing_happens_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")

    with retained_memory():
        assert float(torch.ones(1000).sum()) == 1000


def test_large_blocks_are_allocated_and_freed_as_ever() -> None:
    with retained_memory():
        blocks = [torch.full((5_000_000,), float(index)) for index in range(3)]
        assert [float(block[-1]) for block in blocks] == [0.0, 1.0, 2.0]
        del blocks
    assert float(torch.ones(5_000_000).sum()) == 5_000_000
