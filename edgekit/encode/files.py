"""Files in, files out: what `edgekit pack` and `edgekit unpack` do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec

from edgekit.core.errors import DataError, IntegrityError, UsageError
from edgekit.core.storage import atomic_writer, write_bytes
from edgekit.encode.container import MAGIC, read_front
from edgekit.encode.packing import pack
from edgekit.encode.pieces import MAX_SIZE_BYTES, FileKind
from edgekit.encode.unpacking import FileSink, unpack

EXTENSION = ".ekz"
_EXTENSIONS: dict[FileKind, str] = {"tflite": ".tflite", "onnx": ".onnx", "unknown": ".bin"}

Report = Callable[[int], None]


class PackedFile(msgspec.Struct, frozen=True, kw_only=True):
    """What packing or unpacking wrote.

    Args:
        path: The file written.
        kind: What the original is.
        original_bytes: Size of the original.
        ekz_bytes: Size of the packed file.
        num_tensors: Tensors (and parts of large ones) that were coded as such; the others are with the rest.
    """

    path: Path
    kind: FileKind
    original_bytes: int
    ekz_bytes: int
    num_tensors: int


def pack_file(path: Path, out: Path | None = None, *, progress: Report | None = None) -> PackedFile:
    """Pack a file.

    Args:
        path: Any file; .tflite and .onnx become smallest.
        out: Target; None for the same name with .ekz.
        progress: Told the number of original bytes that are done.

    Raises:
        UsageError: No such file, packed already, too large, or the target is the file itself.
        OutputError: The target cannot be written.
    """
    content = _read(path)
    if content[: len(MAGIC)] == MAGIC:
        raise UsageError(f"{path} is an .ekz file already", hint="edgekit inspect tells what is in it")
    target = _target(path, out or path.with_suffix(EXTENSION))
    packed = pack(content, progress=progress)
    write_bytes(target, packed.content)
    return PackedFile(
        path=target,
        kind=packed.kind,
        original_bytes=len(content),
        ekz_bytes=len(packed.content),
        num_tensors=packed.num_coded,
    )


def unpack_file(
    path: Path, out: Path | None = None, *, progress: Report | None = None, max_bytes: int = MAX_SIZE_BYTES
) -> PackedFile:
    """Unpack an .ekz file, piece by piece. The target appears when its SHA-256 is the original's.

    Args:
        path: The .ekz file.
        out: Target; None for the same name with the original's kind of extension.
        progress: Told the number of original bytes that are done.
        max_bytes: Largest original that is wanted.

    Raises:
        UsageError: No such file, or the target is the file itself.
        IntegrityError: Anything is not as it was packed; the message says where.
        OutputError: The target cannot be written.
    """
    target = _target(path, out or path.with_suffix(extension_of(path)))
    size_bytes = path.stat().st_size
    with naming(path), path.open("rb") as stream, atomic_writer(target) as writer:
        header, pieces = unpack(stream, size_bytes, FileSink(writer), progress=progress, max_bytes=max_bytes)
    return PackedFile(
        path=target,
        kind=header.kind,
        original_bytes=header.size_bytes,
        ekz_bytes=size_bytes,
        num_tensors=len(pieces),
    )


def read_kind(path: Path) -> FileKind:
    """What the original of an .ekz file is, from its header. Raises as `unpack_file`."""
    _check_file(path)
    with naming(path), path.open("rb") as stream:
        return read_front(stream, path.stat().st_size).kind


def extension_of(path: Path) -> str:
    """The original's extension: ".tflite", ".onnx", or ".bin" where it is no model. Raises as `unpack_file`."""
    return _EXTENSIONS[read_kind(path)]


def is_packed(path: Path) -> bool:
    """Whether a file begins as .ekz files do."""
    _check_file(path)
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


@contextlib.contextmanager
def naming(path: Path) -> Generator[None, None, None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except IntegrityError as error:
        raise IntegrityError(f"{path}: {error.message}", hint=error.hint) from error


def _read(path: Path) -> bytes:
    _check_file(path)
    if path.stat().st_size > MAX_SIZE_BYTES:
        raise UsageError(f"{path} has {path.stat().st_size:,} bytes, at most {MAX_SIZE_BYTES:,}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"no file at {path}", hint="name a .tflite, .onnx or .ekz file")


def _target(source: Path, target: Path) -> Path:
    if target.resolve() == source.resolve():
        raise UsageError(f"{target} would overwrite itself", hint="name another file with --out")
    return target
