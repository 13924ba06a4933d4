"""Card images as they are downloaded: plain, or packed as .xz, .gz or .zip. Told apart by content, not by name."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import IO, cast

from edgekit.core.errors import DataError, IntegrityError, OutputError, UsageError
from edgekit.core.progress import Progress

CHUNK_BYTES = 4 << 20
MIB = 1 << 20
_XZ, _GZ, _ZIP = b"\xfd7zXZ\x00", b"\x1f\x8b", b"PK\x03\x04"
_RESERVE_BYTES = 64 * MIB
"""Of a disk, left free while unpacking: a small file can become a very large image."""


@contextlib.contextmanager
def opened_image(path: Path, scratch_dir: Path, progress: Progress) -> Generator[Path, None, None]:
    """A plain image: the file itself, or what it holds, unpacked into a file that is removed afterwards.

    Args:
        path: The image.
        scratch_dir: Where to unpack; the disk that the result goes to.
        progress: Shows the unpacking.

    Raises:
        UsageError: No such file.
        IntegrityError: A damaged archive, or none with exactly one image.
        OutputError: There is no space to unpack it.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise UsageError(f"cannot read image {path}: {error.strerror or error}") from error
    if not head.startswith((_XZ, _GZ, _ZIP)):
        yield path
        return
    with _naming(path), tempfile.TemporaryDirectory(dir=_existing(scratch_dir), prefix=".edgekit-") as folder:
        plain_path = Path(folder) / "card.img"
        with _unpacked(path, head) as stream, plain_path.open("wb") as target:
            copy_sparse(stream, target, progress, label="unpack image")
        yield plain_path


def copy_sparse(source: IO[bytes], target: IO[bytes], progress: Progress, *, label: str) -> int:
    """Copy a stream; runs of zeros become holes, which take no disk.

    Returns:
        Bytes copied.

    Raises:
        OutputError: The disk would be full.
    """
    done, folder = 0, Path(target.name).parent
    progress.begin(label, _size_of(source) // MIB)
    while part := source.read(CHUNK_BYTES):
        if any(part):
            status = os.statvfs(folder)
            if status.f_bavail * status.f_frsize < _RESERVE_BYTES + len(part):
                raise OutputError(
                    f"no space in {folder} for the image: stopped after {done:,} bytes", hint="free some disk there"
                )
            target.seek(done)
            target.write(part)
        done += len(part)
        progress.advance(len(part) // MIB)
    target.truncate(done)
    target.flush()
    progress.end()
    return done


def _size_of(source: IO[bytes]) -> int:
    """Size of a plain file; 0 where nobody can tell before it is unpacked."""
    if isinstance(source, (lzma.LZMAFile, gzip.GzipFile, zipfile.ZipExtFile)):
        return 0
    return os.fstat(source.fileno()).st_size


@contextlib.contextmanager
def _unpacked(path: Path, head: bytes) -> Generator[IO[bytes], None, None]:
    if head.startswith(_XZ):
        with lzma.open(path) as stream:
            yield stream
    elif head.startswith(_GZ):
        with gzip.open(path) as stream:
            yield cast("IO[bytes]", stream)
    else:
        with zipfile.ZipFile(path) as archive:
            images = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".img")]
            if len(images) != 1:
                raise IntegrityError(f"{len(images)} images (.img) in the archive, expected one")
            with archive.open(images[0]) as stream:
                yield stream


@contextlib.contextmanager
def _naming(path: Path) -> Generator[None, None, None]:
    """Say whose archive is damaged. What fails while the plain image is used is not the archive's fault."""
    try:
        yield
    except (lzma.LZMAError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, EOFError) as error:
        raise IntegrityError(f"damaged archive {path}: {error}", hint="get the image again") from error
    except NotImplementedError as error:
        raise DataError(f"{path}: {error}", hint="unpack it yourself, and name the .img") from error


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), Path("/"))
