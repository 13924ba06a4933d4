"""Write beside, then rename: no reader ever sees half a file, or half a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
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
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise _output_error(path, error) from error
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


@contextlib.contextmanager
def staged_folder(target: Path, *, last: str) -> Generator[Path, None, None]:
    """Fill a temporary folder; on success its files appear in `target`, otherwise it is removed.

    A folder that is not there yet appears whole, by one rename. In one that is there, files of the same names are
    replaced: `last` is removed first and comes back last, so that whoever finds it finds the others to match.

    Args:
        target: The folder wanted; made, with its parents, if it does not exist.
        last: Name of the file that says the folder is complete.

    Yields:
        The temporary folder, on the same disk.

    Raises:
        OutputError: The disk is full, a part of the path is a file, or there is no permission. Raised before anything
            is yielded where that can be known.
    """
    is_new = not target.exists()
    made = [folder for folder in target.parents if not folder.exists()]
    staging: Path | None = None
    try:
        try:
            if not is_new and not target.is_dir():
                raise NotADirectoryError(f"{target} is a file, expected a folder")
            parent = target.parent if is_new else target
            parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(dir=parent, prefix=f".{target.name}."))
        except OSError as error:
            raise _output_error(target, error) from error
        yield staging
        try:
            _publish(staging, target, last, is_new=is_new)
        except OSError as error:
            raise _output_error(target, error) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        for folder in made if not target.exists() else ():
            with contextlib.suppress(OSError):  # another run may have put its results there meanwhile
                folder.rmdir()


def _publish(staging: Path, target: Path, last: str, *, is_new: bool) -> None:
    if is_new:
        staging.chmod(0o777 & ~_umask())
        staging.rename(target)
        return
    (target / last).unlink(missing_ok=True)
    for file in sorted(staging.iterdir(), key=lambda file: (file.name == last, file.name)):
        file.replace(target / file.name)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _output_error(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}",
        hint="check free space and permissions, or choose another folder with --out",
    )
