"""Start qemu-system-aarch64 and talk to its monitor (QMP, one JSON document a line over a Unix socket)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from emulated_device.rootfs import BuildError

PROGRAM = "qemu-system-aarch64"
SNAPSHOT = "ready"
HARDWARE = ("-M", "virt", "-smp", "2", "-m", "1024")
"""What a snapshot was made on, it is restored on."""


def start_qemu(folder: Path, port: int, *, cpu: str, from_snapshot: bool) -> int:
    """Start the emulator in the background and return its pid.

    Args:
        folder: Has `vmlinuz`, `initrd.img` and `disk.qcow2`; receives `console.log` and the monitor's socket.
        port: On 127.0.0.1, forwarded to the guest's sshd. The guest reaches nothing outside.
        cpu: Processor to emulate.
        from_snapshot: Go on from the saved state instead of booting.

    Raises:
        BuildError: There is no such emulator, or it does not start (the disk is in use, no such snapshot).
    """
    if shutil.which(PROGRAM) is None:
        raise BuildError(f"no {PROGRAM}: apt-get install qemu-system-arm qemu-utils ipxe-qemu")
    pid_path = folder / "qemu.pid"
    words = [
        PROGRAM, "-daemonize", "-pidfile", str(pid_path),
        "-cpu", cpu, *HARDWARE, "-accel", "tcg,thread=multi,tb-size=512",
        "-display", "none", "-no-reboot", "-monitor", "none", "-serial", f"file:{folder / 'console.log'}",
        "-qmp", f"unix:{monitor_path(folder)},server=on,wait=off",
        "-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd.img"), "-append",
        "console=ttyAMA0 root=/dev/vda rw quiet systemd.show_status=0 random.trust_cpu=on mitigations=off audit=0",
        "-drive", f"file={folder / 'disk.qcow2'},if=none,id=d0,format=qcow2,cache=unsafe",
        "-device", "virtio-blk-pci,drive=d0",
        "-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=n0,romfile=", "-device", "virtio-rng-pci",
        *(["-loadvm", SNAPSHOT] if from_snapshot else []),
    ]  # fmt: skip
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{PROGRAM}: exit {done.returncode}: {done.stderr.strip()[-800:]}")
    pid = int(pid_path.read_text("ascii"))
    lower_priority(pid)
    return pid


def monitor_path(folder: Path) -> Path:
    """Socket of the monitor."""
    return folder / "monitor.sock"


def lower_priority(pid: int) -> None:
    """Let everything else go first: $EDGEKIT_EMULATED_NICE, 10 when it is not set.

    Where the kernel groups processes by session (autogroup), only the niceness of the group counts.
    """
    niceness = int(os.environ.get("EDGEKIT_EMULATED_NICE", "10"))
    try:
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness), encoding="ascii")
    except OSError:
        return  # slower for others, not wrong


def ask_monitor(folder: Path, command: str, deadline_s: float = 120.0) -> str:
    """Give a command of qemu's human monitor ("savevm NAME", "quit") and return its answer.

    Raises:
        BuildError: The monitor did not answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(deadline_s)
        try:
            connection.connect(str(monitor_path(folder)))
            stream = connection.makefile("rw", encoding="utf-8")
            stream.readline()  # the greeting
            for order in (
                {"execute": "qmp_capabilities"},
                {"execute": "human-monitor-command", "arguments": {"command-line": command}},
            ):
                stream.write(json.dumps(order) + "\n")
                stream.flush()
                answer = json.loads(stream.readline() or "{}")
                while "event" in answer:
                    answer = json.loads(stream.readline() or "{}")
        except OSError as error:
            raise BuildError(f"qemu's monitor does not answer: {error}") from error
    return str(answer.get("return", ""))


def stop_qemu(pid: int) -> None:
    """End the emulator like pulling the plug, and wait until it is gone."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    end = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    if is_alive(pid):
        os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether this is a running emulator of ours (not a zombie, and not another process with a reused pid)."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return PROGRAM.encode() in words
