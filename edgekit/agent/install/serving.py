"""How installer and agent find each other: a note of the agent's about what it serves, and SIGHUP.

The note lies beside the releases (`agent.json`), and is as good as the lock on `agent.lock` that the agent holds while
it lives: a note without a holder is an old one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgekit.agent.install.disk import CURRENT, RELEASES

if TYPE_CHECKING:
    from edgekit.agent.install.installer import Activate

NOTE, HOLDER = "agent.json", "agent.lock"
HAND_OVER_S = 180.0
"""How long an agent may take to load a release that has just passed its trial. The old one serves meanwhile, and one
that hangs is ended by its watchdog long before; a busy board that needs 20 s to load in the trial needs its time."""

_LOOK_S = 0.05
_TELL_AGAIN_S = 5.0


class ServingNote(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says about itself.

    Args:
        pid: Its process.
        digest: Release that it serves; None while it loads the first one.
        num_loads: Rises whenever it has taken or refused a release.
        refused: Release that it would not take last; None for none.
        reason: Why.
    """

    pid: int
    digest: str | None = None
    num_loads: int = 0
    refused: str | None = None
    reason: str = ""


class ServingPost:
    """Where an agent says what it serves. What cannot be written is left out: serving is what counts.

    Args:
        state_dir: Folder with the releases.
    """

    def __init__(self, state_dir: Path) -> None:
        self._dir = state_dir
        self._note = ServingNote(pid=os.getpid())
        self._holder: int | None = None

    @property
    def digest(self) -> str | None:
        """The release that was taken last; None for none yet."""
        return self._note.digest

    def open(self) -> None:
        """Say that there is an agent."""
        try:
            descriptor = os.open(self._dir / HOLDER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another agent serves from this folder, and has said so
            os.close(descriptor)
            return
        self._holder = descriptor
        self._write(self._note)

    def took(self, digest: str) -> None:
        """Say that a release serves."""
        self._write(ServingNote(pid=os.getpid(), digest=digest, num_loads=self._note.num_loads + 1))

    def refused(self, digest: str | None, reason: str) -> None:
        """Say that a release may not serve, and that the one before goes on."""
        note = msgspec.structs.replace(self._note, num_loads=self._note.num_loads + 1, refused=digest, reason=reason)
        self._write(note)

    def close(self) -> None:
        """Say that there is none any more. Idempotent."""
        if self._holder is not None:
            with contextlib.suppress(OSError):
                (self._dir / NOTE).unlink(missing_ok=True)
            os.close(self._holder)
            self._holder = None

    def _write(self, note: ServingNote) -> None:
        self._note = note
        if self._holder is None:
            return
        path, beside = self._dir / NOTE, self._dir / f".{NOTE}.new"
        with contextlib.suppress(OSError):
            beside.write_bytes(msgspec.json.encode(note))
            beside.replace(path)


def find_agent(state_dir: Path) -> ServingNote | None:
    """The agent that serves from a folder; None when there is none."""
    try:
        descriptor = os.open(state_dir / HOLDER, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # somebody holds it, so somebody lives
        return _read_note(state_dir / NOTE)
    finally:
        os.close(descriptor)
    return None


def hand_over(state_dir: Path, timeout_s: float = HAND_OVER_S) -> Activate:
    """Make the function that tells the agent of a folder which release `current` names now.

    Args:
        state_dir: Folder with the releases.
        timeout_s: How long the agent may take.
    """

    def activate(digest: str | None) -> str:
        until_s = time.monotonic() + timeout_s
        before = _settled(state_dir, until_s)
        if before is None or before.digest == digest:
            return ""
        told_s = 0.0
        while time.monotonic() < until_s:
            note = find_agent(state_dir)
            if note is None or note.pid != before.pid:
                return "the agent ended while it loaded the release"
            if note.digest == digest:
                return ""
            if note.num_loads != before.num_loads:
                return note.reason or "it says nothing more"
            if time.monotonic() - told_s > _TELL_AGAIN_S:  # one that is loading remembers it; one that lost it does not
                told_s = time.monotonic()
                try:
                    os.kill(before.pid, signal.SIGHUP)
                except PermissionError:
                    return f"process {before.pid} is of another user, and cannot be told"
                except ProcessLookupError:
                    continue  # seen in the next turn
            time.sleep(_LOOK_S)
        return f"it did not take it within {timeout_s:g} s"

    return activate


def install_dir(bundle: Path) -> Path | None:
    """The folder with the releases, when a bundle's path is the `current` of one; None for any other bundle."""
    return bundle.parent if bundle.name == CURRENT and (bundle.parent / RELEASES).is_dir() else None


def released_path(bundle: Path) -> Path:
    """A bundle's path with `current` followed once: what it names must not change while it is loaded."""
    if install_dir(bundle) is None or not bundle.is_symlink():
        return bundle
    return bundle.parent / bundle.readlink()


def _settled(state_dir: Path, until_s: float) -> ServingNote | None:
    """The agent, once it has loaded its first release: which one that is, a signal could not change."""
    note = find_agent(state_dir)
    while note is not None and note.num_loads == 0 and time.monotonic() < until_s:
        time.sleep(_LOOK_S)
        note = find_agent(state_dir)
    return note


def _read_note(path: Path) -> ServingNote | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServingNote)
    except (OSError, msgspec.DecodeError):
        return None
