"""A flash of an emulated arm64 board: Debian 12 with its systemd, its sshd and its own user for the service.

The packages that the board has already (numpy, OpenCV, LiteRT for aarch64) are seen through the system's; what it lacks
is carried along as wheels with nothing in them, as classifying needs none of it.
"""

from __future__ import annotations

import ensurepip
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from board_devices import fresh_board
from bundles import write_run
from command_line import Outcome, edgekit
from edgekit.deploy.ssh.own_wheel import read_own_wheel
from edgekit.deploy.wheelhouse import normalize
from emulated_device.board import Board
from wheels import write_wheel

pytestmark = [pytest.mark.board, pytest.mark.timeout(1800)]

Flash = Callable[..., Outcome]


@pytest.fixture(scope="module")
def bare_board() -> Iterator[Board]:
    """A board of namespaces without edgekit."""
    with fresh_board() as device:
        yield device


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pip, and a wheel for everything that the agent requires."""
    folder = tmp_path_factory.mktemp("wheels")
    own = read_own_wheel()
    for requirement in (*own.requires, *own.agent_requires, "ai-edge-litert>=2.3.0"):
        version = requirement.partition(">=")[2].split(",")[0].split(";")[0].strip()
        write_wheel(folder, normalize(requirement), version)
    for path in (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models."""
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder / "one", seed=3), write_run(folder / "two", seed=4)


@pytest.fixture
def flash(bare_board: Board, wheels: Path) -> Flash:
    """Runs `edgekit flash` on the board."""
    remote = bare_board.remote

    def run(source: Path, *options: str, user: str = "root") -> Outcome:
        access = ("--identity", remote.key, "--accept-new", "--wheels", wheels)
        return edgekit("flash", f"{user}@{remote.host}", source, *access, "--soak", "1", "--json", *options)

    return run


def test_user_without_sudo_is_refused(flash: Flash, runs: tuple[Path, Path]) -> None:
    done = flash(runs[0], user="pi")

    assert done.code == 3
    assert "there is no way to root: no sudo for this user" in done.err


def test_bare_board_is_flashed_updated_and_rolled_back(
    bare_board: Board, flash: Flash, runs: tuple[Path, Path]
) -> None:
    remote = bare_board.remote
    first = flash(runs[0], "--camera", "synthetic:320x240@10")

    assert first.code == 0, first
    assert first.document["board"] == "raspberry_pi_4b"
    kinds = [step["kind"] for step in first.document["steps"]]
    assert kinds[:3] == ["make_user", "make_folders", "make_environment"]
    assert first.document["running"]["model"] == "tiny"
    findings = {one["rule"]: one["outcome"] for one in first.document["verdict"]["findings"]}
    assert findings["golden"] == "passed"
    assert remote.run("stat -c %U /var/lib/edgekit/current/manifest.json").strip() == "edgekit"
    assert remote.run("systemctl is-enabled edgekit-agent").strip() == "enabled"
    pid = remote.run("systemctl show -p MainPID --value edgekit-agent").strip()
    assert remote.run(f"stat -c %U /proc/{pid}").strip() == "edgekit"
    assert "/opt/edgekit/venv" in remote.run(f"tr '\\0' ' ' </proc/{pid}/cmdline")

    again = flash(runs[0])
    assert (again.code, again.document["steps"], again.document["num_bytes"]) == (0, [], 0)

    second = flash(runs[1])
    assert second.code == 0, second
    assert [step["kind"] for step in second.document["steps"]] == ["make_folders", "install_bundle"]
    assert remote.run("systemctl show -p MainPID --value edgekit-agent").strip() == pid

    back = edgekit("device", "rollback", remote.host, "--identity", remote.key)
    assert back.code == 0, back
    (one,) = edgekit("device", "status", "--identity", remote.key, "--json").document["boards"]
    assert one["running"]["digest"] == first.document["digest"]


def test_board_serves_again_after_a_power_cut(bare_board: Board, runs: tuple[Path, Path]) -> None:
    bare_board.cut()
    bare_board.up()

    remote = bare_board.remote
    end = "for second in $(seq 240); do systemctl is-active -q edgekit-agent && break; sleep 1; done"
    remote.run(f"{end}; systemctl is-active edgekit-agent", timeout_s=300)
    words = ["flash", f"root@{remote.host}", runs[0], "--identity", remote.key, "--dry-run"]
    assert "install" not in edgekit(*words).out


def test_journal_is_the_boards_own(bare_board: Board) -> None:
    remote = bare_board.remote

    done = edgekit("device", "logs", remote.host, "-n", "200", "--identity", remote.key)

    assert done.code == 0, done
    assert "systemd[1]: Started edgekit-agent.service" in done.out
