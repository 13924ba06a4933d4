"""The systemd unit, judged by systemd's own tools, without systemd running."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit.agent.lifecycle.watchdog import MAX_DETECTION_S

MAX_EXPOSURE = 2.0
NEWER_KEYS = ("RestartSteps", "RestartMaxDelaySec")
"""systemd 254; older ones say that they do not know them, and go on."""


@pytest.fixture
def unit(repository: Path) -> Path:
    return repository / "devices" / "edgekit-agent.service"


@pytest.fixture
def settings(unit: Path) -> dict[str, list[str]]:
    """Every key of [Service] with its values, in order."""
    found: dict[str, list[str]] = {}
    section = unit.read_text(encoding="utf-8").split("[Service]")[1].split("[Install]")[0]
    for line in section.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=120)


def exposure(path: Path) -> float:
    """What `systemd-analyze security` says, 0 (nothing) to 10 (everything)."""
    done = analyze("security", "--offline=true", "--no-pager", path)
    match = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert match is not None, done.stdout + done.stderr
    return float(match.group(1))


def test_unit_is_exposed_no_more_than_it_may(unit: Path, tmp_path: Path) -> None:
    assert exposure(unit) <= MAX_EXPOSURE
    open_unit = tmp_path / "open.service"
    kept = ("[", "Type", "ExecStart", "User", "Group", "WantedBy", "Description")
    open_unit.write_text("".join(line for line in unit.read_text().splitlines(keepends=True) if line.startswith(kept)))
    assert exposure(open_unit) > 8  # what the hardening is worth, and that the judge judges


def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    runnable = tmp_path / unit.name
    text = unit.read_text(encoding="utf-8")
    runnable.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))

    done = analyze("verify", "--man=no", runnable)
    complaints = [line for line in done.stderr.splitlines() if not any(f"'{key}'" in line for key in NEWER_KEYS)]
    assert complaints == []
    assert done.returncode == 0


def test_update_is_confined_and_leaves_the_agents_memory_alone(repository: Path, tmp_path: Path) -> None:
    service = repository / "devices" / "edgekit-update.service"
    text = service.read_text(encoding="utf-8")
    assert exposure(service) <= MAX_EXPOSURE
    # it runs as the agent's user: systemd would remove the shared memory that the camera's pictures come through
    assert "\nRemoveIPC=no\n" in text
    for unit in (service, service.with_suffix(".timer")):
        content = unit.read_text(encoding="utf-8")
        (tmp_path / unit.name).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", content, flags=re.MULTILINE))
    done = analyze("verify", "--man=no", tmp_path / "edgekit-update.timer")
    assert (done.returncode, done.stderr) == (0, "")


def test_wedge_of_the_whole_process_is_found_in_time(settings: dict[str, list[str]]) -> None:
    assert settings["Type"] == ["notify"]
    assert float(settings["WatchdogSec"][0]) < MAX_DETECTION_S
    assert settings["Restart"] == ["always"]


def test_restarts_never_end_and_back_off(unit: Path, settings: dict[str, list[str]]) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text(encoding="utf-8"))

    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    assert float(settings["RestartSec"][0]) < float(settings["RestartMaxDelaySec"][0])


def test_camera_and_network_stay_usable(settings: dict[str, list[str]]) -> None:
    assert settings["PrivateDevices"] == ["no"]
    assert "char-video4linux rw" in settings["DeviceAllow"]
    assert "video" in settings["SupplementaryGroups"][0].split()
    assert {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"} <= set(settings["RestrictAddressFamilies"][0].split())


def test_only_its_own_folders_can_be_written(settings: dict[str, list[str]]) -> None:
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["StateDirectory"] == settings["RuntimeDirectory"] == ["edgekit"]
    assert "ReadWritePaths" not in settings
    assert settings["CapabilityBoundingSet"] == [""]
    assert settings["User"] == ["edgekit"]
