"""What a process did to a folder, from strace's log: every call in its order, and a lint for what must not be.

Rules, each broken by a real mistake that a power cut turns into a lost or torn file:
  - a file (or folder) is renamed only when all that was written to it is synced;
  - success is told only when nothing is left to sync: no file with unsynced bytes, no folder with unsynced names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import msgspec

WRITES = frozenset(("write", "pwrite64", "writev", "pwritev", "ftruncate"))
SYNCS = frozenset(("fsync", "fdatasync"))
NAMES = frozenset(
    ("rename", "renameat", "renameat2", "symlink", "symlinkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir")
)
TRACED = (*sorted(WRITES | SYNCS | NAMES), "openat")

_CALL = re.compile(r"^(?:\d+\s+)?(\w+)\((.*)\)\s+=\s+(-?\d+|\?)(.*)$")
_CUT = re.compile(r"^(?:\d+\s+)?(\w+)\((.*)$")
_DESCRIPTOR = re.compile(r"^(?:\d+|AT_FDCWD)<([^>]*)>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One system call.

    Args:
        name: Of it.
        number: The how-manieth of this name, from 1; what strace's `when=` counts.
        paths: Absolute paths that it names, or that its first descriptor stands for.
        arguments: As strace shows them.
        is_done: Whether it succeeded.
    """

    name: str
    number: int
    paths: tuple[str, ...]
    arguments: str
    is_done: bool


def read_log(path: Path) -> list[Call]:
    """The calls in a log of one process (`strace -y`)."""
    counts: dict[str, int] = {}
    calls: list[Call] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        whole = _CALL.match(line)
        matched = whole or _CUT.match(line)
        if matched is None:
            continue
        name, arguments = matched[1], matched[2]
        counts[name] = counts.get(name, 0) + 1
        is_done = whole is not None and whole[3] not in ("-1", "?")
        calls.append(
            Call(name=name, number=counts[name], paths=_paths(name, arguments), arguments=arguments, is_done=is_done)
        )
    return calls


def touching(calls: Iterable[Call], folder: Path) -> list[Call]:
    """Those of the calls that change something in a folder, or sync it."""
    root = str(folder)
    inside = [call for call in calls if any(path == root or path.startswith(f"{root}/") for path in call.paths)]
    return [call for call in inside if call.name != "openat" or "O_CREAT" in call.arguments]


def lint(calls: Sequence[Call], folder: Path, success: str, existing: Iterable[str] = ()) -> list[str]:
    """What must not be: one line each.

    Args:
        calls: Of one process.
        folder: Whose files matter; what lies in its `trial/` and its locks do not.
        success: Words in the `write` that tells success (to a pipe or a terminal).
        existing: Paths that were there before.
    """
    state = _Unsynced(str(folder), set(existing))
    for call in calls:
        if call.name == "write" and success in call.arguments and not state.inside(call):
            state.found += [f"success is told before {path} is synced" for path in state.unsynced()]
        elif call.is_done and state.inside(call):
            state.take(call)
    return state.found


class _Unsynced:
    """Files and folders with something that is only in memory.

    Args:
        root: Folder that matters.
        known: Paths that are there.
    """

    def __init__(self, root: str, known: set[str]) -> None:
        self._root = root
        self._known = known
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self.found: list[str] = []

    def inside(self, call: Call) -> list[str]:
        """Paths of a call that matter."""
        return [path for path in call.paths if self._matters(path)]

    def unsynced(self) -> list[str]:
        """All of them."""
        return sorted(self._files | self._folders)

    def take(self, call: Call) -> None:
        """Note what a call did."""
        paths = self.inside(call)
        if call.name in WRITES:
            self._files.add(paths[0])
        elif call.name in SYNCS:
            self._files.discard(paths[0])
            self._folders.discard(paths[0])
        elif call.name.startswith("rename"):
            self._rename(paths[0], paths[-1])
        elif call.name.startswith(("unlink", "rmdir")):
            self._forget(paths[-1])
        elif paths[-1] not in self._known and (call.name in NAMES or "O_CREAT" in call.arguments):
            self._known.add(paths[-1])
            self._folders.add(_parent(paths[-1]))

    def _rename(self, source: str, target: str) -> None:
        moved = [path for path in self.unsynced() if path == source or path.startswith(f"{source}/")]
        self.found += [f"{source} is renamed before {path} is synced" for path in moved]
        self._forget(source)
        self._known.add(target)
        self._folders.add(_parent(target))

    def _forget(self, path: str) -> None:
        for gone in (self._files, self._folders, self._known):
            gone.difference_update([one for one in gone if one == path or one.startswith(f"{path}/")])
        self._folders.add(_parent(path))

    def _matters(self, path: str) -> bool:
        inner = PurePosixPath(path)
        if path != self._root and not path.startswith(f"{self._root}/"):
            return False
        return not path.startswith(f"{self._root}/trial") and inner.suffix != ".lock"


def _paths(name: str, arguments: str) -> tuple[str, ...]:
    """Absolute paths that a call names; what is relative to a descriptor's folder is joined to it."""
    descriptor = _DESCRIPTOR.match(arguments)
    folder = "" if descriptor is None else descriptor[1].removesuffix(" (deleted)")
    if name in WRITES or name in SYNCS:
        return (folder,) if folder.startswith("/") else ()
    quoted = [one.encode("latin-1", "replace").decode("unicode_escape") for one in _QUOTED.findall(arguments)]
    joined = [one if one.startswith("/") or descriptor is None else f"{folder}/{one}" for one in quoted]
    return tuple(one for one in joined if one.startswith("/"))


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)
