"""A board of namespaces: arm64 systemd as PID 1 through qemu-user, with its own network, processes and files.

Commands: build, up, run COMMAND, tree, cut, down, reset, status. See docs/emulated-device.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from emulated_device import namespaces, remote, rootfs
from emulated_device.places import Stopwatch, default_folder
from emulated_device.qemu import lower_priority
from emulated_device.rootfs import BuildError

_PLAN = rootfs.RootPlan(is_machine=False)
_INSIDE = Path(__file__).with_name("inside.sh")


@dataclass(frozen=True)
class Board:
    """One board in one folder.

    Args:
        folder: Where its files are kept; outside the repository.
        network: Its cable to the host.
        model: What its device tree calls it.
    """

    folder: Path
    network: namespaces.Network = field(default_factory=namespaces.Network)
    model: str = "Raspberry Pi 4 Model B Rev 1.4"

    @property
    def is_built(self) -> bool:
        """Whether its root is there and made by these very scripts."""
        stamp = self.folder / "built.txt"
        return stamp.is_file() and stamp.read_text("ascii") == rootfs.fingerprint(_PLAN)

    @property
    def is_up(self) -> bool:
        """Whether a process of it lives."""
        return self._cgroup.is_populated

    @property
    def obstacle(self) -> str | None:
        """Why it cannot be started here and now; None when it can."""
        if os.geteuid() != 0:
            return "namespaces need root"
        if shutil.which("qemu-aarch64-static") is None:
            return "no qemu-aarch64-static: apt-get install the packages of docs/emulated-device.md"
        if not self.is_built:
            return f"no current root in {self.folder}: tools/emulated_device/board build (a minute)"
        return "the board is up already: tools/emulated_device/board down" if self.is_up else None

    @property
    def remote(self) -> remote.Remote:
        """How to reach it while it is up."""
        return remote.Remote(self.network.board_address, 22, self.folder / "key", self.folder / "known_hosts")

    def build(self) -> dict[str, float]:
        """Make its root; returns the seconds.

        Raises:
            BuildError: Something is missing; the message says what.
        """
        self.down()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        took = Stopwatch()
        stamp = rootfs.fingerprint(_PLAN)
        rootfs.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "emulated", "-f", self.folder / "key")
        rootfs.build_root(_PLAN, self.folder / "root", (self.folder / "key.pub").read_text("utf-8"))
        took.lap("root_s")
        (self.folder / "built.txt").write_text(stamp, encoding="ascii")
        return took.laps

    def up(self) -> float:
        """Start it with the files it had, and return the seconds until ssh let us in.

        Raises:
            BuildError: It is not built, is up already, or does not come up.
        """
        if self.obstacle is not None:
            raise BuildError(self.obstacle)
        namespaces.register_arm64()
        self.network.connect()
        self._cgroup.path.mkdir(exist_ok=True)
        for name in ("upper", "work"):
            (self.folder / name).mkdir(exist_ok=True)
        began = time.monotonic()
        # The shell goes into the cgroup first; setsid lets it outlive us.
        enter = 'echo $$ >"$0" && exec "$@"'
        words = [
            "setsid", "--fork", "sh", "-c", enter, self._cgroup.path / "cgroup.procs",
            "ip", "netns", "exec", self.network.name, "unshare", "--pid", "--mount", "--uts", "--ipc", "--cgroup",
            "--fork", _INSIDE, self.folder, self.model, _PLAN.cpu, _PLAN.hostname,
        ]  # fmt: skip
        with (self.folder / "console.log").open("wb") as log:
            subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        self._lower_priority()
        self.remote.wait(120)
        return time.monotonic() - began

    def cut(self) -> None:
        """Cut its power: every process ends at once. What it wrote stays (the host's page cache survives)."""
        self._cgroup.kill()

    def down(self) -> None:
        """Cut its power and take network and cgroup away; its files stay."""
        self._cgroup.remove()
        self.network.remove()

    def reset(self) -> None:
        """Forget everything that it wrote.

        Raises:
            BuildError: It is up.
        """
        if self.is_up:
            raise BuildError("the board is up: tools/emulated_device/board down")
        for name in ("upper", "work"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @property
    def _cgroup(self) -> namespaces.Cgroup:
        return namespaces.find_cgroup(self.network.name)

    def _lower_priority(self) -> None:
        end = time.monotonic() + 5
        while not self.is_up and time.monotonic() < end:
            time.sleep(0.01)
        for pid in (self._cgroup.path / "cgroup.procs").read_text("ascii").split():
            lower_priority(int(pid))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; answers are JSON on stdout."""
    parser = argparse.ArgumentParser(prog="board", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, default=default_folder(), help="of the images [$EDGEKIT_EMULATED_DIR]")
    parser.add_argument("--model", default=Board.model, help="what its device tree calls it [%(default)s]")
    parser.add_argument("--network", default=namespaces.default_prefix(), help="first three numbers [%(default)s]")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make the root, when it is missing or old")
    build.add_argument("--force", action="store_true", help="make it anew in any case")
    commands.add_parser("up", help="start it, wait for ssh")
    execute = commands.add_parser("run", help="run a shell command on it")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    commands.add_parser("tree", help=f"copy the working tree to {remote.TREE_DIR}")
    commands.add_parser("cut", help="cut its power")
    commands.add_parser("down", help="cut its power, take its network away")
    commands.add_parser("reset", help="forget what it wrote")
    commands.add_parser("status", help="say whether it is built and up")
    options = parser.parse_args(arguments)
    try:
        network = namespaces.Network(prefix=options.network)
        return _obey(Board(options.dir.resolve() / "board", network, options.model), options)
    except BuildError as error:
        print(f"board: {error}", file=sys.stderr)
        return 3


def _obey(board: Board, options: argparse.Namespace) -> int:
    if options.command == "run":
        return subprocess.call(board.remote.ssh(" ".join(options.words)))
    answer: dict[str, object] = {}
    if options.command == "build" and (options.force or not board.is_built):
        answer.update(board.build())
    elif options.command == "up":
        answer["ready_s"] = round(board.up(), 1)
    elif options.command == "tree":
        board.remote.copy_tree()
    elif options.command in {"cut", "down", "reset"}:
        {"cut": board.cut, "down": board.down, "reset": board.reset}[options.command]()
    print(json.dumps({**answer, "folder": str(board.folder), "is_built": board.is_built, "is_up": board.is_up}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
