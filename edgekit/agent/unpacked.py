"""The model of a bundle as a file that a runtime can map: unpacked once, used again while its hash is right."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO

from edgekit.bundle.manifest import ModelEntry
from edgekit.bundle.reading import Bundle, model_stream
from edgekit.core.errors import IntegrityError, OutputError
from edgekit.encode.files import naming
from edgekit.encode.unpacking import FileSink, unpack

_logger = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of a random name is made in it
_SUFFIXES = (".tflite", ".onnx")
_PARTIAL = ".edgekit-unpacking-"
_NUM_KEPT = 3
"""Unpacked models that stay: the one that serves, the one before it, and one on trial."""


@contextlib.contextmanager
def unpacked_model(bundle: Bundle, folder: Path, beat: Callable[[], None]) -> Generator[Path, None, None]:
    """Give the unpacked model a path while it is loaded.

    It lies in `folder`, under a name that says release and hash, and stays there for the next start; the oldest beyond
    three are removed. Where nothing can be written (read-only, full), it lies in memory instead.

    Args:
        bundle: A checked one.
        folder: Made when it does not exist.
        beat: Called now and then.

    Raises:
        IntegrityError: What was unpacked is not what the manifest says.
    """
    model, manifest = bundle.manifest.model, bundle.manifest
    path = folder / f"{manifest.name}-{manifest.release}-{model.sha256[:16]}.{model.format}"
    if _is_right(path, model, beat):
        with contextlib.suppress(OSError):
            os.utime(path)  # in use: not the first to be removed
        yield path
        return
    try:
        _unpack_beside(bundle, path, beat)
    except OSError as error:
        _logger.warning("cannot keep the unpacked model in %s (%s): it stays in memory", folder, error.strerror)
    else:
        _remove_oldest(folder, keep=path)
        yield path
        return
    with _in_memory(bundle, path.name, beat) as place:
        yield place


@contextlib.contextmanager
def _in_memory(bundle: Bundle, name: str, beat: Callable[[], None]) -> Generator[Path, None, None]:
    """Unpack into shared memory; what a runtime has mapped or read of a file outlives its name."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="edgekit-", dir=_memory_folder())
    except OSError as error:
        raise _no_room(error) from error
    with folder as place:
        try:
            _unpack_beside(bundle, Path(place) / name, beat)
        except OSError as error:
            raise _no_room(error) from error
        yield Path(place) / name


def _is_right(path: Path, model: ModelEntry, beat: Callable[[], None]) -> bool:
    """Whether a file is the unpacked model."""
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while num_bytes <= model.size_bytes and (part := stream.read(_CHUNK_BYTES)):
                digest.update(part)
                num_bytes += len(part)
                beat()
    except OSError:
        return False
    return num_bytes == model.size_bytes and digest.hexdigest() == model.sha256


def _unpack_beside(bundle: Bundle, path: Path, beat: Callable[[], None]) -> None:
    """Unpack, then rename. Nothing is synced: what a power cut leaves has a wrong hash and is unpacked again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w+b", dir=path.parent, prefix=_PARTIAL, delete=False) as stream:
        temporary = Path(stream.name)
        try:
            _unpack(bundle, stream, beat)
            stream.flush()
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _unpack(bundle: Bundle, sink: IO[bytes], beat: Callable[[], None]) -> None:
    """Write the model that `model.ekz` holds; the packer's own hash is compared with the manifest's."""
    model = bundle.manifest.model
    with model_stream(bundle) as (stream, size_bytes), naming(bundle.path):
        header, _ = unpack(stream, size_bytes, FileSink(sink), progress=lambda _: beat(), max_bytes=model.size_bytes)
    if header.size_bytes != model.size_bytes or header.sha256.hex() != model.sha256:
        raise IntegrityError(
            f"{bundle.path}: model.ekz holds a file of {header.size_bytes:,} bytes with SHA-256 "
            f"{header.sha256.hex()[:16]}..., the manifest says {model.size_bytes:,} and {model.sha256[:16]}...",
            hint="get the bundle again, or make it again with edgekit bundle",
        )


def _remove_oldest(folder: Path, keep: Path) -> None:
    """Leave only the newest unpacked models, and nothing of an unpacking that was interrupted."""
    with contextlib.suppress(OSError):
        for leftover in folder.glob(f"{_PARTIAL}*"):
            leftover.unlink(missing_ok=True)
        models = [file for file in folder.glob("*-*-*.*") if file.suffix in _SUFFIXES and file != keep]
        models.sort(key=lambda file: file.stat().st_mtime, reverse=True)
        for old in models[_NUM_KEPT - 1 :]:
            old.unlink(missing_ok=True)


def _no_room(error: OSError) -> OutputError:
    return OutputError(
        f"no place for the unpacked model, neither on disk nor in memory: {error.strerror or error}",
        hint="free some space, or name another state folder",
    )


def _memory_folder() -> str | None:
    """Where a file lies in memory; None for the usual place of temporary files."""
    return str(_SHARED_MEMORY) if os.access(_SHARED_MEMORY, os.W_OK) else None
