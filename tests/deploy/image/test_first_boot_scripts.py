"""The two scripts of the first boot, run in a folder that stands for the board, with programs that only take notes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgekit.deploy.image.contents import first_boot_items, program_items, setup_unit_text
from edgekit.deploy.image.first_boot import FirstBoot, command_line_with, make_wifi
from edgekit.deploy.image.plan import WriteFile
from edgekit.deploy.ssh.own_wheel import OwnWheel, encode_wheel

KEY = f"ssh-ed25519 {'A' * 68} maker@home"
FIRST_BOOT = FirstBoot(user="maker", ssh_keys=(KEY,), wifi=make_wifi("home", "12345678", "DE"))
LINE = "console=tty1 rootwait quiet"


class Board:
    """A folder with what the scripts need, and the programs that they call."""

    def __init__(self, folder: Path, programs: Mapping[str, str]) -> None:
        self.root, self._bin, self.calls_path = folder / "root", folder / "bin", folder / "calls"
        self._bin.mkdir()
        for name in ("boot/firmware", "var/log", "var/lib/systemd/rfkill", "home/maker", "usr/lib/edgekit"):
            (self.root / name).mkdir(parents=True)
        for name, body in programs.items():
            (self._bin / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.calls_path}"\n{body}\n')
            (self._bin / name).chmod(0o755)

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": f"{self._bin}:/usr/bin:/bin", "EDGEKIT_ROOT": str(self.root), **variables}
        return subprocess.run(["sh", script], env=environ, capture_output=True, text=True, check=False, timeout=240)

    @property
    def calls(self) -> str:
        return self.calls_path.read_text() if self.calls_path.exists() else ""


def _programs(**others: str) -> dict[str, str]:
    getent = 'case "$*" in "passwd 1000") echo "pi:x:1000:1000::/home/pi:/bin/bash";;'
    getent += ' "passwd maker") echo "maker:x:1000:1000::/home/maker:/bin/bash";; *) exit 2;; esac'
    quiet = dict.fromkeys(("usermod", "groupmod", "useradd", "chown", "chgrp", "systemctl", "rfkill"), "")
    return {"getent": getent, **quiet, **others}


def _first_run(board: Board) -> Path:
    for item in first_boot_items(FIRST_BOOT):
        assert isinstance(item, WriteFile)
        if item.path.startswith("/usr/lib/edgekit/"):
            (board.root / item.path[1:]).write_bytes(item.content)
    (board.root / "boot/firmware/cmdline.txt").write_text(command_line_with(LINE, FIRST_BOOT) + "\n")
    return board.root / "usr/lib/edgekit/firstrun.sh"


def test_first_run_sets_user_keys_and_radio_and_takes_itself_away(tmp_path: Path) -> None:
    board = Board(tmp_path, _programs())
    (board.root / "var/lib/systemd/rfkill/platform-x:wlan").write_text("1\n")
    ran = board.run(str(_first_run(board)))
    assert ran.returncode == 0, ran
    assert "failed" not in (board.root / "var/log/edgekit-firstrun.log").read_text()
    assert "usermod --login maker --home /home/maker --move-home pi" in board.calls
    keys = board.root / "home/maker/.ssh/authorized_keys"
    assert keys.read_text() == f"{KEY}\n"
    assert keys.stat().st_mode & 0o777 == 0o600
    assert "systemctl enable ssh.service" in board.calls
    assert (board.root / "var/lib/systemd/rfkill/platform-x:wlan").read_text() == "0\n"
    line = (board.root / "boot/firmware/cmdline.txt").read_text()
    assert line == f"{LINE} cfg80211.ieee80211_regdom=DE\n"


def test_first_run_prefers_the_systems_own_way_to_rename(tmp_path: Path) -> None:
    board = Board(tmp_path, _programs())
    own = board.root / "usr/lib/userconf-pi/userconf"
    own.parent.mkdir()
    own.write_text(f'#!/bin/sh\necho "userconf $*" >>"{board.calls_path}"\n')
    own.chmod(0o755)
    board.run(str(_first_run(board)))
    assert "userconf maker *" in board.calls
    assert "usermod" not in board.calls


def test_first_run_goes_on_and_ends_when_a_step_fails(tmp_path: Path) -> None:
    board = Board(tmp_path, _programs(usermod="exit 1", systemctl="exit 1"))
    ran = board.run(str(_first_run(board)))
    log = (board.root / "var/log/edgekit-firstrun.log").read_text()
    assert ran.returncode == 0
    assert "failed: user maker" in log
    assert "failed: SSH server" in log
    assert "systemd.run" not in (board.root / "boot/firmware/cmdline.txt").read_text()


def test_first_run_may_run_again_after_a_power_cut(tmp_path: Path) -> None:
    board = Board(tmp_path, _programs())
    script = str(_first_run(board))
    board.run(script)
    before = (board.root / "boot/firmware/cmdline.txt").read_text()
    assert board.run(script).returncode == 0
    assert (board.root / "boot/firmware/cmdline.txt").read_text() == before
    assert (board.root / "home/maker/.ssh/authorized_keys").read_text() == f"{KEY}\n"


def _set_up(board: Board, *, is_whole: bool = True) -> Path:
    """What an image has for setup.sh: a pip wheel (the one that Python itself carries) and an edgekit that can only
    say its version."""
    import ensurepip

    main = b"def main():\n    print('edgekit, very small')\n"
    tiny = OwnWheel(
        files=(("edgekit/__init__.py", b""), ("edgekit/cli/__init__.py", b""), ("edgekit/cli/main.py", main)),
        requires=(),
        agent_requires=(),
        digest="00",
    )
    requirements = () if is_whole else ("there-is-no-such-wheel",)
    for item in program_items(requirements, (tiny.name, encode_wheel(tiny)), ()):
        if isinstance(item, WriteFile):
            (board.root / item.path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (board.root / item.path[1:]).write_bytes(item.content)
    pip = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    (board.root / "opt/edgekit/wheels" / pip.name).write_bytes(pip.read_bytes())
    for name in ("var/lib/edgekit", "etc/edgekit"):
        (board.root / name).mkdir(parents=True)
    return board.root / "usr/lib/edgekit/setup.sh"


@pytest.mark.slow
def test_setup_makes_user_and_environment_from_carried_wheels(tmp_path: Path) -> None:
    board = Board(tmp_path, _programs())
    ran = board.run(str(_set_up(board)), EDGEKIT_PYTHON=sys.executable)
    assert ran.returncode == 0, ran
    assert "useradd --system" in board.calls
    assert f"chown -R edgekit:edgekit {board.root}/var/lib/edgekit" in board.calls
    assert "systemctl --no-block start edgekit-agent.service" in board.calls
    program = board.root / "opt/edgekit/venv/bin/edgekit"
    said = subprocess.run([program], env={}, capture_output=True, text=True, check=True)
    assert said.stdout == "edgekit, very small\n"
    assert not (board.root / "opt/edgekit/wheels").exists()
    assert "edgekit-update.timer" not in board.calls


@pytest.mark.slow
def test_setup_starts_the_timer_of_updates_where_there_is_one(tmp_path: Path) -> None:
    board = Board(tmp_path, _programs())
    script = str(_set_up(board))
    timer = board.root / "etc/systemd/system/edgekit-update.timer"
    timer.parent.mkdir(parents=True, exist_ok=True)
    timer.touch()
    ran = board.run(script, EDGEKIT_PYTHON=sys.executable)
    assert ran.returncode == 0, ran
    assert "systemctl --no-block start edgekit-update.timer" in board.calls


@pytest.mark.slow
def test_setup_leaves_no_environment_when_a_wheel_is_missing(tmp_path: Path) -> None:
    board = Board(tmp_path, _programs())
    ran = board.run(str(_set_up(board, is_whole=False)), EDGEKIT_PYTHON=sys.executable)
    assert ran.returncode != 0
    assert "there-is-no-such-wheel" in ran.stderr
    assert not os.path.lexists(board.root / "opt/edgekit/venv")
    assert "systemctl" not in board.calls


@pytest.mark.parametrize("needs_network", [True, False])
def test_setup_unit_is_understood_by_systemd(tmp_path: Path, *, needs_network: bool) -> None:
    text = setup_unit_text(needs_network=needs_network).replace("/usr/lib/edgekit/setup.sh", "/bin/true")
    (tmp_path / "edgekit-setup.service").write_text(text)
    try:
        ran = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", tmp_path / "edgekit-setup.service"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("needs systemd-analyze")
    assert [line for line in ran.stderr.splitlines() if "edgekit-setup" in line] == []
