"""What the host's kernel must give to a board of namespaces: arm64 programs, a cgroup, a network of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from emulated_device.rootfs import BuildError, run

_BINFMT_DIR = Path("/proc/sys/fs/binfmt_misc")
_BINFMT_RULE = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")


DEFAULT_PREFIX = "10.78.0"


def default_prefix() -> str:
    """$EDGEKIT_EMULATED_NETWORK, for a second board on the same host, or the usual one."""
    return os.environ.get("EDGEKIT_EMULATED_NETWORK") or DEFAULT_PREFIX


@dataclass(frozen=True)
class Network:
    """A cable between the host and a board.

    Args:
        prefix: First three numbers of the addresses: the host is .1, the board .2.
    """

    prefix: str = field(default_factory=default_prefix)

    @property
    def name(self) -> str:
        """Of the network namespace and the cgroup; its first letters name the interfaces."""
        return "edgekit-board" if self.prefix == DEFAULT_PREFIX else f"ekboard-{self.prefix.rpartition('.')[2]}"

    @property
    def host_address(self) -> str:
        """Of this machine, as the board reaches it."""
        return f"{self.prefix}.1"

    @property
    def board_address(self) -> str:
        """Of the board, as the host reaches it."""
        return f"{self.prefix}.2"

    def connect(self) -> None:
        """Make the namespace and the cable, when they are not there.

        Raises:
            BuildError: Not root, or this kernel has no network namespaces.
        """
        if Path("/run/netns", self.name).exists():
            return
        host, board = self.name[:12] + "-h", self.name[:12] + "-b"
        inside = ("ip", "-n", self.name)
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", host, "type", "veth", "peer", "name", board)
        run("ip", "link", "set", board, "netns", self.name)
        run("ip", "addr", "add", f"{self.host_address}/24", "dev", host)
        run("ip", "link", "set", host, "up")
        run(*inside, "addr", "add", f"{self.board_address}/24", "dev", board)
        run(*inside, "link", "set", board, "up")
        run(*inside, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Take it all away; the cable goes with the namespace."""
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)


@dataclass(frozen=True)
class Cgroup:
    """The group of a board's processes. Without one of its own, its systemd would make its slices in the host's."""

    path: Path

    @property
    def is_populated(self) -> bool:
        """Whether a process lives in it."""
        events = self.path / "cgroup.events"
        return events.is_file() and "populated 1" in events.read_text("ascii")

    def kill(self) -> None:
        """End all its processes at once, and wait until they are gone."""
        switch = self.path / "cgroup.kill"
        if not switch.exists():
            return
        switch.write_text("1", encoding="ascii")
        end = time.monotonic() + 10
        while self.is_populated and time.monotonic() < end:
            time.sleep(0.02)

    def remove(self) -> None:
        """End what lives in it and take the groups away, innermost first."""
        self.kill()
        if self.path.is_dir():
            for folder in sorted((path for path in self.path.rglob("*") if path.is_dir()), reverse=True):
                folder.rmdir()
            self.path.rmdir()


def find_cgroup(name: str) -> Cgroup:
    """A group of that name below the host's cgroup v2, wherever that is mounted.

    Raises:
        BuildError: It is mounted nowhere.
    """
    for line in Path("/proc/mounts").read_text("utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Cgroup(Path(place) / name)
    raise BuildError("no cgroup v2 is mounted here: systemd as a guest needs one")


def register_arm64() -> None:
    """Let the kernel start arm64 programs through qemu-user, when it does not yet.

    Raises:
        BuildError: Not root, no qemu-user-static, or no binfmt_misc.
    """
    if os.geteuid() != 0:
        raise BuildError("namespaces and binfmt_misc need root")
    if shutil.which("qemu-aarch64-static") is None or not _BINFMT_RULE.is_file():
        raise BuildError("no qemu-aarch64-static: apt-get install qemu-user-static")
    if not (_BINFMT_DIR / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", _BINFMT_DIR)
    if not (_BINFMT_DIR / "qemu-aarch64").exists():
        (_BINFMT_DIR / "register").write_bytes(_BINFMT_RULE.read_bytes().strip())
