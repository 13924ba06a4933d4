"""One installation at a time: a lock that the system lets go of when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from edgekit.core.errors import EdgekitError, OutputError

LOCK = "install.lock"


class InstallBusyError(EdgekitError):
    """Another process installs on this board now. Exit code 3."""

    exit_code = 3


@contextlib.contextmanager
def install_lock(state_dir: Path) -> Generator[None, None, None]:
    """Hold the lock of a board's installations.

    Raises:
        InstallBusyError: Somebody else has it.
        OutputError: The state folder cannot be written.
    """
    path = state_dir / LOCK
    try:
        state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise OutputError(f"cannot use {path}: {error.strerror or error}", hint="give --state DIR") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InstallBusyError(
                f"another installation is under way in {state_dir}", hint="wait for its end, then try again"
            ) from error
        except OSError as error:
            raise OutputError(f"cannot lock {path}: {error.strerror or error}") from error
        yield
    finally:
        os.close(descriptor)
