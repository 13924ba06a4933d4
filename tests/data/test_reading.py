from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DataError, UsageError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.data import reading
from edgekit.data.folder import open_folder
from edgekit.data.memory import MemorySource
from edgekit.data.reading import UnreadableLog, iterate_batches, load_into_memory
from edgekit.runtime.preprocess import fit_picture

SPEC = PreprocessSpec(input_size=(8, 8), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class NumberedSource:
    """Pictures whose pixels are their own index; those in `bad` are unreadable. Counts how many are held."""

    def __init__(self, count: int, bad: frozenset[int] = frozenset(), *, labels: bool = True) -> None:
        self.count = count
        self.bad = bad
        self.num_read = 0
        self._lock = threading.Lock()
        self._labels = np.arange(count, dtype=np.int64) % 2 if labels else None

    name = "numbered"
    split = "test"
    class_names = ("even", "odd")

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        return self._labels

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        with self._lock:
            self.num_read += 1
        if index in self.bad:
            raise DataError(f"unreadable picture {index}.jpg: truncated")
        return np.full((8, 8, 3), index % 256, np.uint8)


def make_memory(count: int, size: int = 8, channels: int = 3) -> MemorySource:
    pictures = np.random.default_rng(1).integers(0, 256, (count, size, size, channels), np.uint8)
    return MemorySource(
        name="toy", split="train", class_names=("a",), pictures=pictures, labels=np.zeros(count, np.int64)
    )


@given(
    count=st.integers(1, 300),
    bad=st.frozensets(st.integers(0, 299), max_size=3),
    batch_size=st.integers(1, 70),
    data=st.data(),
)
def test_batches_hold_each_readable_picture_once_in_order(
    count: int, bad: frozenset[int], batch_size: int, data: st.DataObject
) -> None:
    source = NumberedSource(count, bad)
    indices = np.array(data.draw(st.permutations(range(count))), dtype=np.int64)
    log = UnreadableLog()
    num_bad = len([index for index in bad if index < count])
    if num_bad > max(1, count // 100) or num_bad == count:
        with pytest.raises(DataError, match="unreadable"):
            list(iterate_batches(source, SPEC, batch_size=batch_size, indices=indices, unreadable=log))
        return
    batches = list(iterate_batches(source, SPEC, batch_size=batch_size, indices=indices, unreadable=log))
    seen = np.concatenate([batch.indices for batch in batches])
    assert seen.tolist() == [index for index in indices.tolist() if index not in bad]
    assert np.concatenate([batch.pictures[:, 0, 0, 0] for batch in batches]).tolist() == (seen % 256).tolist()
    labels = [batch.labels for batch in batches if batch.labels is not None]
    assert np.concatenate(labels).tolist() == (seen % 2).tolist()
    assert all(len(batch.indices) == batch_size for batch in batches[:-1])
    assert log.num_pictures == num_bad


def test_unlabelled_pictures_give_batches_without_labels() -> None:
    (batch,) = iterate_batches(NumberedSource(3, labels=False), SPEC, batch_size=8)
    assert batch.labels is None


# --------------------------------------------------------------------------------------------------- constant memory
def test_reading_stays_at_most_one_batch_ahead_of_the_consumer() -> None:
    source = NumberedSource(2000)
    batches = iterate_batches(source, SPEC, batch_size=32)
    for num_taken in range(1, 11):
        next(batches)
        assert source.num_read <= (num_taken + 1) * 32 + 2 * reading.NUM_WORKERS
    batches.close()  # type: ignore[attr-defined]


def test_reading_stops_when_the_consumer_stops() -> None:
    source = NumberedSource(2000)
    batches = iterate_batches(source, SPEC, batch_size=4)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgekit-read")]
    assert source.num_read < 100


# -------------------------------------------------------------------------------------------------------- unreadable
def test_unreadable_pictures_are_named_and_counted() -> None:
    log = UnreadableLog()
    batches = list(iterate_batches(NumberedSource(300, frozenset({7, 9, 8})), SPEC, batch_size=64, unreadable=log))
    assert sum(len(batch.indices) for batch in batches) == 297
    assert log.num_pictures == 3
    assert log.reasons == [f"unreadable picture {index}.jpg: truncated" for index in (7, 8, 9)]


def test_more_than_one_percent_unreadable_is_an_error_that_names_the_first() -> None:
    source = NumberedSource(300, frozenset({0, 1, 2, 3}))
    with pytest.raises(DataError, match="4 of 300 pictures are unreadable so far, at most 1% may be") as caught:
        list(iterate_batches(source, SPEC, batch_size=64))
    assert "0.jpg" in caught.value.message
    assert source.num_read < 300


def test_one_unreadable_picture_is_tolerated_in_a_small_set() -> None:
    (batch,) = iterate_batches(NumberedSource(10, frozenset({3})), SPEC, batch_size=16)
    assert len(batch.indices) == 9


def test_nothing_readable_is_an_error() -> None:
    with pytest.raises(DataError, match="1 of 1 pictures"):
        list(iterate_batches(NumberedSource(1, frozenset({0})), SPEC, batch_size=16))


def test_log_keeps_counting_but_not_naming_after_the_first_twenty() -> None:
    log = UnreadableLog()
    for index in range(50):
        log.add(f"{index}.jpg")
    assert log.num_pictures == 50
    assert len(log.reasons) == 20


# ------------------------------------------------------------------------------------------------------ from memory
def test_pictures_that_fit_are_sliced_as_they_are() -> None:
    source = make_memory(10)
    batches = list(iterate_batches(source, SPEC, batch_size=4))
    assert [len(batch.pictures) for batch in batches] == [4, 4, 2]
    assert np.array_equal(np.concatenate([batch.pictures for batch in batches]), source.pictures)


@pytest.mark.parametrize(("size", "channels", "crop"), [(12, 3, 1.0), (8, 1, 1.0), (8, 3, 0.5)])
def test_pictures_in_memory_are_fitted_when_the_model_wants_others(size: int, channels: int, crop: float) -> None:
    source = make_memory(5, size, channels)
    spec = PreprocessSpec(input_size=(8, 8), mean=SPEC.mean, std=SPEC.std, crop_fraction=crop)
    (batch,) = iterate_batches(source, spec, batch_size=8)
    assert batch.pictures.shape == (5, 8, 8, 3)
    assert np.array_equal(batch.pictures[3], fit_picture(source.read(3), spec))


@pytest.mark.parametrize("source", [make_memory(3), NumberedSource(3)], ids=["memory", "streamed"])
def test_own_fit_function_is_used_when_given(source: Any) -> None:
    def fit(picture: npt.NDArray[np.uint8], spec: PreprocessSpec) -> npt.NDArray[np.uint8]:
        return np.full((*spec.input_size, 3), 77, picture.dtype)

    (batch,) = iterate_batches(source, SPEC, batch_size=8, fit=fit)
    assert (batch.pictures == 77).all()


@pytest.mark.parametrize("source", [make_memory(3), NumberedSource(3)], ids=["memory", "streamed"])
def test_batch_size_below_one_is_refused(source: Any) -> None:
    with pytest.raises(UsageError, match="batch_size must be at least 1, got 0"):
        next(iterate_batches(source, SPEC, batch_size=0))


def test_load_into_memory_holds_what_the_source_reads() -> None:
    source = NumberedSource(30)
    loaded = load_into_memory(source)
    assert loaded.pictures[:, 0, 0, 0].tolist() == list(range(30))
    assert loaded.labels is source.labels


# ------------------------------------------------------------------------------------------------------- real files
def write_bad_pictures(folder: Path) -> None:
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))[1].tobytes()
    (folder / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("This is no picture.")


def write_odd_pictures(folder: Path) -> None:
    deep = np.full((20, 30, 3), 0x8040, np.uint16)
    (folder / "deep.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    Image = pytest.importorskip("PIL.Image")  # noqa: N806 - it is a module that is called so
    Image.new("CMYK", (30, 20), (0, 255, 255, 0)).save(folder / "cmyk.jpg")
    Image.new("L", (30, 20), 99).save(folder / "gray.png")


def test_odd_pictures_are_read_and_bad_ones_are_left_out(tmp_path: Path) -> None:
    good = cv2.imencode(".png", np.full((9, 11, 3), 50, np.uint8))[1].tobytes()
    for index in range(297):
        (tmp_path / f"good-{index:03d}.png").write_bytes(good)
    write_odd_pictures(tmp_path)
    write_bad_pictures(tmp_path)
    halves = [open_folder(tmp_path, "calibration"), open_folder(tmp_path, "test")]
    source = halves[0].__class__(
        name="odd",
        split="test",
        class_names=(),
        root=tmp_path,
        files=tuple(sorted(halves[0].files + halves[1].files)),
        labels=None,
    )
    log = UnreadableLog()
    batches = list(iterate_batches(source, SPEC, batch_size=50, unreadable=log))
    pictures = np.concatenate([batch.pictures for batch in batches])
    names = [source.files[index] for batch in batches for index in batch.indices]
    assert len(source) == 303
    assert pictures.shape == (300, 8, 8, 3)
    assert pictures[names.index("deep.png"), 0, 0].tolist() == [0x80, 0x80, 0x80]
    assert pictures[names.index("gray.png"), 0, 0].tolist() == [99, 99, 99]
    red = pictures[names.index("cmyk.jpg"), 4, 4].astype(int)
    assert red[0] > 200
    assert max(red[1:]) < 60
    assert log.num_pictures == 3
    for name, reason in zip(("empty.jpg", "text.jpg", "truncated.jpg"), sorted(log.reasons), strict=True):
        assert str(tmp_path / name) in reason
