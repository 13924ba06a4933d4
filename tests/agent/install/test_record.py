"""What is written down is there after any end, once, and a damaged record is told from a full disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.agent.install.machine import InstallStateError, Job
from edgekit.agent.install.record import DamagedRecordError, Record, move_aside
from edgekit.core.errors import OutputError

NEW = Job(digest="ab" * 32, name="pets", release=7, base="cd" * 32)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    opened = Record(tmp_path / "install.sqlite", clock=lambda: 1000.0)
    yield opened
    opened.close()


def reopened(record: Record, tmp_path: Path) -> Record:
    record.close()
    return Record(tmp_path / "install.sqlite")


def test_transition_is_found_again_by_another_process(record: Record, tmp_path: Path) -> None:
    staged = record.move(NEW, "stage")
    again = reopened(record, tmp_path)
    assert again.job() == staged
    assert again.job().base == NEW.base
    again.close()


def test_transition_that_is_made_twice_counts_once(record: Record) -> None:
    staged = record.move(NEW, "stage")
    first = record.move(staged, "try")
    second = record.move(staged, "try")

    assert first == second
    assert (second.num_attempts, record.num_attempts(NEW.digest or "")) == (1, 1)
    assert [event.event for event in record.events()] == ["try", "stage"]


def test_transition_from_another_state_than_the_stored_one_is_refused(record: Record) -> None:
    staged = record.move(NEW, "stage")
    trial = record.move(staged, "try")
    record.move(trial, "refuse", "golden: 3 of 8")
    with pytest.raises(InstallStateError):
        record.move(trial, "pass")
    assert record.job().state == "rolled_back"


def test_attempt_is_counted_before_the_trial_and_forgotten_when_it_ends_in_good_order(record: Record) -> None:
    digest = NEW.digest or ""
    trial = record.move(record.move(NEW, "stage"), "try")
    assert record.num_attempts(digest) == 1
    record.move(record.move(trial, "abandon", "no camera"), "finish")
    assert record.num_attempts(digest) == 0
    assert record.quarantined() == ()


def test_refused_release_is_quarantined_with_its_reason_until_it_is_released(record: Record) -> None:
    trial = record.move(record.move(NEW, "stage"), "try")
    record.move(trial, "refuse", "p90: p90 50 ms, allowed 20 ms")

    (kept,) = record.quarantined()
    assert (kept.digest, kept.release, kept.reason, kept.since_unix_s) == (
        NEW.digest, 7, "p90: p90 50 ms, allowed 20 ms", 1000,
    )  # fmt: skip
    record.release(kept.digest)
    assert record.quarantined() == ()
    assert record.num_attempts(kept.digest) == 0


def test_release_counter_rises_and_never_falls(record: Record) -> None:
    for release, digest in ((7, "aa"), (9, "bb"), (8, "cc")):
        job = Job(digest=digest, name="pets", release=release)
        record.move(record.move(record.move(record.move(job, "stage"), "try"), "pass"), "finish")
    counter = record.counter("pets")
    assert counter is not None
    assert (counter.release, counter.digest) == (9, "bb")
    assert record.counter("other") is None


def test_events_are_bounded(record: Record) -> None:
    for number in range(120):
        job = Job(digest=f"{number}", name="pets")
        record.move(record.move(record.move(job, "stage"), "abandon"), "finish")
    assert len(record.events(1000)) == 200
    assert record.events(1)[0].digest == "119"


@pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0" + b"\xff" * 4080])
def test_damaged_record_is_told_and_can_be_moved_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "install.sqlite"
    path.write_bytes(content)
    with pytest.raises(DamagedRecordError):
        Record(path)
    assert move_aside(path).read_bytes() == content
    fresh = Record(path)
    assert fresh.job() == Job()
    fresh.close()


def test_record_of_a_later_version_is_not_touched(record: Record, tmp_path: Path) -> None:
    record.close()
    connection = sqlite3.connect(tmp_path / "install.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DamagedRecordError, match="version 99"):
        Record(tmp_path / "install.sqlite")


def test_record_in_a_folder_that_is_not_there_is_the_disks_fault(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        Record(tmp_path / "missing" / "install.sqlite")


def test_record_can_be_read_while_another_process_writes(record: Record, tmp_path: Path) -> None:
    record.move(NEW, "stage")
    reader = Record(tmp_path / "install.sqlite", read_only=True)
    assert reader.job().state == "staged"
    with pytest.raises(OutputError):
        reader.release("ab")
    reader.close()
