from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.data.contact_sheet import MAX_ROWS, draw_contact_sheet
from edgekit.data.memory import MemorySource


def make_source(num_classes: int, per_class: int, level: int = 200) -> MemorySource:
    count = num_classes * per_class
    return MemorySource(
        name="toy",
        split="test",
        class_names=tuple(f"class ${index}" for index in range(num_classes)),
        pictures=np.full((count, 32, 32, 3), (level, 0, 0), np.uint8),
        labels=np.repeat(np.arange(num_classes, dtype=np.int64), per_class),
    )


def draw(source: MemorySource, path: Path, num_per_class: int = 8) -> np.ndarray:
    draw_contact_sheet(source, path, num_per_class)
    sheet = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert sheet is not None
    return sheet[:, :, ::-1]


def count_cells(sheet: np.ndarray) -> int:
    """Number of connected areas in the pictures' colour."""
    red = (sheet == (200, 0, 0)).all(axis=2).astype(np.uint8)
    num_labels, _, statistics, _ = cv2.connectedComponentsWithStats(red)
    assert {int(area) for area in statistics[1:, cv2.CC_STAT_AREA]} == {96 * 96}
    return num_labels - 1


def test_sheet_shows_so_many_pictures_of_every_class(tmp_path: Path) -> None:
    assert count_cells(draw(make_source(3, 20), tmp_path / "sheet.png", 5)) == 15


def test_sheet_is_the_same_every_time(tmp_path: Path) -> None:
    source = make_source(2, 4)
    draw(source, tmp_path / "first.png")
    draw(source, tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_sheet_of_many_classes_is_cut_off(tmp_path: Path) -> None:
    sheet = draw(make_source(MAX_ROWS + 5, 1), tmp_path / "sheet.png")
    assert count_cells(sheet) == MAX_ROWS


def test_sheet_of_unlabelled_pictures_has_no_classes(tmp_path: Path) -> None:
    source = replace(make_source(2, 15), labels=None, class_names=())
    assert count_cells(draw(source, tmp_path / "sheet.png")) == 30


def test_gray_pictures_are_drawn_in_gray(tmp_path: Path) -> None:
    source = make_source(2, 4)
    gray = replace(source, pictures=np.full((8, 28, 28, 1), 77, np.uint8))
    sheet = draw(gray, tmp_path / "sheet.png")
    assert (sheet == 77).all(axis=2).sum() == 8 * 84 * 84


def test_class_names_in_any_script_are_drawn_without_a_warning(tmp_path: Path) -> None:
    source = replace(make_source(2, 4), class_names=("\u732b", "$x^ & \u0e41\u0e21\u0e27" * 9))
    assert count_cells(draw(source, tmp_path / "sheet.png")) == 8


def test_unreadable_pictures_are_passed_over(tmp_path: Path) -> None:
    class HalfReadable(MemorySource):
        def read(self, index: int) -> np.ndarray:
            if index % 2:
                raise DataError(f"unreadable picture {index}")
            return super().read(index)

    source = make_source(2, 40)
    fields = {name: getattr(source, name) for name in ("name", "split", "class_names", "pictures", "labels")}
    assert 10 <= count_cells(draw(HalfReadable(**fields), tmp_path / "sheet.png")) <= 16


def test_sheet_without_any_readable_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture of split 'test'"):
        draw(make_source(2, 0), tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
