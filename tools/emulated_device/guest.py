"""An emulated arm64 machine with a real /dev/video0: Debian's kernel with vivid, restored from a snapshot in seconds.

Commands: build, boot, run COMMAND, tree, fault NAME, stop, status. See docs/emulated-device.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from emulated_device import image, qemu, remote, rootfs
from emulated_device.places import Stopwatch, default_folder
from emulated_device.rootfs import BuildError

_PLAN = rootfs.RootPlan(is_machine=True)

_AWAIT_CAMERA = "( for _ in $(seq 300); do test -e /dev/video0 && exit 0; sleep 0.1; done; exit 1 )"
# "Start of exposure": the driver's time of a frame is when it was made.
_SOBER_TIME = "timestamp_source=1"

FAULTS = {
    # After a disconnect every read fails until the device has been closed by everybody; then it is back.
    "disconnect": "v4l2-ctl -d0 -c disconnect=1",
    # The next buffer is flagged as damaged; the stream goes on.
    "bad-buffer": "v4l2-ctl -d0 -c inject_v4l2_buf_flag_error=1",
    # The stream ends with an error; it must be closed and opened again.
    "fatal": "v4l2-ctl -d0 -c inject_fatal_streaming_error=1",
    # No buffer is ever filled: a read waits. `flow` ends it.
    "stall": "v4l2-ctl -d0 -c percentage_of_dropped_buffers=100",
    "flow": "v4l2-ctl -d0 -c percentage_of_dropped_buffers=0",
    # The device disappears, as when a cable is pulled (whoever has it open must close it), until `plug`.
    "unplug": (
        "v4l2-ctl -d0 -c disconnect=1; "
        "for _ in $(seq 200); do modprobe -r vivid 2>/dev/null && exit 0; sleep 0.05; done; exit 1"
    ),
    "plug": f"modprobe vivid && {_AWAIT_CAMERA} && v4l2-ctl -d0 -c {_SOBER_TIME}",
    # From now on the driver's time of a frame is that of its end, which vivid computes: about 30 ms in the future.
    "future": "v4l2-ctl -d0 -c timestamp_source=0",
    "present": f"v4l2-ctl -d0 -c {_SOBER_TIME}",
}

# What a snapshot should have in its memory already: a first import reads 100 MB from an emulated disk.
_WARM_UP = "python3 -c 'import cv2, numpy, msgspec, psutil; from ai_edge_litert.interpreter import Interpreter'"
PICTURES = {
    "red": "test_pattern=7,osd_text_mode=2",
    "green": "test_pattern=8,osd_text_mode=2",
    "blue": "test_pattern=9,osd_text_mode=2",
    # Bars with a running counter: no two frames are equal.
    "live": "test_pattern=0,osd_text_mode=0",
}


@dataclass(frozen=True)
class Guest:
    """One machine in one folder.

    Args:
        folder: Where its files are kept; outside the repository.
    """

    folder: Path

    @property
    def is_built(self) -> bool:
        """Whether the image is there and made by these very scripts."""
        stamp = self.folder / "built.txt"
        return stamp.is_file() and stamp.read_text("ascii") == _fingerprint()

    @property
    def obstacle(self) -> str | None:
        """Why it cannot be booted here and now; None when it can."""
        if shutil.which(qemu.PROGRAM) is None:
            return f"no {qemu.PROGRAM}: apt-get install the packages of docs/emulated-device.md"
        if not self.is_built:
            return f"no current image in {self.folder}: tools/emulated_device/guest build (two minutes, as root)"
        return None if self.pid is None else "the guest runs already: tools/emulated_device/guest stop"

    @property
    def remote(self) -> remote.Remote:
        """How to reach it while it runs.

        Raises:
            BuildError: It does not run.
        """
        state = self._state()
        if state is None:
            raise BuildError("the guest does not run: tools/emulated_device/guest boot")
        return self._reach(state["port"])

    @property
    def pid(self) -> int | None:
        """Of the running emulator; None when it does not run."""
        state = self._state()
        return None if state is None else state["pid"]

    def build(self) -> dict[str, float]:
        """Make everything: root, image, first boot, snapshot. Returns the seconds of each.

        Raises:
            BuildError: Something is missing; the message says what.
        """
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        took = Stopwatch()
        stamp = _fingerprint()
        rootfs.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "emulated", "-f", self.folder / "key")
        root = self.folder / "root"
        rootfs.build_root(_PLAN, root, (self.folder / "key.pub").read_text("utf-8"))
        took.lap("root_s")
        image.make_image(root, self.folder)
        shutil.rmtree(root)
        disk = self.folder / "disk.qcow2"
        rootfs.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "root.ext4", "-F", "raw", disk)
        took.lap("image_s")
        self._start(from_snapshot=False, deadline_s=600)
        took.lap("first_boot_s")
        self.remote.run(_WARM_UP, timeout_s=600)
        self.remote.run(f"{_AWAIT_CAMERA} && v4l2-ctl -d0 -c {_SOBER_TIME}")
        answer = qemu.ask_monitor(self.folder, f"savevm {qemu.SNAPSHOT}", deadline_s=300)
        self.stop()
        if answer.strip():
            raise BuildError(f"savevm: {answer.strip()}")
        took.lap("snapshot_s")
        (self.folder / "built.txt").write_text(stamp, encoding="ascii")
        return took.laps

    def boot(self) -> float:
        """Restore the snapshot and return the seconds until ssh let us in.

        Raises:
            BuildError: It is not built, runs already, or does not come up.
        """
        if self.obstacle is not None:
            raise BuildError(self.obstacle)
        seconds = self._start(from_snapshot=True, deadline_s=120)
        self.remote.run(f"date -s @{time.time():.3f}")  # it woke up in the hour of its snapshot
        return seconds

    def fault(self, name: str) -> None:
        """Make the camera misbehave; the names are in `FAULTS`.

        Raises:
            BuildError: It did not work.
        """
        self.remote.run(FAULTS[name])

    def show(self, picture: str) -> None:
        """Let the camera show one exact colour for ever, or something that changes; the names are in `PICTURES`.

        Raises:
            BuildError: It did not work.
        """
        self.remote.run(f"v4l2-ctl -d0 -c {PICTURES[picture]}")

    def stop(self) -> None:
        """End it, like pulling the plug. Nothing it wrote is kept: the next boot restores the snapshot."""
        state = self._state()
        if state is not None:
            qemu.stop_qemu(state["pid"])
        (self.folder / "state.json").unlink(missing_ok=True)

    def _start(self, *, from_snapshot: bool, deadline_s: float) -> float:
        port = _find_port()
        began = time.monotonic()
        pid = qemu.start_qemu(self.folder, port, cpu=_PLAN.cpu, from_snapshot=from_snapshot)
        (self.folder / "state.json").write_text(json.dumps({"pid": pid, "port": port}), encoding="utf-8")
        (self.folder / "known_hosts").unlink(missing_ok=True)
        self._reach(port).wait(deadline_s)
        return time.monotonic() - began

    def _reach(self, port: int) -> remote.Remote:
        return remote.Remote("127.0.0.1", port, self.folder / "key", self.folder / "known_hosts")

    def _state(self) -> dict[str, int] | None:
        try:
            state: dict[str, int] = json.loads((self.folder / "state.json").read_text("utf-8"))
        except FileNotFoundError:
            return None
        return state if qemu.is_alive(state["pid"]) else None


def _fingerprint() -> str:
    image_script = Path(__file__).with_name("image.py").read_text("utf-8")
    return rootfs.fingerprint(_PLAN, image_script, " ".join(qemu.HARDWARE), _WARM_UP, _SOBER_TIME)


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: list[str] | None = None) -> int:
    """Run one command; answers are JSON on stdout."""
    parser = argparse.ArgumentParser(prog="guest", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, default=default_folder(), help="of the images [$EDGEKIT_EMULATED_DIR]")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make the image, when it is missing or old")
    build.add_argument("--force", action="store_true", help="make it anew in any case")
    commands.add_parser("boot", help="restore the snapshot, wait for ssh")
    execute = commands.add_parser("run", help="run a shell command in it")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    commands.add_parser("tree", help=f"copy the working tree to {remote.TREE_DIR}")
    fault = commands.add_parser("fault", help="make the camera misbehave")
    fault.add_argument("name", choices=sorted(FAULTS))
    show = commands.add_parser("show", help="let the camera show a test picture")
    show.add_argument("picture", choices=sorted(PICTURES))
    commands.add_parser("stop", help="end it")
    commands.add_parser("status", help="say whether it is built and runs")
    options = parser.parse_args(arguments)
    try:
        return _obey(Guest(options.dir.resolve() / "guest"), options)
    except BuildError as error:
        print(f"guest: {error}", file=sys.stderr)
        return 3


def _obey(guest: Guest, options: argparse.Namespace) -> int:
    if options.command == "run":
        return subprocess.call(guest.remote.ssh(" ".join(options.words)))
    answer: dict[str, object] = {}
    if options.command == "build" and (options.force or not guest.is_built):
        answer.update(guest.build())
    elif options.command == "boot":
        answer["ready_s"] = round(guest.boot(), 1)
    elif options.command == "tree":
        guest.remote.copy_tree()
    elif options.command == "fault":
        guest.fault(options.name)
    elif options.command == "show":
        guest.show(options.picture)
    elif options.command == "stop":
        guest.stop()
    print(json.dumps({**answer, "folder": str(guest.folder), "is_built": guest.is_built, "pid": guest.pid}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
