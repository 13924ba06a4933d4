"""Files in an ext4 file system inside an image, through debugfs: looked at, read, made. Nothing is mounted.

debugfs(8) ends with 0 whatever happens, so everything it says on stderr counts as a failure, and everything that was
written is read back.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.errors import DataError, IntegrityError
from edgekit.deploy.image.programs import complaints, run_program

Kind: TypeAlias = Literal["regular", "directory", "symlink", "other"]

_LINK = "card"
_SCRIPT = "script"
_STAT = re.compile(r"^Inode: (\d+)\s+Type: (\w+)\s+Mode:\s+([0-7]+)", re.MULTILINE)
_OWNER = re.compile(r"^User:\s+(\d+)\s+Group:\s+(\d+)", re.MULTILINE)
_TARGET = re.compile(r'^Fast link dest: "(.*)"$', re.MULTILINE)
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_.@+=/-]*")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What lies at a path.

    Args:
        kind: Of file.
        mode: Permission bits.
        owner: (user, group) numbers.
        target: Of a symbolic link; None where it is none.
    """

    kind: Kind
    mode: int
    owner: tuple[int, int]
    target: str | None = None


class RootFiles:
    """One ext4 file system.

    Args:
        image_path: The image.
        offset: Of the file system in it.
    """

    def __init__(self, image_path: Path, offset: int) -> None:
        self._image_path = image_path.absolute()
        self._offset = offset

    def look(self, paths: Sequence[str]) -> dict[str, Entry]:
        """What lies at paths; those where nothing lies are left out. Links are not followed at the end of a path."""
        with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
            # One command each, and a mark between them: what is missing says nothing on stdout.
            script = [line for path in paths for line in (f"stat {quoted(path)}", "pwd")]
            said = self._run(script, Path(name)).stdout.decode(errors="replace")
        answers = re.split(r"^debugfs: pwd$", said, flags=re.MULTILINE)
        found = {path: _parse_stat(answer) for path, answer in zip(paths, answers, strict=False)}
        entries = {path: entry for path, entry in found.items() if entry is not None}
        long_links = [path for path, entry in entries.items() if entry.kind == "symlink" and entry.target is None]
        for path, content in self._dump(long_links).items():
            target = content.rstrip(b"\0").decode(errors="replace")
            entries[path] = msgspec.structs.replace(entries[path], target=target)
        return entries

    def read(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Content of the regular files among paths; the others are left out.

        Raises:
            IntegrityError: One cannot be read.
        """
        return self._dump([path for path, entry in self.look(paths).items() if entry.kind == "regular"])

    def _dump(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Content of files, and of links that are too long for an inode."""
        with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
            folder = Path(name)
            files = {path: folder / f"out{index}" for index, path in enumerate(paths)}
            ran = self._run([f"dump {quoted(path)} {file.name}" for path, file in files.items()], folder)
            lost = [path for path, file in files.items() if not file.is_file()]
            if lost:
                raise IntegrityError(f"cannot read {lost[0]} in the image: {' / '.join(complaints(ran))}")
            return {path: file.read_bytes() for path, file in files.items()}

    def change(self, commands: Iterable[str], folder: Path, date_unix_s: int) -> None:
        """Run debugfs commands that write.

        Args:
            commands: One a line; relative paths in them begin in `folder`.
            folder: Holds the files to be written.
            date_unix_s: The date of everything that is made.

        Raises:
            DataError: One of them failed; the file system is not to be used any more.
        """
        ran = self._run([f"set_current_time @{date_unix_s}", *commands], folder, "-w", date_unix_s=date_unix_s)
        if complaints(ran):
            raise DataError(f"debugfs: {complaints(ran)[0]}", hint="--debug shows the whole trace")

    def check(self) -> list[str]:
        """What e2fsck has against the file system; it changes nothing. Empty: it is clean."""
        with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
            ran = run_program("e2fsck", ["-f", "-n", self._link(Path(name))], Path(name))
        if ran.returncode == 0:
            return []
        lines = ran.stdout.decode(errors="replace").splitlines() + ran.stderr.decode(errors="replace").splitlines()
        return [line for line in lines if line.strip() and not line.startswith(("Pass ", "e2fsck 1."))]

    def _run(
        self, script: Sequence[str], folder: Path, *options: str, date_unix_s: int | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        # Script and image by names of our own: no path of the user's is ever taken for an option or an offset.
        (folder / _SCRIPT).write_text("".join(f"{line}\n" for line in script), encoding="utf-8")
        return run_program("debugfs", [*options, "-f", _SCRIPT, self._link(folder)], folder, date_unix_s)

    def _link(self, folder: Path) -> str:
        link = folder / _LINK
        if not link.is_symlink():
            link.symlink_to(self._image_path)
        return f"{_LINK}?offset={self._offset}"


def quoted(path: str) -> str:
    """A path as debugfs takes it.

    Raises:
        DataError: It holds what debugfs, or a shell on the board, would take for something else.
    """
    if not _PLAIN_PATH.fullmatch(path):
        raise DataError(f"path {path!r} holds characters that are not used in images")
    return f'"{path}"'


def _parse_stat(answer: str) -> Entry | None:
    stat, owner, target = _STAT.search(answer), _OWNER.search(answer), _TARGET.search(answer)
    if stat is None or owner is None:
        return None
    kinds: dict[str, Kind] = {"regular": "regular", "directory": "directory", "symlink": "symlink"}
    return Entry(
        kind=kinds.get(stat[2], "other"),
        mode=int(stat[3], 8) & 0o7777,
        owner=(int(owner[1]), int(owner[2])),
        target=None if target is None else target[1],
    )
