"""Bundles on disk: opened, measured, hashed and checked before anything is believed of them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import IO

import msgspec

from edgekit.bundle.archive import EXTENSION, Place, encode_archive, read_places
from edgekit.bundle.check import NAMES, check_content, check_labels, check_names, check_size, parse_manifest
from edgekit.bundle.golden import GoldenSet, read_golden
from edgekit.bundle.manifest import GOLDEN, LABELS, LOGITS, MANIFEST, MODEL, Manifest
from edgekit.core.errors import DataError, IntegrityError, UsageError
from edgekit.core.storage import staged_folder, write_bytes

_CHUNK_BYTES = 1 << 20
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # opening a pipe must not wait for a writer


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was checked, apart from what only a runtime can tell.

    Args:
        path: The `.ekb` file, or the folder.
        digest: SHA-256 of the manifest, which names the content of both forms.
        size_bytes: Of all files together.
        manifest: What it says.
        labels: Class names in output order.
        golden: Pictures, and what the model has to answer.
    """

    path: Path
    digest: str
    size_bytes: int
    manifest: Manifest
    labels: tuple[str, ...]
    golden: GoldenSet


def is_bundle(path: Path) -> bool:
    """Whether a path is meant to be a bundle: an `.ekb` file, or a folder with a manifest."""
    return path.suffix.lower() == EXTENSION if not path.is_dir() else (path / MANIFEST).is_file()


def open_bundle(path: Path) -> Bundle:
    """Read and check a bundle: names, sizes, hashes, manifest, labels, golden answers. The model is hashed, not kept.

    Args:
        path: `.ekb` file, or folder with the same files.

    Raises:
        UsageError: Nothing there.
        IntegrityError: Anything is not as it should be; the message names path and reason.
        DataError: It cannot be read.
    """
    with _naming(path), _opened(path) as files:
        content = files.read(MANIFEST)
        manifest = parse_manifest(content)
        for entry in manifest.files:
            files.check(manifest, entry.name)
        labels = check_labels(files.read(LABELS), manifest.model.num_classes)
        golden = read_golden(manifest, labels, files.read(GOLDEN), files.read(LOGITS))
    return Bundle(
        path=path,
        digest=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content) + sum(entry.size_bytes for entry in manifest.files),
        manifest=manifest,
        labels=labels,
        golden=golden,
    )


def read_manifest(path: Path) -> Manifest:
    """Read and check a bundle's manifest alone; no other content is looked at. Raises as `open_bundle`."""
    with _naming(path), _opened(path) as files:
        return parse_manifest(files.read(MANIFEST))


def read_file(bundle: Bundle, name: str) -> bytes:
    """The content of one of a checked bundle's files, whole.

    Raises:
        UsageError, IntegrityError, DataError: As `open_bundle`, when the bundle has changed meanwhile.
    """
    with _naming(bundle.path), _opened(bundle.path) as files:
        content = files.read(name)
        digest = hashlib.sha256(content).hexdigest()
        if name != MANIFEST:
            check_content(bundle.manifest, name, len(content), digest)
        elif digest != bundle.digest:
            raise IntegrityError(f"{MANIFEST} has changed since it was checked", hint="get the bundle again")
    return content


@contextlib.contextmanager
def model_stream(bundle: Bundle) -> Generator[tuple[IO[bytes], int], None, None]:
    """Open `model.ekz`: a stream at its first byte (offsets in it are the whole file's), and its size.

    Raises:
        UsageError, IntegrityError, DataError: As `open_bundle`, when the bundle has changed meanwhile.
    """
    with contextlib.ExitStack() as stack:
        with _naming(bundle.path):
            files = stack.enter_context(_opened(bundle.path))
            stream, size_bytes = stack.enter_context(files.open(MODEL))
            check_content(bundle.manifest, MODEL, size_bytes, bundle.manifest.file(MODEL).sha256)
        yield stream, size_bytes  # what fails from here on is not the bundle's fault alone


def write_bundle(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a bundle: an `.ekb` file by its extension, otherwise a folder.

    Args:
        path: Target.
        contents: Every file by its name, the manifest among them.

    Raises:
        IntegrityError: A file is missing, too many, or too large.
        OutputError: It cannot be written.
    """
    if path.suffix.lower() == EXTENSION:
        write_bytes(path, encode_archive(contents))
        return
    check_names(list(contents))
    with staged_folder(path, last=MANIFEST) as staging:
        for name, content in contents.items():
            check_size(name, len(content))
            write_bytes(staging / name, content)


class _Files:
    """The files of an open bundle, whatever its form.

    Args:
        open_file: Opens one: a stream at its first byte, and its size.
        crc32: Checksum of each that the archive states; empty for a folder.
    """

    def __init__(
        self,
        open_file: Callable[[str], contextlib.AbstractContextManager[tuple[IO[bytes], int]]],
        crc32: Mapping[str, int],
    ) -> None:
        self.open = open_file
        self._crc32 = crc32

    def read(self, name: str) -> bytes:
        """A file's content."""
        with self.open(name) as (stream, size_bytes):
            check_size(name, size_bytes)
            content = stream.read(size_bytes)
        if len(content) < size_bytes:
            raise IntegrityError(f"{name} ends at byte {len(content):,}, expected {size_bytes:,}", hint="get it again")
        self._check_crc32(name, zlib.crc32(content))
        return content

    def check(self, manifest: Manifest, name: str) -> None:
        """Hash a file in parts, and check it against the manifest."""
        digest, crc32, num_read = hashlib.sha256(), 0, 0
        with self.open(name) as (stream, size_bytes):
            check_size(name, size_bytes)
            while part := stream.read(min(_CHUNK_BYTES, size_bytes - num_read)):
                digest.update(part)
                crc32 = zlib.crc32(part, crc32)
                num_read += len(part)
        check_content(manifest, name, num_read, digest.hexdigest())
        self._check_crc32(name, crc32)

    def _check_crc32(self, name: str, crc32: int) -> None:
        """Zip's checksum says less than the hashes, but it is the only one that stands beside the manifest."""
        stated = self._crc32.get(name, crc32)
        if stated != crc32:
            raise IntegrityError(f"{name} has CRC-32 {crc32:08x}, the archive says {stated:08x}", hint="get it again")


@contextlib.contextmanager
def _naming(path: Path) -> Generator[None, None, None]:
    """Put a bundle's path before what is wrong with it."""
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(f"no bundle at {path}", hint="edgekit bundle RUN --for BOARD makes one") from error
    except OSError as error:
        raise DataError(f"cannot read bundle {path}: {error.strerror or error}") from error
    except IntegrityError as error:
        raise IntegrityError(f"{path}: {error.message}", hint=error.hint) from error


def _opened(path: Path) -> contextlib.AbstractContextManager[_Files]:
    return _open_folder(path) if path.is_dir() else _open_archive(path)


@contextlib.contextmanager
def _open_archive(path: Path) -> Generator[_Files, None, None]:
    with _regular(path.name, os.open(path, _FLAGS)) as (stream, size_bytes):
        places = read_places(stream, size_bytes)

        @contextlib.contextmanager
        def open_file(name: str) -> Generator[tuple[IO[bytes], int], None, None]:
            place: Place = places[name]
            stream.seek(place.offset)
            yield stream, place.size_bytes

        yield _Files(open_file, {name: place.crc32 for name, place in places.items()})


@contextlib.contextmanager
def _open_folder(path: Path) -> Generator[_Files, None, None]:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                found.append(entry.name)
                if len(found) > len(NAMES):  # no need to list a folder of a million
                    break
        check_names(found)

        @contextlib.contextmanager
        def open_file(name: str) -> Generator[tuple[IO[bytes], int], None, None]:
            with _regular(name, _open_unlinked(name, folder)) as opened:
                yield opened

        yield _Files(open_file, {})
    finally:
        os.close(folder)


def _open_unlinked(name: str, folder: int) -> int:
    """Open a file of a folder, but no symbolic link.

    Raises:
        IntegrityError: It is one.
    """
    try:
        return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise IntegrityError(f"{name} is a link, expected a regular file") from error
        raise


@contextlib.contextmanager
def _regular(name: str, descriptor: int) -> Generator[tuple[IO[bytes], int], None, None]:
    """A stream on an open descriptor, and its size.

    Raises:
        IntegrityError: A device, a pipe, or anything else that is no regular file.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise IntegrityError(f"{name} is no regular file ({stat.filemode(status.st_mode)})")
    with os.fdopen(descriptor, "rb") as stream:
        yield stream, status.st_size
