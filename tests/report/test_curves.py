from __future__ import annotations

import math
import struct
from pathlib import Path

import msgspec
import pytest

from edgekit.core.errors import OutputError, UsageError
from edgekit.core.history import EpochRow
from edgekit.report.curves import best_epoch, draw_curves


def row(epoch: int, val_top1: float | None = 0.9) -> EpochRow:
    return EpochRow(
        epoch=epoch,
        seconds=30.0,
        train_loss=2.0 / epoch,
        train_top1=0.8,
        val_loss=None if val_top1 is None else 1.0 / epoch,
        val_top1=val_top1,
        learning_rate=0.1 / epoch,
        images_per_second=1000.0,
    )


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def test_curves_are_a_png_of_the_stated_size(tmp_path: Path) -> None:
    path = draw_curves([row(epoch) for epoch in range(1, 31)], tmp_path / "curves.png")
    assert png_size(path) == (1500, 450)
    assert [each.name for each in tmp_path.iterdir()] == ["curves.png"]


def test_curves_draw_when_there_is_one_epoch_without_validation(tmp_path: Path) -> None:
    single = msgspec.structs.replace(row(1, val_top1=None), train_top1=None, train_loss=math.nan)
    assert png_size(draw_curves([single], tmp_path / "curves.png")) == (1500, 450)


def test_curves_are_the_same_bytes_when_drawn_twice(tmp_path: Path) -> None:
    history = [row(epoch) for epoch in range(1, 4)]
    first, second = (draw_curves(history, tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


def test_best_epoch_is_the_first_of_equals_and_none_without_validation() -> None:
    history = [row(1, 0.5), row(2, 0.9), row(3, 0.9), row(4, None), row(5, math.nan)]
    best = best_epoch(history)
    assert best is not None
    assert best.epoch == 2
    assert best_epoch([row(1, None)]) is None


def test_empty_history_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no epoch"):
        draw_curves([], tmp_path / "curves.png")


def test_unwritable_place_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError):
        draw_curves([row(1)], tmp_path / "file" / "curves.png")
