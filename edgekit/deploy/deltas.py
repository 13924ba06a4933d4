"""Deltas between two releases, made on the host: for each file the smallest way to it, and none that is not smaller."""

from __future__ import annotations

import bz2
import lzma
import tempfile
from pathlib import Path

import msgspec

from edgekit.bundle.check import NAMES
from edgekit.bundle.delta import MAGIC, Codec, DeltaHeader, Method, Part, Section, apply_delta
from edgekit.bundle.manifest import MODEL
from edgekit.bundle.reading import Bundle, open_bundle, read_file
from edgekit.core.errors import EdgekitError, MissingDependencyError
from edgekit.core.storage import write_bytes
from edgekit.encode.codec import EkzCodec


class DeltaReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an attempt to make a delta.

    Args:
        path: The delta; None when the full file is the smaller, which is then to be taken.
        delta_bytes: Of the delta, written or not.
        full_bytes: Of the full bundle, as one file.
        methods: How each file is made, by its name.
    """

    path: Path | None
    delta_bytes: int
    full_bytes: int
    methods: dict[str, Method]


def make_delta(base: Path, target: Path, out: Path) -> DeltaReport:
    """Make a delta from one release to another, and try it.

    Args:
        base: Bundle that boards have.
        target: Bundle that they are to have.
        out: `.ekd` file to write.

    Returns:
        What came of it. Nothing is written unless the delta is smaller than the full file, and makes it to the byte.

    Raises:
        UsageError, IntegrityError, DataError: A bundle cannot be read.
        MissingDependencyError: bsdiff4 is not installed.
        OutputError: The delta cannot be written.
    """
    old, new = open_bundle(base), open_bundle(target)
    chosen = [smallest_part(name, old, new) for name in NAMES]
    header = DeltaHeader(base=old.digest, target=new.digest, parts=tuple(part for part, _ in chosen))
    front = msgspec.json.encode(header)
    content = b"".join((MAGIC, len(front).to_bytes(4, "little"), front, *(payload for _, payload in chosen)))
    full_bytes = target.stat().st_size if target.is_file() else new.size_bytes
    report = DeltaReport(
        path=None,
        delta_bytes=len(content),
        full_bytes=full_bytes,
        methods={part.name: part.method for part, _ in chosen},
    )
    if len(content) >= full_bytes:
        return report
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        tried = Path(scratch) / "tried.ekd"
        tried.write_bytes(content)
        if apply_delta(tried, old, Path(scratch) / "made.ekb", EkzCodec()).digest != new.digest:
            return report
    write_bytes(out, content)
    return msgspec.structs.replace(report, path=out)


def smallest_part(name: str, old: Bundle, new: Bundle) -> tuple[Part, bytes]:
    """The smallest way to one file, and its bytes. Raises as `make_delta`."""
    before, after = read_file(old, name), read_file(new, name)
    if before == after:
        return Part(name=name, method="same"), b""
    ways = [_part(name, "full", (after,)), _part(name, "patch", _diff(before, after))]
    if name == MODEL:
        ways += _model_patch(before, after)
    return min(ways, key=lambda way: len(way[1]))


def _model_patch(before: bytes, after: bytes) -> list[tuple[Part, bytes]]:
    """A patch of the unpacked model, where packing what it makes gives the very same file."""
    codec, limit = EkzCodec(), 1 << 30
    try:
        model = codec.unpack(after, limit)
        if codec.pack(model) != after:
            return []
        return [_part(MODEL, "model_patch", _diff(codec.unpack(before, limit), model))]
    except EdgekitError:
        return []


def _diff(before: bytes, after: bytes) -> tuple[bytes, bytes, bytes]:
    """Control, differences, insertions."""
    try:
        import bsdiff4.core
    except ImportError as error:
        raise MissingDependencyError(
            "making a delta needs bsdiff4, which is not installed", hint="pip install edgekit[flash]"
        ) from error
    return bsdiff4.core.diff(before, after)


def _part(name: str, method: Method, sections: tuple[bytes, ...]) -> tuple[Part, bytes]:
    packed = [_compress(content) for content in sections]
    described = tuple(
        Section(codec=codec, packed_bytes=len(payload), size_bytes=len(content))
        for content, (codec, payload) in zip(sections, packed, strict=True)
    )
    return Part(name=name, method=method, sections=described), b"".join(payload for _, payload in packed)


def _compress(content: bytes) -> tuple[Codec, bytes]:
    """The smallest of three; preset 6 keeps what the board needs to read it under 16 MiB."""
    ways: list[tuple[Codec, bytes]] = [
        ("raw", content),
        ("bz2", bz2.compress(content)),
        ("xz", lzma.compress(content, preset=6 | lzma.PRESET_EXTREME)),
    ]
    return min(ways, key=lambda way: len(way[1]))
