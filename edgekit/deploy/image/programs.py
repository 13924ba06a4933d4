"""The programs that know FAT and ext4: mtools and e2fsprogs, found, started with argument lists, and listened to."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.core.errors import DataError, MissingDependencyError

PACKAGES: Mapping[str, str] = {
    "mcopy": "mtools",
    "debugfs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
}
"""Debian packages by program."""

_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian has the programs of e2fsprogs; not on an ordinary user's PATH."""


def find_programs(names: Sequence[str]) -> dict[str, str]:
    """Paths of programs.

    Raises:
        MissingDependencyError: Some are missing; names all of them, and the Debian packages that have them.
    """
    path = os.pathsep.join(filter(None, (os.environ.get("PATH", ""), _SYSTEM_PATH)))
    found = {name: shutil.which(name, path=path) for name in names}
    missing = [name for name, place in found.items() if place is None]
    if missing:
        packages = sorted({PACKAGES[name] for name in missing})
        raise MissingDependencyError(
            f"missing programs: {', '.join(missing)} (Debian: {', '.join(packages)})",
            hint=f"apt-get install {' '.join(packages)}",
        )
    return {name: place for name, place in found.items() if place is not None}


def run_program(
    name: str, arguments: Sequence[str], folder: Path, date_unix_s: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run one to its end, in a folder, with nothing of the user's configuration.

    Args:
        name: "debugfs", ...
        arguments: What follows the name. Never a secret: others on this machine can read it.
        folder: Working directory; relative paths in `arguments` and in scripts begin there.
        date_unix_s: What the program shall take for now, where it asks; None for the clock.

    Raises:
        MissingDependencyError: It is missing.
        DataError: It was ended by a signal.
    """
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1"}
    if date_unix_s is not None:
        names = ("SOURCE_DATE_EPOCH", "E2FSPROGS_FAKE_TIME", "E2FSCK_TIME")
        environment |= dict.fromkeys(names, str(date_unix_s))
    ran = subprocess.run(
        [find_programs([name])[name], *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if ran.returncode < 0:
        raise DataError(f"{name} was ended by signal {-ran.returncode}", hint="is there memory and disk left?")
    return ran


def complaints(ran: subprocess.CompletedProcess[bytes]) -> list[str]:
    """What a program of e2fsprogs said on stderr, without the line with its version, which is always there."""
    lines = ran.stderr.decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith(("debugfs 1.", "debugfs 2."))]
