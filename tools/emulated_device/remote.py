"""Talk to an emulated board as to a real one: over ssh, with the working tree as a tar stream."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emulated_device.rootfs import REPOSITORY, WHEELS_DIR, BuildError

TREE_DIR = "/opt/edgekit"
"""Where the working tree lies on the board."""


@dataclass(frozen=True)
class Remote:
    """A board that listens for ssh.

    Args:
        host: Address.
        port: Of its sshd.
        key: Private key file.
        known_hosts: File of host keys; written on first contact.
        user: To be there.
    """

    host: str
    port: int
    key: Path
    known_hosts: Path
    user: str = "root"

    def ssh(self, command: str) -> list[str]:
        """The words that run a shell command there, for whoever wants the process itself."""
        options = (
            "BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=accept-new", "LogLevel=ERROR",
            "ConnectTimeout=20", f"UserKnownHostsFile={self.known_hosts}",
        )  # fmt: skip
        flags = [word for option in options for word in ("-o", option)]
        return ["ssh", "-i", str(self.key), "-p", str(self.port), *flags, f"{self.user}@{self.host}", command]

    def run(self, command: str, *, timeout_s: float = 120.0, check: bool = True) -> str:
        """Run a shell command there and return what it printed.

        Raises:
            BuildError: It failed (when `check`), or gave no answer in time.
        """
        words = self.ssh(command)
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"no answer within {timeout_s:g} s to: {command}") from error
        if check and done.returncode != 0:
            raise BuildError(f"exit {done.returncode}: {command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def wait(self, deadline_s: float) -> None:
        """Wait until it lets us in.

        Raises:
            BuildError: It did not within `deadline_s` seconds.
        """
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            words = self.ssh("true")
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.3)
        raise BuildError(f"{self.host}:{self.port} does not let us in within {deadline_s:g} s: see its console log")

    def copy_tree(self, folders: Sequence[str] = ("edgekit", "devices"), target: str = TREE_DIR) -> None:
        """Copy folders of the working tree there: what git tracks or would track, replacing what is there.

        The board's Python finds the package then, wherever a program is started.

        Raises:
            BuildError: git or tar failed.
        """
        listed = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "-co", "--exclude-standard", "--", *folders]
        names = subprocess.run(listed, capture_output=True, check=True).stdout.split(b"\0")
        present = [name for name in names if name and (REPOSITORY / name.decode()).is_file()]
        self._unpack(REPOSITORY, b"\0".join(present), target, replace=folders)
        self.run(f"echo {shlex.quote(target)} >{WHEELS_DIR}/edgekit-tree.pth")

    def copy(self, paths: Sequence[Path], target: str) -> None:
        """Copy files and folders into a folder there, under their own names.

        Raises:
            BuildError: tar failed.
        """
        for path in paths:
            self._unpack(path.resolve().parent, path.name.encode(), target)

    def _unpack(self, base: Path, names: bytes, target: str, replace: Sequence[str] = ()) -> None:
        place = shlex.quote(target)
        old = " ".join(shlex.quote(f"{target}/{name}") for name in replace)
        command = f"mkdir -p {place} && {f'rm -rf {old} && ' if old else ''}tar -C {place} --no-same-owner -xzf -"
        pack = ["tar", "-C", str(base), "--null", "-T", "-", "-czf", "-"]
        packed = subprocess.run(pack, input=names, capture_output=True, check=False)
        if packed.returncode != 0:
            raise BuildError(f"tar: {packed.stderr.decode()[-500:]}")
        done = subprocess.run(self.ssh(command), input=packed.stdout, capture_output=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"unpacking at {self.host}:{target}: {done.stderr.decode()[-500:]}")
