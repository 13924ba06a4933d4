"""devices/edgekit-agent.service under the systemd of Debian 12: on a board of namespaces, and on a whole machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from board_devices import running_board, running_guest
from board_watch import Look, Watch
from bundles import write_run
from edgekit.deploy.bundling import BundleRequest, make_bundle
from emulated_device.remote import Remote

pytestmark = [pytest.mark.board, pytest.mark.timeout(900)]

_SETTINGS = """\
bundle = "/etc/edgekit/model.ekb"
[camera]
source = "{camera}"
[model]
any_board = {any_board}
[loop]
max_fps = 5
"""
_INSTALL = """set -e
getent passwd edgekit >/dev/null || useradd --system --no-create-home --shell /usr/sbin/nologin edgekit
mkdir -p /opt/edgekit/venv/bin /etc/edgekit
cp /opt/edgekit/tests/board/edgekit_that_hangs.py /opt/edgekit/venv/bin/edgekit
cp /opt/edgekit/devices/edgekit-agent.service /etc/systemd/system/
cp /tmp/agent.toml /tmp/model.ekb /etc/edgekit/
systemctl daemon-reload
"""


def is_serving(look: Look) -> bool:
    status = look["status"]
    return look["ActiveState"] == "active" and status is not None and status["state"] == "serving"


def is_machine(device: Remote) -> bool:
    """Whether it has a kernel of its own."""
    return device.host == "127.0.0.1"


@pytest.fixture(scope="module", params=["board", "guest"])
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A device with the agent installed: a synthetic camera on the board, the kernel's on the machine."""
    folder = tmp_path_factory.mktemp("install")
    is_board = request.param == "board"
    wanted = BundleRequest(run_dir=write_run(folder / "run"), boards=("raspberry_pi_4b",), name="tiny", release=3)
    make_bundle(wanted, folder / "model.ekb")
    camera = "synthetic:320x240@10" if is_board else "0"
    # qemu's "virt" machine is no board of ours.
    settings = _SETTINGS.format(camera=camera, any_board=str(not is_board).lower())
    (folder / "agent.toml").write_text(settings, encoding="utf-8")
    with running_board() if is_board else running_guest() as emulated:
        install(emulated.remote, folder)
        yield emulated.remote


def install(remote: Remote, folder: Path) -> None:
    """What an installer does."""
    remote.copy([folder / "agent.toml", folder / "model.ekb"], "/tmp")
    remote.run(_INSTALL)


@pytest.fixture
def watch(device: Remote) -> Iterator[Watch]:
    """The service, started and serving; stopped at the end, its journal shown when the test fails."""
    try:
        device.run("systemctl reset-failed edgekit-agent 2>/dev/null; systemctl start edgekit-agent", timeout_s=300)
        with Watch(device, "exec python3 -u /opt/edgekit/tests/board/watch_service.py") as looks:
            looks.until(is_serving, 180)
            yield looks
    finally:
        # pytest shows it when the test fails.
        sys.stdout.write(device.run("journalctl -u edgekit-agent -n 40 --no-pager; systemctl stop edgekit-agent"))


def test_service_answers_frames_after_its_golden_pictures(device: Remote, watch: Watch) -> None:
    look = watch.until(lambda look: is_serving(look) and look["status"]["num_answers"] > 10, 120)

    status = look["status"]
    assert look["SubState"] == "running"
    assert "serves" in look["StatusText"]
    assert status["model"]["num_golden"] > 0
    assert status["model"]["release"] == 3
    assert status["camera"]["state"] == "streaming"
    assert status["camera"]["kind"] == ("v4l2" if is_machine(device) else "synthetic")
    assert status["answer"]["top"]
    user = device.run(f"stat -c %U /proc/{look['MainPID']}")
    assert user.strip() == "edgekit"


def test_service_is_confined(device: Remote, watch: Watch) -> None:
    words = device.run(f"cat /proc/{watch.looks[-1]['MainPID']}/status").split()

    assert words[words.index("NoNewPrivs:") + 1] == "1"
    assert int(words[words.index("CapBnd:") + 1], 16) == 0
    if is_machine(device):  # qemu-user has no seccomp
        assert words[words.index("Seccomp:") + 1] == "2"


def test_service_starts_again_when_a_part_stands_still(device: Remote, watch: Watch) -> None:
    before = watch.looks[-1]
    device.run("touch /run/edgekit/hang")
    again = watch.until(lambda look: look["NRestarts"] > before["NRestarts"] and is_serving(look), 180)

    assert again["MainPID"] != before["MainPID"]
    journal = device.run("journalctl -u edgekit-agent --no-pager")
    assert "inference: nothing moved for too long" in journal
    assert "status=70" in journal


def test_systemd_starts_the_service_again_when_all_of_it_stands_still(device: Remote, watch: Watch) -> None:
    before = watch.looks[-1]
    device.run(f"kill -STOP {before['MainPID']}")
    again = watch.until(lambda look: look["NRestarts"] > before["NRestarts"] and is_serving(look), 180)

    assert again["MainPID"] != before["MainPID"]
    assert "Watchdog timeout" in device.run("journalctl -u edgekit-agent --no-pager")


def test_service_ends_by_itself_when_told_to_stop(device: Remote, watch: Watch) -> None:
    watch.until(lambda look: is_serving(look) and look["status"]["num_answers"] > 3, 120)
    device.run("systemctl stop edgekit-agent", timeout_s=120)
    look = watch.until(lambda look: look["ActiveState"] == "inactive")

    assert look["Result"] == "success"  # "timeout" when it had to be killed
    assert look["ExecMainStatus"] == "0"
    assert device.run("pgrep -u edgekit || true") == ""
