"""Write beside, then rename: no reader ever sees half a file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import IO

from edgekit.core.errors import OutputError


@contextlib.contextmanager
def atomic_writer(path: Path) -> Generator[IO[bytes], None, None]:
    """Open a temporary file beside `path`; on success sync it and rename it to `path`, otherwise remove it.

    Raises:
        OutputError: The disk is full, the folder is missing or not writable. Nothing is left behind.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
            temporary = Path(stream.name)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}",
            hint="check free space and permissions, or choose another folder with --out",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically. Raises `OutputError` as `atomic_writer` does."""
    with atomic_writer(path) as stream:
        stream.write(content)


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 text file atomically. Raises `OutputError` as `atomic_writer` does."""
    write_bytes(path, content.encode())
