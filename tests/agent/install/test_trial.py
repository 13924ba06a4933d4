"""A model on trial in a process of its own: measured when it is good, and gone when it is not."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from bad_runtime import MODE, write_bad_runtime
from edgekit.agent.camera import parse_camera
from edgekit.agent.install.messages import FrameSettings, TrialReport, TrialSettings
from edgekit.agent.install.supervising import run_trial
from edgekit.bundle.reading import open_bundle
from installs import Releases

QUICK = TrialSettings(soak_s=0.2, num_queries=70)


def tried(releases: Releases, tmp_path: Path, settings: TrialSettings = QUICK) -> TrialReport:
    bundle = open_bundle(releases.paths[0])
    return run_trial(releases.paths[0], bundle.manifest, tmp_path / "trial", settings)


def children() -> set[int]:
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found.add(int(entry.name))
    return found


@pytest.fixture
def bad_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    folder = write_bad_runtime(tmp_path / "runtime")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))))
    return monkeypatch


def test_good_model_is_measured(releases: Releases, tmp_path: Path) -> None:
    before = children()
    report = tried(releases, tmp_path)

    assert (report.failed, report.killed, report.exit_code, report.stage) == (None, None, 0, "done")
    told = report.measured
    assert told is not None
    assert told.runtime.startswith("litert ")
    assert (told.input_shape, told.num_classes) == ((8, 8, 3), 7)
    assert told.num_golden == (len(open_bundle(releases.paths[0]).manifest.golden.top1),) * 2
    assert len(told.query_ms) == 70
    assert told.lived_s >= 0.2
    assert (told.num_not_finite, told.num_frames) == (0, 0)
    assert 10 < told.peak_rss_mib < 2000
    assert report.peak_rss_mib > 10
    assert children() <= before


@pytest.mark.parametrize(("mode", "signal"), [("segfault_on_load", -11), ("abort_on_load", -6), ("exit_on_load", 0)])
def test_crash_is_seen_from_outside(
    releases: Releases, tmp_path: Path, bad_runtime: pytest.MonkeyPatch, mode: str, signal: int
) -> None:
    bad_runtime.setenv(MODE, mode)
    report = tried(releases, tmp_path)
    assert (report.measured, report.failed, report.killed) == (None, None, None)
    assert (report.exit_code, report.stage) == (signal, "loading")


@pytest.mark.slow
def test_model_that_hangs_is_ended(releases: Releases, tmp_path: Path, bad_runtime: pytest.MonkeyPatch) -> None:
    bad_runtime.setenv(MODE, "hang_later")  # and does not listen to SIGTERM
    before = children()
    report = tried(releases, tmp_path, TrialSettings(soak_s=0.2, silence_s=10.0))
    assert (report.killed, report.exit_code, report.measured) == ("silent", -9, None)
    assert report.stage in ("timing", "loading")
    assert children() <= before


@pytest.mark.slow
def test_model_that_takes_too_long_is_ended(releases: Releases, tmp_path: Path) -> None:
    report = tried(releases, tmp_path, TrialSettings(soak_s=3600.0, deadline_s=12.0))
    assert (report.killed, report.measured) == ("late", None)


def test_model_that_eats_memory_is_ended_before_the_board_suffers(
    releases: Releases, tmp_path: Path, bad_runtime: pytest.MonkeyPatch
) -> None:
    bad_runtime.setenv(MODE, "memory_on_load")
    report = tried(releases, tmp_path, TrialSettings(max_rss_mib=300.0))
    assert report.killed == "too_large"
    assert 300 < report.peak_rss_mib < 2000


def test_model_that_changes_its_mind_is_found_out(
    releases: Releases, tmp_path: Path, bad_runtime: pytest.MonkeyPatch
) -> None:
    bad_runtime.setenv(MODE, "drifts")
    told = tried(releases, tmp_path).measured
    assert told is not None
    assert told.num_golden[0] > told.num_golden[1]


def test_damaged_release_fails_by_itself(releases: Releases, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    report = run_trial(tmp_path / "empty", open_bundle(releases.paths[0]).manifest, tmp_path / "trial", QUICK)
    assert report.failed is not None
    assert (report.failed.kind, report.failed.stage) == ("loads", "loading")


@pytest.fixture
def snapshots() -> Iterator[tuple[str, list[str | None]]]:
    """A page like the agent's: its picture's address, and the tokens that were shown."""
    picture = cv2.imencode(".jpg", np.full((24, 32, 3), 90, np.uint8))[1].tobytes()
    tokens: list[str | None] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers.get("Authorization"))
            self.send_response(200 if len(tokens) > 1 else 503)
            self.end_headers()
            self.wfile.write(picture)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/snapshot.jpg", tokens
    server.shutdown()
    thread.join()
    server.server_close()


def test_live_frames_come_from_the_page_of_the_agent(
    releases: Releases, tmp_path: Path, snapshots: tuple[str, list[str | None]]
) -> None:
    url, tokens = snapshots
    frames = FrameSettings(snapshot_url=url, token="secret-token", num=3)
    assert "secret-token" not in repr(frames)
    told = tried(releases, tmp_path, TrialSettings(soak_s=0, num_queries=1, frames=frames)).measured
    assert told is not None
    assert (told.num_frames, told.frames_detail) == (3, "")
    assert tokens == ["Bearer secret-token"] * 4


def test_live_frames_come_from_a_camera(releases: Releases, tmp_path: Path) -> None:
    frames = FrameSettings(camera=parse_camera("synthetic:"), num=3)
    told = tried(releases, tmp_path, TrialSettings(soak_s=0, num_queries=1, frames=frames)).measured
    assert told is not None
    assert told.num_frames == 3


def test_missing_page_is_told_not_blamed_on_the_model(releases: Releases, tmp_path: Path) -> None:
    frames = FrameSettings(snapshot_url="http://127.0.0.1:1/snapshot.jpg", num=3, timeout_s=0.5)
    told = tried(releases, tmp_path, TrialSettings(soak_s=0, num_queries=1, frames=frames)).measured
    assert told is not None
    assert told.num_frames == 0
    assert "127.0.0.1:1" in told.frames_detail
