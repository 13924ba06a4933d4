"""`edgekit agent`, in processes of its own, with a model that compress made of a user's network."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from command_line import Outcome, assert_fails, edgekit, start_process
from edgekit.cli.agent_running import signals_set
from edgekit.core.device_status import DeviceStatus
from mqtt_broker import Broker, Subscriber, running, unique, wait_until

DEADLINE_S = 60.0
CAMERA = "synthetic:320x240@30"


@pytest.fixture(scope="session")
def bundle(compressed: tuple[Path, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "colours.ekb"
    outcome = edgekit("bundle", compressed[0], "--for", "host_cpu", "--out", path)
    assert outcome.code == 0, outcome.err
    return path


class Running:
    """An agent in a process of its own, and the snapshots that it prints."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._rest = b""

    def wait(self, **wanted: Any) -> DeviceStatus:
        """The next snapshot with these values ("camera_state" looks into the camera)."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            status = self.next(deadline)
            told = {**{name: getattr(status, name) for name in status.__struct_fields__}}
            told["camera_state"] = status.camera.state
            if all(told[name] == value for name, value in wanted.items()):
                return status
        raise AssertionError(f"no snapshot with {wanted} within {DEADLINE_S} s")

    def next(self, deadline: float) -> DeviceStatus:
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the agent printed nothing"
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            assert piece, f"the agent ended: {self.errors()}"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return msgspec.json.decode(line, type=DeviceStatus)

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode


@pytest.fixture
def run_agent(bundle: Path, tmp_path: Path) -> Iterator[Any]:
    agents: list[Running] = []

    def run(*options: str | Path, what: Path = bundle) -> Running:
        given = ["agent", "run", "--bundle", what, "--state", tmp_path / "state", "--json", *options]
        if "--camera" not in options:
            given += ["--camera", CAMERA]
        if "--http" not in options:
            given += ["--http", "off"]
        agents.append(Running(start_process(*given, stdout=subprocess.PIPE)))
        return agents[-1]

    yield run
    for agent in agents:
        if agent.process.poll() is None:
            agent.process.kill()
        agent.process.communicate()


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.slow
class TestRun:
    def test_agent_serves_from_a_bundle_and_ends_at_sigterm_with_code_0(self, run_agent: Any) -> None:
        agent = run_agent()
        status = agent.wait(state="serving")
        assert status.model.num_golden > 0
        assert status.model.packed_bytes < status.model.file_bytes
        assert status.model.release == 1
        assert agent.end() == 0

    def test_ctrl_c_ends_it_too(self, run_agent: Any) -> None:
        agent = run_agent()
        agent.wait(state="serving")
        assert agent.end(signal.SIGINT) == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_signal_to_the_whole_group_is_no_loss_of_the_camera(self, run_agent: Any, number: signal.Signals) -> None:
        agent = run_agent()
        agent.wait(state="serving")
        for pid in (*children_of(agent.process.pid), agent.process.pid):
            os.kill(pid, number)
        assert agent.wait(state="stopping").camera.state == "streaming"
        assert agent.process.wait(timeout=DEADLINE_S) == 0

    def test_run_folder_serves_on_the_host_that_made_it(self, run_agent: Any, compressed: tuple[Path, Outcome]) -> None:
        agent = run_agent("--frames", "5", what=compressed[0])
        assert agent.wait(num_answers=5).model.release is None

    def test_camera_process_dies_with_an_agent_that_is_killed(self, run_agent: Any) -> None:
        agent = run_agent()
        agent.wait(state="serving")
        children = children_of(agent.process.pid)
        assert children
        agent.process.kill()
        agent.process.wait()
        deadline = time.monotonic() + DEADLINE_S
        while any(map(is_alive, children)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(is_alive, children))

    def test_hangup_loads_the_bundle_again_and_refuses_a_damaged_one(
        self, run_agent: Any, bundle: Path, tmp_path: Path
    ) -> None:
        installed = tmp_path / "current.ekb"
        installed.write_bytes(bundle.read_bytes())
        agent = run_agent(what=installed)
        before = agent.wait(state="serving")
        content = bytearray(bundle.read_bytes())
        content[len(content) // 2] ^= 1
        installed.write_bytes(content)
        agent.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + DEADLINE_S
        while "refused" not in (after := agent.next(deadline)).detail:
            assert time.monotonic() < deadline
        assert after.state == "serving"
        assert after.model.sha256 == before.model.sha256

    def test_reader_that_goes_away_ends_it(self, run_agent: Any) -> None:
        agent = run_agent()
        agent.wait(state="serving")
        agent.process.stdout.close()
        assert agent.process.wait(timeout=DEADLINE_S) == 0
        agent.process.stdout = None

    def test_reader_that_does_not_read_makes_nobody_wait(self, run_agent: Any) -> None:
        agent = run_agent("--http", "127.0.0.1:0", "--camera", CAMERA)
        agent.wait(state="serving")
        port = port_of(agent.process.pid)
        fcntl.fcntl(agent.process.stdout, fcntl.F_SETPIPE_SZ, 4096)  # full after one more line

        def uptime_s() -> float:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=DEADLINE_S) as answer:
                return json.load(answer)["uptime_s"]

        end_s = uptime_s() + 5
        wait_until(lambda: uptime_s() > end_s, "snapshots that nobody prints")
        began = time.monotonic()
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(timeout=DEADLINE_S) == 0
        assert time.monotonic() - began < 10  # generous: the bar is two seconds on a board

    def test_full_disk_under_its_output_is_an_error_of_one_line(self, bundle: Path, tmp_path: Path) -> None:
        options = ["--bundle", bundle, "--camera", CAMERA, "--http", "off", "--state", tmp_path, "--json"]
        with Path("/dev/full").open("wb") as full:
            process = start_process("--quiet", "agent", "run", *options, stdout=full)
            _, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 3
        assert errors.decode().startswith("error: cannot print: No space left on device")
        assert "Traceback" not in errors.decode()

    def test_closed_terminal_ends_it(self, bundle: Path, tmp_path: Path) -> None:
        pid, terminal = pty.fork()
        if pid == 0:
            command = [sys.executable, "-m", "edgekit.cli.main", "agent", "run", "--bundle", str(bundle)]
            os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
            os.execv(sys.executable, [*command, "--camera", CAMERA, "--http", "off", "--state", str(tmp_path)])
        shown = b""
        while b"serving" not in shown:
            shown += os.read(terminal, 1 << 16)
        os.close(terminal)
        deadline = time.monotonic() + DEADLINE_S
        while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
            time.sleep(0.05)
        if not ended[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert ended[0] == pid
        assert os.waitstatus_to_exitcode(ended[1]) == 0

    def test_records_reach_the_broker_and_none_is_lost_when_the_agent_ends(
        self, run_agent: Any, tmp_path: Path
    ) -> None:
        settings = tmp_path / "agent.toml"
        settings.write_text("[mqtt]\ninterval_s = 1.0\n")
        with running(Broker(tmp_path / "broker")) as broker:
            first = Subscriber(broker.port)
            agent = run_agent("--config", settings, "--mqtt", f"127.0.0.1:{broker.port}", "--device-id", "kitchen")
            agent.wait(state="serving")
            wait_until(lambda: len(unique(first.records)) >= 3, "three records")
            assert agent.end() == 0
            wait_until(lambda: first.last("edgekit/kitchen/availability") == b"offline", "the agent says goodbye")
            num_before = len(unique(first.records))
            again = run_agent("--config", settings, "--mqtt", f"127.0.0.1:{broker.port}", "--device-id", "kitchen")
            wait_until(lambda: len(unique(first.records)) >= num_before + 3, "records of the next life")
            assert again.end() == 0
            sequences = [record["sequence"] for record in unique(first.records)]
            first.close()
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))

    def test_terminal_shows_one_line_and_the_log_stands_above_it(self, bundle: Path, tmp_path: Path) -> None:
        terminal, inner = pty.openpty()
        options = ["--bundle", bundle, "--camera", CAMERA, "--http", "off", "--state", tmp_path, "--frames", "40"]
        process = start_process("agent", "run", *options, stdout=subprocess.DEVNULL, stderr=inner)
        os.close(inner)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal says that its other end is closed
            while piece := os.read(terminal, 1 << 16):
                shown += piece
        os.close(terminal)
        assert process.wait(timeout=DEADLINE_S) == 0
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
        lines = [line for part in text.split("\n") for line in part.split("\r") if line]
        assert any(line.startswith("serving | ") for line in lines)
        assert [line for line in lines if "agent: stopping" in line] == ["agent: stopping"]

    def test_camera_that_is_not_there_is_a_state_that_is_told(self, run_agent: Any) -> None:
        agent = run_agent("--camera", "http://127.0.0.1:9/video")
        status = agent.wait(state="waiting", camera_state="lost")
        assert "127.0.0.1:9" in status.camera.detail
        assert agent.end() == 0

    def test_page_and_metrics_stand_beside_a_serving_agent(self, run_agent: Any) -> None:
        agent = run_agent("--http", "127.0.0.1:0", "--camera", CAMERA)
        agent.wait(state="serving")
        port = port_of(agent.process.pid)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_S) as answer:
            assert b"edgekit_" in answer.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/snapshot.jpg", timeout=DEADLINE_S) as answer:
            assert answer.read(2) == b"\xff\xd8"
        agent.process.send_signal(signal.SIGTERM)
        assert f"live page: http://127.0.0.1:{port}\n" in agent.errors()

    def test_settings_come_from_a_file_and_options_override_them(self, run_agent: Any, tmp_path: Path) -> None:
        settings = tmp_path / "agent.toml"
        settings.write_text(
            'device_id = "kitchen"\n[camera]\nsource = "nowhere"\n'
            "[loop]\nmax_frames = 3\n[loop.smoothing]\nthreshold = 1.0\n"
        )
        agent = run_agent("--config", settings)
        last = agent.wait(num_answers=3)
        assert last.device_id == "kitchen"
        assert last.answer.label == "unknown"

    def test_state_folder_that_cannot_be_written_in_is_no_reason_to_stop(
        self, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("no folder")
        monkeypatch.setenv("XDG_STATE_HOME", str(blocked / "state"))
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
        options = ["--camera", CAMERA, "--http", "off", "--frames", "2", "--json"]
        agent = Running(start_process("agent", "run", "--bundle", bundle, *options, stdout=subprocess.PIPE))
        agent.wait(num_answers=2)
        agent.process.communicate(timeout=DEADLINE_S)
        assert agent.process.returncode == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_is_obeyed_when_it_comes_in_the_moment_in_which_the_main_thread_begins_to_wait(
    number: signal.Signals,
) -> None:
    stop = threading.Event()
    with signals_set(stop, stop.set):
        with stop._cond:  # pyright: ignore[reportAttributeAccessIssue] - as `wait` does
            os.kill(os.getpid(), number)
        assert stop.wait(DEADLINE_S)


def port_of(pid: int) -> int:
    """Where a process listens."""
    return next(
        int(line.split()[1].rpartition(":")[2], 16)
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[9] in inodes_of(pid)
    )


def inodes_of(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


class TestBadInput:
    def test_no_bundle_is_wrong_usage(self) -> None:
        assert_fails(edgekit("agent", "run", "--camera", CAMERA), 2, "no bundle", "--bundle")

    @pytest.mark.parametrize(
        ("option", "value", "word"),
        [
            ("--size", "640", "640x480"),
            ("--votes", "three", "3/5"),
            ("--cpus", "a,b", "2,3"),
            ("--http", "localhost:http", "--http"),
            ("--camera", "gopher://cam", "gopher"),
            ("--threshold", "7", "threshold"),
            ("--max-fps", "0", "max_fps"),
            ("--config", "missing.toml", "missing.toml"),
            ("--token-file", "missing.txt", "missing.txt"),
        ],
    )
    def test_option_that_cannot_be_is_named(self, option: str, value: str, word: str) -> None:
        assert_fails(edgekit("agent", "run", "--bundle", "some.ekb", option, value), 2, word)

    def test_key_of_a_file_that_is_none_is_named_with_its_place(self, tmp_path: Path) -> None:
        path = tmp_path / "agent.toml"
        path.write_text("[camera]\nsorce = 'x'\n")
        assert_fails(edgekit("agent", "run", "--config", path), 2, "sorce", "camera")

    @pytest.mark.slow
    def test_bundle_that_is_damaged_or_missing_is_refused_in_two_lines(self, bundle: Path, tmp_path: Path) -> None:
        damaged = tmp_path / "damaged.ekb"
        damaged.write_bytes(bundle.read_bytes()[:-20])
        for path in (damaged, tmp_path / "missing.ekb"):
            given = ("--camera", CAMERA, "--http", "off", "--state", tmp_path / "state")
            outcome = edgekit("--quiet", "agent", "run", "--bundle", path, *given)
            assert_fails(outcome, 2, path.name)

    @pytest.mark.slow
    def test_everybody_on_the_network_may_look_only_with_a_token(self, bundle: Path, tmp_path: Path) -> None:
        given = ("--camera", CAMERA, "--http", "0.0.0.0:0", "--state", tmp_path / "state")
        assert_fails(edgekit("--quiet", "agent", "run", "--bundle", bundle, *given), 2, "token")


class TestSamples:
    def test_samples_of_an_agent_that_kept_none_are_none(self, tmp_path: Path) -> None:
        outcome = edgekit("agent", "samples", "--state", tmp_path, "--json")
        assert outcome.code == 0
        assert outcome.document["samples"] == []

    @pytest.mark.slow
    def test_unsure_answers_are_kept_and_copied_out(self, run_agent: Any, tmp_path: Path) -> None:
        settings = tmp_path / "agent.toml"
        settings.write_text("[samples]\nuncertain_below = 1.0\ninterval_s = 0.1\n")
        agent = run_agent("--config", settings)
        deadline = time.monotonic() + DEADLINE_S
        while not ((drift := agent.next(deadline).drift) and drift.num_samples >= 2):
            assert time.monotonic() < deadline
        assert agent.end() == 0
        outcome = edgekit("agent", "samples", "--state", tmp_path / "state", "--export", tmp_path / "out", "--json")
        document = json.loads(outcome.out)
        assert document["exported"] == len(document["samples"]) >= 2
        assert len(list((tmp_path / "out").rglob("*.jpg"))) == document["exported"]
