"""What native code writes to standard error by itself, kept off the user's screen while it only chats."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import IO

CHATTER = b"INFO:"
"""How LiteRT's lines begin that say what went well ("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.").
It has no setting for them."""

STDERR = 2

_lock = threading.Lock()


@contextmanager
def without_chatter() -> Generator[None, None, None]:
    """Hold standard error's descriptor back inside the block; afterwards pass on every line of it but the chatter.

    Warnings and errors come through, late but whole. Where the descriptor is closed, or nothing can be held (no room
    for a temporary file), the block runs as it is: a board without standard error still classifies.
    """
    with _lock:
        held, saved = _set_aside()
        try:
            yield
        finally:
            if held is not None:
                os.dup2(saved, STDERR)
                os.close(saved)
                _pass_on(held)


def _set_aside() -> tuple[IO[bytes] | None, int]:
    """Point the descriptor at a temporary file; that file and the descriptor's copy, or None and nothing done."""
    try:
        sys.stderr.flush()
        held = tempfile.TemporaryFile()  # noqa: SIM115 - it outlives this function
    except (OSError, ValueError, AttributeError):
        return None, -1
    try:
        saved = os.dup(STDERR)
    except OSError:
        held.close()
        return None, -1
    os.dup2(held.fileno(), STDERR)
    return held, saved


def _pass_on(held: IO[bytes]) -> None:
    with held:
        held.seek(0)
        kept = b"".join(line for line in held.read().splitlines(keepends=True) if not line.startswith(CHATTER))
    with suppress(OSError):  # a reader that went away must not turn a loaded model into an error
        os.write(STDERR, kept)
