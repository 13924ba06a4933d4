"""What goes into the root file system, by part: program, bundle, agent, first boot. Texts and paths, no decisions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from edgekit.deploy.image.first_boot import (
    DEFAULT_USER,
    KEYS,
    RUN_ONCE,
    FirstBoot,
    connection_text,
    first_run_settings,
)
from edgekit.deploy.image.plan import MakeFolder, MakeLink, WriteFile
from edgekit.deploy.ssh.layout import UNIT, UPDATE_SERVICE, UPDATE_TIMER, Layout, unit_text
from edgekit.deploy.wheelhouse import Wheel

Item: TypeAlias = MakeFolder | WriteFile | MakeLink

SETUP_UNIT = "edgekit-setup.service"
SUDO = "/etc/sudoers.d/020_edgekit"
_LAYOUT = Layout()
_LIBRARY = "/usr/lib/edgekit"
_UNITS = "/etc/systemd/system"
_WANTED = f"{_UNITS}/multi-user.target.wants"
_CONNECTION = "/etc/NetworkManager/system-connections/edgekit-wifi.nmconnection"
_SCRIPTS_DIR = Path(__file__).resolve().parent


def file_item(path: str, content: bytes, mode: int = 0o644, *, is_secret: bool = False) -> WriteFile:
    """A file."""
    return WriteFile(path=path, mode=mode, content=content, is_secret=is_secret)


def folder_item(path: str, mode: int = 0o755) -> MakeFolder:
    """A folder."""
    return MakeFolder(path=path, mode=mode)


def program_items(requirements: Iterable[str], own: tuple[str, bytes], wheels: tuple[Wheel, ...] | None) -> list[Item]:
    """The agent's program: edgekit's own wheel, what it requires, and the service that installs it on the first boot.

    Args:
        requirements: As pip wants them.
        own: Name and content of edgekit's wheel.
        wheels: Of the requirements; None: the board asks its index.
    """
    programs = _LAYOUT.programs
    carried = "index" if wheels is None else "wheels"
    return [
        folder_item(f"{programs}/wheels"),
        file_item(f"{programs}/carried", f"{carried}\n".encode()),
        file_item(f"{programs}/requirements.txt", "".join(f"{line}\n" for line in requirements).encode()),
        file_item(f"{programs}/wheels/{own[0]}", own[1]),
        *(file_item(f"{programs}/wheels/{wheel.path.name}", wheel.path.read_bytes()) for wheel in wheels or ()),
        file_item(f"{_LIBRARY}/setup.sh", _script("setup.sh"), 0o755),
        file_item(f"{_UNITS}/{SETUP_UNIT}", setup_unit_text(needs_network=wheels is None).encode()),
        MakeLink(path=f"{_WANTED}/{SETUP_UNIT}", target=f"{_UNITS}/{SETUP_UNIT}"),
    ]


def bundle_items(digest: str, files: Iterable[tuple[str, bytes]]) -> list[Item]:
    """The bundle as the installer on the board keeps it: `releases/<digest>/`, and the link `current` to it."""
    state = _LAYOUT.state
    release = f"{state}/releases/{digest}"
    return [
        folder_item(state, 0o750),
        folder_item(f"{state}/releases"),
        folder_item(release),
        *(file_item(f"{release}/{name}", content) for name, content in sorted(files)),
        MakeLink(path=f"{state}/current", target=f"releases/{digest}"),
    ]


def agent_items(config: str, *, is_secret: bool) -> list[Item]:
    """Settings and service of the agent. Settings may hold a broker's password: only root and the agent read them."""
    return [
        folder_item(_LAYOUT.settings),
        file_item(_LAYOUT.config, config.encode(), 0o640, is_secret=is_secret),
        file_item(_LAYOUT.unit, unit_text(_LAYOUT).encode()),
        file_item(f"{_LAYOUT.unit}.d/edgekit-setup.conf", _condition_text().encode()),
        MakeLink(path=f"{_WANTED}/{UNIT}", target=_LAYOUT.unit),
    ]


def update_items(root_json: str | None, *, is_wanted: bool) -> list[Item]:
    """The units that look for updates, enabled when that is wanted, and whose updates are believed.

    Args:
        root_json: Root of trust to pin; None for none.
        is_wanted: Whether the settings say where updates are.
    """
    items: list[Item] = []
    if root_json is not None:
        pinned = Path(_LAYOUT.root_json)
        items += [folder_item(str(pinned.parent), 0o700), file_item(str(pinned), root_json.encode())]
    if is_wanted:
        for name in (UPDATE_SERVICE, UPDATE_TIMER):
            items.append(file_item(_LAYOUT.unit_file(name), unit_text(_LAYOUT, name).encode()))
        # On the timer: a service that a condition holds back does not count as one that ran, and would never come.
        items.append(file_item(f"{_LAYOUT.unit_file(UPDATE_TIMER)}.d/edgekit-setup.conf", _condition_text().encode()))
        wanted = f"{_UNITS}/timers.target.wants/{UPDATE_TIMER}"
        items.append(MakeLink(path=wanted, target=_LAYOUT.unit_file(UPDATE_TIMER)))
    return items


def first_boot_items(first_boot: FirstBoot) -> list[Item]:
    """What the first boot needs to know, and does once. All of it lies on the root partition, which keeps modes."""
    items: list[Item] = []
    if first_boot.runs_once:
        script = f"#!/bin/sh\n{first_run_settings(first_boot)}".encode() + _script("firstrun.sh")
        items.append(file_item(RUN_ONCE, script, 0o755))
    if first_boot.ssh_keys:
        user = first_boot.user or DEFAULT_USER
        items.append(file_item(KEYS, "".join(f"{line}\n" for line in first_boot.ssh_keys).encode()))
        items.append(file_item("/etc/ssh/sshd_config.d/10-edgekit.conf", b"PasswordAuthentication no\n"))
        items.append(file_item(SUDO, f"{user} ALL=(ALL) NOPASSWD: ALL\n".encode(), 0o440))
    if first_boot.wifi is not None:
        # NetworkManager reads no connection that others may read.
        items.append(file_item(_CONNECTION, connection_text(first_boot.wifi).encode(), 0o600, is_secret=True))
    return items


def setup_unit_text(*, needs_network: bool) -> str:
    """The unit that makes the agent's environment on the first boot, and again until it is there."""
    network = "Wants=network-online.target\nAfter=network-online.target\n" if needs_network else ""
    return f"""\
# Written by edgekit image. Done once: the agent's environment is there afterwards.
[Unit]
Description=edgekit: makes the agent's environment
ConditionPathExists=!{_LAYOUT.edgekit}
Before={UNIT}
After=local-fs.target
{network}StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={_LIBRARY}/setup.sh
# No network yet, or no clock: again, until it is done.
Restart=on-failure
RestartSec=30
TimeoutStartSec=3600

[Install]
WantedBy=multi-user.target
"""


def _condition_text() -> str:
    return (
        "# Written by edgekit image: until edgekit-setup.service has made the environment, there is nothing to start.\n"
        f"[Unit]\nConditionPathExists={_LAYOUT.edgekit}\n"
    )


def _script(name: str) -> bytes:
    return (_SCRIPTS_DIR / name).read_bytes()
