"""Sample pictures: which are kept, under which cap, and what a bad disk does."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edgekit.agent.telemetry import sample_store
from edgekit.agent.telemetry.drift import DriftWatch
from edgekit.agent.telemetry.sample_store import SampleConfig, SampleStore
from edgekit.agent.telemetry.samples import SampleNote, export_samples, list_samples, write_sample
from edgekit.core.errors import OutputError
from edgekit.core.frame import Answer, Frame

MakeAnswer = Callable[..., Answer]
MakeFrame = Callable[..., Frame]
MakeStore = Callable[..., SampleStore]
PATIENCE_S = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "samples"


@pytest.fixture
def make_store(folder: Path, clock: Callable[[], float], wall_clock: Callable[[], float]) -> Iterator[MakeStore]:
    stores: list[SampleStore] = []

    def make(draw: Callable[[], float] | None = None, **config: float) -> SampleStore:
        settings = msgspec.convert(config, SampleConfig)
        stores.append(SampleStore(folder, settings, clock=clock, wall_clock=wall_clock, draw=draw))
        return stores[-1]

    yield make
    for store in stores:
        store.stop()


def settle(store: SampleStore) -> None:
    """Wait until nothing waits to be written."""
    until = time.monotonic() + PATIENCE_S
    while store._candidate is not None:
        assert time.monotonic() < until, "the sample was never written"
        time.sleep(0.002)


class Offering:
    """Offers unsure pictures, a minute apart."""

    def __init__(self, store: SampleStore, frame: Frame, clock: object, make_answer: MakeAnswer) -> None:
        self.store, self.frame, self.clock, self.make_answer = store, frame, clock, make_answer

    def offer(self, num: int = 1, *, confidence: float = 0.2, flags: tuple[str, ...] = ()) -> None:
        for _ in range(num):
            self.clock.now_s += 61.0  # type: ignore[attr-defined]
            self.store.offer(self.frame, self.make_answer(confidence=confidence), flags)
            settle(self.store)


def test_unsure_pictures_are_kept_with_what_was_known(
    make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer, folder: Path
) -> None:
    store = make_store()
    frame = make_frame(100)
    store.offer(frame, make_answer(confidence=0.31, index=2, sequence=77), ())
    settle(store)

    (sample,) = list_samples(folder)
    assert (sample.note.reason, sample.note.label, sample.note.confidence) == ("uncertain", "class 2", 0.31)
    assert (sample.note.sequence, sample.note.top, sample.note.time_unix_s) == (77, (("class 2", 0.31),), 1.7e9)
    picture = cv2.imread(str(sample.picture_path))
    assert picture is not None
    assert np.abs(picture.astype(int) - frame.picture).mean() < 30
    assert store.state().num_samples == 1
    assert store.state().size_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_sure_pictures_are_not_kept_unless_something_drifted(
    make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer, folder: Path
) -> None:
    store = make_store()
    store.offer(make_frame(), make_answer(confidence=0.95), ())
    settle(store)
    assert list_samples(folder) == ()

    store.offer(make_frame(), make_answer(confidence=0.95), ("brightness",))
    settle(store)
    assert [(sample.note.reason, sample.note.flags) for sample in list_samples(folder)] == [
        ("drifted", ("brightness",))
    ]


def test_jpeg_of_the_camera_is_kept_as_it_is(
    make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer, folder: Path
) -> None:
    jpeg = cv2.imencode(".jpg", make_frame().picture)[1].tobytes()
    store = make_store()
    store.offer(make_frame(jpeg=jpeg), make_answer(index=None, confidence=0.6), ())
    settle(store)

    (sample,) = list_samples(folder)
    assert sample.picture_path.read_bytes() == jpeg
    assert sample.note.label == "unknown"


def test_frames_of_one_second_are_one_candidate(
    make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer, folder: Path
) -> None:
    store, frame = make_store(), make_frame()
    for _ in range(100):
        store.offer(frame, make_answer(confidence=0.1), ())
        settle(store)

    assert len(list_samples(folder)) == 1


def test_reservoir_keeps_its_number_and_prefers_the_unsure(
    make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer, folder: Path, clock: object
) -> None:
    draws = iter(np.random.default_rng(5).random(1000))
    store = make_store(lambda: float(next(draws)), max_per_reason=8)
    offering = Offering(store, make_frame(size=(8, 8)), clock, make_answer)
    for _ in range(30):
        offering.offer(confidence=0.49)
        offering.offer(confidence=0.01)
        assert len(list_samples(folder)) <= 8
    offering.offer(10, confidence=0.9, flags=("classes",))

    kept = [sample.note for sample in list_samples(folder)]
    unsure = [note.confidence for note in kept if note.reason == "uncertain"]
    assert len(unsure) == 8
    assert unsure.count(0.01) > 4
    assert len(kept) == 16


def test_bytes_stay_under_their_cap(
    make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer, folder: Path, clock: object
) -> None:
    store = make_store(max_bytes=40_000)
    offering = Offering(store, make_frame(size=(60, 80)), clock, make_answer)
    for _ in range(20):
        offering.offer(flags=("blur",))
        offering.offer()
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 40_000
    assert store.state().num_samples > 3
    assert store.state().size_bytes <= 40_000


def test_picture_too_large_for_the_cap_is_not_kept(
    make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer, clock: object
) -> None:
    store = make_store(max_bytes=2000)
    Offering(store, make_frame(size=(200, 200)), clock, make_answer).offer(3)

    assert store.state() == sample_store.StoreState(num_samples=0, size_bytes=0, detail="")


def test_restart_goes_on_where_it_was_and_clears_what_a_power_cut_left(
    make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer, folder: Path, clock: object
) -> None:
    first = make_store(max_per_reason=3)
    Offering(first, make_frame(), clock, make_answer).offer(3)
    first.stop()
    kept = {sample.picture_path.name for sample in list_samples(folder)}
    leftovers = ["uncertain-5-ab.json", "drifted-6-cd.jpg", ".uncertain-7-ef.jpg.x1y2"]
    for name in leftovers:
        (folder / name).write_bytes(b"")
    (folder / "holiday.jpg").write_bytes(b"mine")

    second = make_store(max_per_reason=3)
    Offering(second, make_frame(), clock, make_answer).offer(1)
    second.stop()
    assert second.state().num_samples == 3
    assert len(kept & {sample.picture_path.name for sample in list_samples(folder)}) >= 2
    assert not any((folder / name).exists() for name in leftovers)
    assert (folder / "holiday.jpg").read_bytes() == b"mine"


def test_full_disk_is_told_costs_no_old_picture_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
    make_store: MakeStore,
    make_frame: MakeFrame,
    make_answer: MakeAnswer,
    folder: Path,
    clock: object,
) -> None:
    count = itertools.count(1)
    store = make_store(draw=lambda: 1 - 1 / (1 + next(count)), max_per_reason=1)  # ever higher
    offering = Offering(store, make_frame(), clock, make_answer)
    offering.offer()
    before = list_samples(folder)

    def full(path: Path, _content: bytes) -> None:
        raise OutputError(f"cannot write {path}: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edgekit.agent.telemetry.samples.write_bytes", full)
        offering.offer(4, confidence=0.0)
    assert "No space left" in store.state().detail
    assert list_samples(folder) == before
    offering.offer(20, confidence=0.0)
    assert store.state().detail == ""
    assert store.state().num_samples == 1


def test_folder_that_cannot_be_made_is_told(
    make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer, folder: Path, clock: object
) -> None:
    folder.parent.write_text("a file where the state folder should be", encoding="utf-8")
    store = make_store()
    Offering(store, make_frame(), clock, make_answer).offer(2)

    state = store.state()
    assert state.num_samples == 0
    assert "sample pictures" in state.detail


def test_drift_status_tells_what_is_kept(make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer) -> None:
    store = make_store()
    watch = DriftWatch(None, store=store)
    watch.offer(make_frame(), make_answer(confidence=0.1))
    settle(store)

    assert watch.status().num_samples == 1
    assert watch.status().samples_bytes > 500
    assert watch.status().detail == ""


def test_stop_writes_what_waits_and_takes_no_more(
    make_store: MakeStore, make_frame: MakeFrame, make_answer: MakeAnswer, folder: Path, clock: object
) -> None:
    store = make_store()
    store.offer(make_frame(), make_answer(confidence=0.1), ())
    store.stop()
    store.stop()
    Offering(store, make_frame(), clock, make_answer).offer(1)

    assert len(list_samples(folder)) == 1


def note(label: str = "cat", time_unix_s: float = 5.0) -> SampleNote:
    return SampleNote(
        reason="uncertain",
        time_unix_s=time_unix_s,
        label=label,
        confidence=0.2,
        top=((label, 0.2),),
        flags=(),
        sequence=1,
        rank=0.5,
    )


def test_list_passes_over_what_is_half_there(folder: Path) -> None:
    write_sample(folder, "uncertain-2-bb", b"\xff\xd8rest", note(time_unix_s=9.0))
    write_sample(folder, "uncertain-3-aa", b"\xff\xd8rest", note(time_unix_s=1.0))
    write_sample(folder, "uncertain-4-cc", b"", note())
    write_sample(folder, "uncertain-5-dd", b"\xff\xd8rest", note()).note_path.write_text(
        '{"reason": 3', encoding="utf-8"
    )
    (folder / "uncertain-6-ee.jpg").write_bytes(b"\xff\xd8")

    assert [sample.note.time_unix_s for sample in list_samples(folder)] == [1.0, 9.0]
    assert list_samples(folder / "missing") == ()


def test_export_makes_one_folder_per_answer(folder: Path, tmp_path: Path) -> None:
    for number, label in enumerate(("cat", "T-shirt/top", "../../etc", "cat")):
        write_sample(folder, f"uncertain-{number}-aa", b"\xff\xd8rest", note(label))
    out = tmp_path / "out"

    assert export_samples(folder, out) == 4
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == [
        "T-shirt_top/uncertain-1-aa.jpg", "__.._etc/uncertain-2-aa.jpg", "cat/uncertain-0-aa.jpg",
        "cat/uncertain-3-aa.jpg", "samples.jsonl",
    ]  # fmt: skip
    entries = [msgspec.json.decode(line) for line in (out / "samples.jsonl").read_bytes().splitlines()]
    assert {entry["file"] for entry in entries} == set(names[:-1])
    assert {path.resolve().is_relative_to(out) for path in out.rglob("*")} == {True}
