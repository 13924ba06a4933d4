"""The outbox on real disks: whole, small, full, read-only, damaged."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.mqtt.database import Database
from edgekit.agent.mqtt.outbox import MAX_MEMORY_RECORDS, Outbox
from edgekit.agent.mqtt.records import MAX_PAYLOAD_BYTES, Draft, RecordKind
from mqtt_broker import SteppedClock

MIB = 1024 * 1024


def drafts(
    clock: SteppedClock, count: int, *, first: int = 0, kind: RecordKind = "status", pad: int = 0
) -> list[Draft]:
    numbers = range(first, first + count)
    return [Draft(kind=kind, made=clock.now(), payload=b'{"n":%d,"pad":"%s"}' % (n, b"x" * pad)) for n in numbers]


def drain(outbox: Outbox) -> list[tuple[int, bytes]]:
    """Take and acknowledge all that waits."""
    drained: list[tuple[int, bytes]] = []
    while records := outbox.take(100):
        drained += [(record.sequence, record.payload) for record in records]
        outbox.acknowledge([record.sequence for record in records])
    return drained


def disk_bytes(path: Path) -> int:
    return sum(part.stat().st_size for part in path.parent.glob(path.name + "*"))


def test_records_come_out_in_the_order_they_went_in_over_reopenings(tmp_path: Path) -> None:
    clock, path = SteppedClock(), tmp_path / "deep" / "outbox.sqlite3"
    made: list[Draft] = []
    for turn in range(3):
        outbox = Outbox(path, max_bytes=MIB, clock=clock)
        made += drafts(clock, 10, first=turn * 10)
        outbox.append(made[-10:])
        outbox.close()
    outbox = Outbox(path, max_bytes=MIB, clock=clock)
    drained = drain(outbox)
    assert [payload for _, payload in drained] == [draft.payload for draft in made]
    sequences = [sequence for sequence, _ in drained]
    assert sequences == list(range(sequences[0], sequences[0] + 30))
    assert outbox.num_pending == outbox.pending_bytes == 0
    outbox.close()


def test_records_in_flight_are_taken_again_when_released(tmp_path: Path) -> None:
    clock = SteppedClock()
    outbox = Outbox(tmp_path / "outbox.sqlite3", max_bytes=MIB, clock=clock)
    outbox.append(drafts(clock, 6))
    first = [record.sequence for record in outbox.take(4)]
    outbox.acknowledge([first[0], first[2]])
    outbox.release()
    assert [record.sequence for record in outbox.take(9)] == [first[1], first[3], first[3] + 1, first[3] + 2]
    assert outbox.take(9) == []
    outbox.close()


def test_oldest_of_lowest_priority_is_dropped_and_counted_when_full(tmp_path: Path) -> None:
    clock, path = SteppedClock(), tmp_path / "outbox.sqlite3"
    outbox = Outbox(path, max_bytes=MIB, clock=clock)
    num_offered = 0
    for turn in range(300):
        for kind, count in (("status", 10), ("prediction", 1), ("event", 1)):
            outbox.append(drafts(clock, count, first=turn * 10, kind=kind, pad=600))  # type: ignore[arg-type]
            num_offered += count
        assert disk_bytes(path) <= MIB
    assert outbox.num_dropped > 0
    assert outbox.num_pending + outbox.num_dropped == num_offered
    kept = outbox.take(num_offered)
    by_kind = {kind: [r.sequence for r in kept if r.kind == kind] for kind in ("status", "prediction", "event")}
    assert len(by_kind["event"]) == len(by_kind["prediction"]) == 300
    first = by_kind["prediction"][0] - 10
    statuses = [first + 12 * turn + number for turn in range(300) for number in range(10)]
    assert by_kind["status"] == statuses[outbox.num_dropped :]
    outbox.close()


def test_a_record_in_flight_is_not_dropped_when_full(tmp_path: Path) -> None:
    clock = SteppedClock()
    outbox = Outbox(tmp_path / "outbox.sqlite3", max_bytes=MIB, clock=clock)
    outbox.append(drafts(clock, 20, pad=500))
    in_flight = [record.sequence for record in outbox.take(20)]
    outbox.append(drafts(clock, 3000, pad=500))
    assert outbox.num_dropped > 1000
    outbox.release()
    assert [record.sequence for record in outbox.take(20)] == in_flight
    outbox.close()


def test_file_shrinks_to_nothing_pending_when_all_is_acknowledged(tmp_path: Path) -> None:
    clock, path = SteppedClock(), tmp_path / "outbox.sqlite3"
    outbox = Outbox(path, max_bytes=MIB, clock=clock)
    for _ in range(5):
        outbox.append(drafts(clock, 1000, pad=300))
        drain(outbox)
        assert outbox.pending_bytes == 0
        assert disk_bytes(path) <= MIB
    outbox.close()


def test_a_record_that_is_too_large_is_dropped_and_counted(tmp_path: Path) -> None:
    clock = SteppedClock()
    outbox = Outbox(tmp_path / "outbox.sqlite3", max_bytes=MIB, clock=clock)
    outbox.append(drafts(clock, 1, pad=MAX_PAYLOAD_BYTES))
    assert (outbox.num_pending, outbox.num_dropped) == (0, 1)
    outbox.close()


@pytest.mark.parametrize("damage", ["text", "empty", "half", "foreign", "newer"])
def test_a_damaged_file_is_moved_aside_and_numbers_still_rise(damage: str, tmp_path: Path) -> None:
    clock, path = SteppedClock(), tmp_path / "outbox.sqlite3"
    outbox = Outbox(path, max_bytes=MIB, clock=clock)
    outbox.append(drafts(clock, 500, pad=200))
    last = drain(outbox)[-1][0]
    outbox.append(drafts(clock, 500, pad=200))
    outbox.close()
    if damage == "text":
        path.write_text("this is no database\n" * 1000, encoding="utf-8")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "foreign":
        path.unlink()
        with sqlite3.connect(path) as foreign:
            foreign.execute("CREATE TABLE cake (flour REAL)")
        foreign.close()
    else:
        with sqlite3.connect(path) as newer:
            newer.execute("PRAGMA user_version = 2")
        newer.close()
    clock.advance(60)
    again = Outbox(path, max_bytes=MIB, clock=clock)
    again.append(drafts(clock, 3))
    drained = drain(again)
    again.append(drafts(clock, 1))
    assert next(sequence for sequence, _ in drain(again)) > drained[-1][0] > last + 500
    if damage != "empty":  # to SQLite an empty file is a new one
        assert again.state == "renewed"
        assert "damaged" in again.detail
        assert path.with_name("outbox.sqlite3.damaged").exists()
    again.close()


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_never_let_out_what_was_not_put_in(seed: int, tmp_path: Path) -> None:
    clock, path = SteppedClock(), tmp_path / "outbox.sqlite3"
    outbox = Outbox(path, max_bytes=MIB, clock=clock)
    outbox.append(drafts(clock, 400, pad=100))
    outbox.close()
    rng, content = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(60):
        content[rng.randrange(4096 * (seed % 2), len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))
    again = Outbox(path, max_bytes=MIB, clock=clock)
    again.append(drafts(clock, 100, first=1000, pad=100))
    drained = drain(again)
    again.append(drafts(clock, 1, first=2000, pad=100))
    drained += drain(again)
    allowed = {
        d.payload for first, n in ((0, 400), (1000, 100), (2000, 1)) for d in drafts(clock, n, first=first, pad=100)
    }
    assert {payload for _, payload in drained} <= allowed
    assert drained[-1][1] == drafts(clock, 1, first=2000, pad=100)[0].payload
    assert len({sequence for sequence, _ in drained}) == len(drained)
    again.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("may not mount a small file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_records_go_to_memory_when_the_disk_is_full_and_back_when_it_is_not(small_disk: Path) -> None:
    clock, path = SteppedClock(), small_disk / "outbox.sqlite3"
    outbox = Outbox(path, max_bytes=64 * MIB, clock=clock, retry_s=0.0)
    outbox.append(drafts(clock, 200, pad=200))
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"x" * 4096):
            pass
    clock.advance(1)
    for number in range(200, 400):
        outbox.append(drafts(clock, 1, first=number, pad=200))
        outbox.retry()
    assert outbox.state == "disk_full"
    assert "disk is full" in outbox.detail
    assert outbox.num_in_memory > 0
    assert (outbox.num_pending, outbox.num_dropped) == (400, 0)
    early = [record.sequence for record in outbox.take(150)]  # what lies on the full disk can still be sent
    outbox.acknowledge(early)
    filler.unlink()
    outbox.retry()
    assert outbox.state == "stored"
    assert outbox.num_in_memory == 0
    assert outbox.num_pending == 250
    outbox.close()
    again = Outbox(path, max_bytes=64 * MIB, clock=clock)
    drained = drain(again)
    assert [payload for _, payload in drained] == [draft.payload for draft in drafts(clock, 250, first=150, pad=200)]
    assert [sequence for sequence, _ in drained] == sorted({sequence for sequence, _ in drained})
    assert drained[0][0] > early[-1]
    again.close()


def test_records_go_to_memory_when_the_disk_becomes_read_only(small_disk: Path) -> None:
    clock, path = SteppedClock(), small_disk / "outbox.sqlite3"
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    outbox = Outbox(path, max_bytes=64 * MIB, clock=clock, retry_s=0.0)
    outbox.append(drafts(clock, 10))
    assert outbox.state == "read_only"
    assert "read-only" in outbox.detail
    sent = drain(outbox)
    assert len(sent) == 10
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    outbox.append(drafts(clock, 10, first=10))
    outbox.retry()
    assert outbox.state == "stored"
    assert [payload for _, payload in drain(outbox)] == [draft.payload for draft in drafts(clock, 10, first=10)]
    outbox.append(drafts(clock, 1))
    assert drain(outbox)[0][0] > sent[-1][0] + 10
    outbox.close()


def test_memory_drops_oldest_of_lowest_priority_and_counts_when_nothing_can_be_written(tmp_path: Path) -> None:
    clock, path = SteppedClock(), tmp_path / "outbox.sqlite3"
    path.mkdir()  # no file can be there
    outbox = Outbox(path, max_bytes=MIB, clock=clock)
    assert outbox.state == "unwritable"
    outbox.append(drafts(clock, 10, kind="event"))
    outbox.append(drafts(clock, MAX_MEMORY_RECORDS + 90))
    assert (outbox.num_pending, outbox.num_dropped) == (MAX_MEMORY_RECORDS, 100)
    drained = drain(outbox)
    assert [payload for _, payload in drained[:10]] == [draft.payload for draft in drafts(clock, 10)]
    assert drained[-1][1] == drafts(clock, 1, first=MAX_MEMORY_RECORDS + 89)[0].payload
    outbox.close()


def test_a_second_process_on_the_same_file_is_a_named_state(tmp_path: Path) -> None:
    clock, path = SteppedClock(), tmp_path / "outbox.sqlite3"
    first = Outbox(path, max_bytes=MIB, clock=clock)
    second = Outbox(path, max_bytes=MIB, clock=clock, retry_s=0.0)
    assert second.state == "unwritable"
    assert "locked" in second.detail
    second.append(drafts(clock, 2))
    first.close()
    second.retry()
    assert second.state == "stored"
    assert len(drain(second)) == 2
    second.close()


def test_a_torn_journal_loses_only_its_end(tmp_path: Path) -> None:
    clock, path = SteppedClock(), tmp_path / "outbox.sqlite3"
    outbox = Outbox(path, max_bytes=8 * MIB, clock=clock)
    for number in range(40):
        outbox.append(drafts(clock, 1, first=number))
    copy = tmp_path / "copy" / "outbox.sqlite3"  # as a power cut would leave it
    copy.parent.mkdir()
    shutil.copy(path, copy)
    journal = path.with_name(path.name + "-wal").read_bytes()
    copy.with_name(copy.name + "-wal").write_bytes(journal[: len(journal) * 3 // 4])
    outbox.close()
    again = Outbox(copy, max_bytes=8 * MIB, clock=clock)
    payloads = [payload for _, payload in drain(again)]
    assert 0 < len(payloads) < 40
    assert payloads == [draft.payload for draft in drafts(clock, len(payloads))]
    again.close()


def test_what_is_added_is_synced_and_what_is_removed_is_not(tmp_path: Path) -> None:
    database = Database(tmp_path / "outbox.sqlite3", max_bytes=MIB, first_sequence=1)
    said: list[str] = []
    database._connection.set_trace_callback(said.append)
    database.remove([1])
    assert said.index("PRAGMA synchronous = NORMAL") < said.index("BEGIN IMMEDIATE")
    assert said[-1] == "PRAGMA synchronous = FULL"
    database.close()


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 5)),
            st.tuples(st.just("take"), st.integers(1, 8)),
            st.tuples(st.just("acknowledge"), st.integers(0, 8)),
            st.tuples(st.sampled_from(["release", "reopen"]), st.just(0)),
        ),
        max_size=40,
    )
)
def test_every_record_is_acknowledged_or_still_there(steps: list[tuple[str, int]]) -> None:
    clock = SteppedClock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outbox.sqlite3"
        outbox = Outbox(path, max_bytes=MIB, clock=clock)
        num_made, done, flying = 0, set[bytes](), list[tuple[int, bytes]]()
        for step, count in steps:
            if step == "append":
                outbox.append(drafts(clock, count, first=num_made))
                num_made += count
            elif step == "take":
                flying += [(record.sequence, record.payload) for record in outbox.take(count)]
            elif step == "acknowledge":
                outbox.acknowledge([sequence for sequence, _ in flying[:count]])
                done |= {payload for _, payload in flying[:count]}
                flying = flying[count:]
            else:
                flying = []
                outbox.release()
                if step == "reopen":
                    outbox.close()
                    outbox = Outbox(path, max_bytes=MIB, clock=clock)
            assert outbox.num_pending == num_made - len(done)
        outbox.release()
        left = [payload for _, payload in drain(outbox)]
        outbox.close()
    expected = [draft.payload for draft in drafts(clock, num_made)]
    assert left == [payload for payload in expected if payload not in done]
