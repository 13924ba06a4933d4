"""Which pictures calibrate, and which are held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import UsageError
from edgekit.core.progress import Silent
from edgekit.core.recipe import QuantizeSection
from edgekit.data.folder import FolderSource
from edgekit.data.reading import UnreadableLog
from edgekit.lowbit.calibrating import drawn, held_out, labelled, pictures_of, run_calibration
from edgekit.runtime.preprocess import normalize
from lowbit_jobs import SPEC, hub_of, pictures_for
from toy_pictures import write_folder

SECTION = QuantizeSection(num_calibration=24)


def test_calibration_pictures_are_the_same_every_time_and_others_with_another_seed() -> None:
    source = pictures_for(hub_of(), 100)

    chosen = drawn(source, SECTION)

    assert len(set(chosen.tolist())) == 24
    assert np.array_equal(chosen, drawn(source, SECTION))
    assert not np.array_equal(chosen, drawn(source, QuantizeSection(num_calibration=24, seed=1)))


@pytest.mark.parametrize(("num_pictures", "expected"), [(100, 50), (40, 16), (24, 0), (5, 0)])
def test_held_out_pictures_are_none_that_calibrate(num_pictures: int, expected: int) -> None:
    source = pictures_for(hub_of(), num_pictures)

    others = held_out(source, SECTION, 50)

    assert len(others) == expected
    assert set(others.tolist()).isdisjoint(drawn(source, SECTION).tolist())


def test_no_picture_wanted_is_an_error() -> None:
    with pytest.raises(UsageError, match="num_calibration is 0"):
        drawn(pictures_for(hub_of(), 4), QuantizeSection(num_calibration=0))


def test_pictures_come_normalized_with_their_labels_and_anew_each_time() -> None:
    hub = hub_of()
    source = pictures_for(hub, 50)
    indices = np.array([3, 41, 7], np.int64)

    ((x, labels),) = labelled(hub, source, indices)
    again = pictures_of(hub, source, indices)

    assert np.allclose(x.numpy(), normalize(source.pictures[indices], SPEC))
    assert labels is not None
    assert source.labels is not None
    assert labels.tolist() == source.labels[indices].tolist()
    for _ in range(2):
        assert np.array_equal(np.concatenate([batch.numpy() for batch in again()]), x.numpy())


def test_unreadable_pictures_are_left_out_by_all_who_look(tmp_path: Path) -> None:
    write_folder(tmp_path, {"": 130}, size=10)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    broken = tmp_path / files[5]
    broken.write_bytes(broken.read_bytes()[:40])
    source = FolderSource(
        name="toy", split="calibration", class_names=(), root=tmp_path, files=tuple(files), labels=None
    )
    hub, log, everything = hub_of(), UnreadableLog(), QuantizeSection(num_calibration=130)

    calibration = run_calibration(hub, source, everything, Silent(), log)
    seen = sum(len(batch) for batch in pictures_of(hub, source, drawn(source, everything))())

    assert log.num_pictures == 1
    assert files[5] in log.reasons[0]
    assert seen == 129
    assert calibration.histograms
