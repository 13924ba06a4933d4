"""The record: one line a window, capped, readable whatever the power did."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.agent.telemetry.recorder import Recorder, RecorderConfig
from edgekit.core.device_record import RECORD_NAME, read_record, record_paths
from edgekit.core.device_status import DeviceStatus
from edgekit.core.errors import IntegrityError, UsageError

MakeStatus = Callable[..., DeviceStatus]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def recorder(folder: Path, clock: Callable[[], float]) -> Iterator[Recorder]:
    recorder = Recorder(folder, clock=clock)
    yield recorder
    recorder.close()


def uptimes(path: Path) -> list[float]:
    return [status.uptime_s for status in read_record(path).statuses]


def test_one_line_per_window_comes_back_as_it_was(recorder: Recorder, folder: Path, make_status: MakeStatus) -> None:
    statuses = [make_status(number) for number in range(5)]
    assert [recorder.offer(status) for status in statuses for _ in range(3)] == [True, False, False] * 5

    record = read_record(folder)
    assert record.statuses == tuple(statuses)
    assert (record.num_damaged, record.num_newer) == (0, 0)
    assert read_record(folder / RECORD_NAME) == record


def test_snapshot_before_the_first_window_is_not_recorded(recorder: Recorder, make_status: MakeStatus) -> None:
    assert not recorder.offer(msgspec.structs.replace(make_status(), recent=None))


def test_files_rotate_under_their_cap(folder: Path, make_status: MakeStatus) -> None:
    size = len(msgspec.json.encode(make_status(10))) + 5
    recorder = Recorder(folder, RecorderConfig(max_file_bytes=size * 10, num_files=3))
    for number in range(100):
        assert recorder.offer(make_status(number))
        assert all(path.stat().st_size <= size * 10 for path in folder.iterdir())
    recorder.close()

    assert [path.name for path in record_paths(folder)] == ["record.2.jsonl", "record.1.jsonl", "record.jsonl"]
    kept = uptimes(folder)
    assert kept == [make_status(number).uptime_s for number in range(100)][-len(kept) :]
    assert 20 <= len(kept) <= 33


def test_restart_goes_on_in_the_same_file_and_rotates_a_full_one(folder: Path, make_status: MakeStatus) -> None:
    size = len(msgspec.json.encode(make_status(1))) + 5
    config = RecorderConfig(max_file_bytes=size * 2, num_files=2)
    for number in range(3):
        recorder = Recorder(folder, config)
        assert recorder.offer(make_status(number))
        recorder.close()

    assert uptimes(folder / "record.1.jsonl") == [10.0, 20.0]
    assert uptimes(folder / RECORD_NAME) == [30.0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(cut=st.integers(1, 1500))
def test_torn_last_line_costs_itself_alone(tmp_path: Path, make_status: MakeStatus, cut: int) -> None:
    folder = tmp_path / str(cut)
    recorder = Recorder(folder)
    for number in range(3):
        recorder.offer(make_status(number))
    recorder.close()
    path = folder / RECORD_NAME
    os.truncate(path, path.stat().st_size - min(cut, len(msgspec.json.encode(make_status(2)))))

    torn = read_record(folder)
    assert [status.uptime_s for status in torn.statuses][:2] == [10.0, 20.0]
    assert torn.num_damaged == 0
    again = Recorder(folder)
    again.offer(make_status(7))
    again.close()
    assert uptimes(folder)[:2] == [10.0, 20.0]
    assert uptimes(folder)[-1] == 80.0
    path.unlink()


def test_damaged_and_newer_lines_are_counted_and_left_out(folder: Path, make_status: MakeStatus) -> None:
    folder.mkdir()
    good = msgspec.json.encode(make_status(1))
    newer = msgspec.json.encode({"version": 99, "surprise": True})
    lines = [
        good,
        b"\xff\xfe\x00",
        b"{",
        b"[" * 100_000,
        newer,
        b"",
        b"\0" * 512,
        good.replace(b'"uptime_s"', b'"x"'),
        good,
    ]
    (folder / RECORD_NAME).write_bytes(b"\n".join([*lines, b'{"torn']))

    record = read_record(folder)
    assert len(record.statuses) == 2
    assert (record.num_damaged, record.num_newer) == (4, 1)


def test_fields_of_a_later_edgekit_are_passed_over(folder: Path, make_status: MakeStatus) -> None:
    folder.mkdir()
    line = msgspec.json.encode({**msgspec.to_builtins(make_status(1)), "mood": "fine"})
    (folder / RECORD_NAME).write_bytes(line + b"\n")

    assert uptimes(folder) == [20.0]


def test_nothing_to_read_is_an_error_that_says_what(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no record in"):
        read_record(tmp_path)
    with pytest.raises(UsageError, match="cannot read"):
        read_record(tmp_path / "missing.jsonl")
    (tmp_path / "x.jsonl").write_text('{"version": 7}\n', encoding="utf-8")
    with pytest.raises(IntegrityError, match="1 lines of a newer edgekit"):
        read_record(tmp_path / "x.jsonl")


def test_disk_that_refuses_is_told_and_tried_again_later(
    recorder: Recorder, folder: Path, make_status: MakeStatus, clock: Callable[[], float]
) -> None:
    folder.write_text("a file where the folder should be", encoding="utf-8")
    assert not recorder.offer(make_status(0))
    assert "record: " in recorder.detail
    folder.unlink()
    assert not recorder.offer(make_status(1))  # not every second
    clock.now_s += 61.0  # type: ignore[attr-defined]

    assert recorder.offer(make_status(2))
    assert recorder.detail == ""
    assert recorder.num_missed == 2
    assert uptimes(folder) == [30.0]


def test_full_disk_is_told(tmp_path: Path, make_status: MakeStatus, clock: Callable[[], float]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    (tmp_path / RECORD_NAME).symlink_to("/dev/full")
    recorder = Recorder(tmp_path, clock=clock)

    assert not recorder.offer(make_status(0))
    assert "No space left" in recorder.detail
    (tmp_path / RECORD_NAME).unlink()
    clock.now_s += 61.0  # type: ignore[attr-defined]
    assert recorder.offer(make_status(1))
    recorder.close()
    assert uptimes(tmp_path) == [20.0]


def test_clock_that_jumps_changes_nothing_of_the_order(
    recorder: Recorder, folder: Path, make_status: MakeStatus
) -> None:
    for number, unix_s in enumerate((1.7e9, 0.0, 4e9)):
        status = make_status(number)
        recorder.offer(msgspec.structs.replace(status, time_unix_s=unix_s))

    assert uptimes(folder) == [10.0, 20.0, 30.0]
