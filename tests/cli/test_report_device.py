"""`edgekit report --device`: the page beside the record, and what is said on the terminal."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from command_line import assert_fails, edgekit
from device_records import day
from edgekit.core.device_record import RECORD_NAME


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    lines = [msgspec.json.encode(status) + b"\n" for status in day(30, restart_at=20).statuses]
    (folder / RECORD_NAME).write_bytes(b"".join(lines) + b'{"torn')
    return folder


def test_page_is_written_beside_the_record_and_the_terminal_has_the_stages(state_dir: Path) -> None:
    outcome = edgekit("report", "--device", state_dir)

    assert outcome.code == 0
    assert "kitchen: Answers" in outcome.out
    assert "end to end" in outcome.out
    assert str(state_dir / "device.html") in outcome.out
    assert (state_dir / "device.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_json_is_one_document_with_every_event(state_dir: Path, tmp_path: Path) -> None:
    document = edgekit("report", "--device", state_dir / RECORD_NAME, "--json", "--out", tmp_path / "x.html").document

    assert document["device_id"] == "kitchen"
    assert len(document["sessions"]) == 2
    assert document["num_windows"] == 30
    assert (tmp_path / "x.html").is_file()
    assert not (state_dir / "device.html").exists()


def test_markdown_is_printed(state_dir: Path) -> None:
    assert edgekit("report", "--device", state_dir, "--markdown").out.startswith("# kitchen: ")


def test_no_record_no_run_and_mixed_options_are_usage_errors(state_dir: Path, tmp_path: Path) -> None:
    assert_fails(edgekit("report", "--device", tmp_path), 2, "no record in")
    assert_fails(edgekit("report"), 2, "nothing to report on")
    assert_fails(edgekit("report", "--run", tmp_path), 2, "--device")
    assert_fails(edgekit("report", tmp_path, "--device", state_dir, "--run", tmp_path), 2, "two runs")
    assert_fails(edgekit("report", "--device", state_dir, "--run", tmp_path), 2, "no report at")
