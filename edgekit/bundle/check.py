"""Which bundles are accepted: pure rules over names, sizes, hashes and the manifest. No file is opened here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from edgekit.bundle.manifest import (
    GOLDEN,
    LABELS,
    LOGITS,
    MANIFEST,
    MANIFEST_VERSION,
    MODEL,
    GoldenEntry,
    Manifest,
    ModelEntry,
)
from edgekit.core.errors import IntegrityError

MIB = 1024 * 1024
MAX_FILE_BYTES = {MANIFEST: MIB, MODEL: 256 * MIB, LABELS: 4 * MIB, GOLDEN: 16 * MIB, LOGITS: 4 * MIB}
"""Every name that a bundle may hold, and the most bytes that are read of it."""

NAMES = tuple(MAX_FILE_BYTES)
"""In the order in which they stand in an `.ekb` file."""

MAX_MODEL_BYTES = 512 * MIB
MAX_CLASSES = 65_536
MAX_GOLDEN = 64
MAX_SIDE = 4096
MAX_RELEASE = 2**53 - 1
"""The largest integer that every JSON reader keeps."""

_HINT = "get the bundle again, or make it again with edgekit bundle"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_TEXT = 512
_MAX_ENTRIES = 64


def check_names(names: Sequence[str]) -> None:
    """Check that a bundle holds exactly the files that it should.

    Raises:
        IntegrityError: Names one that is not allowed, twice there, or missing.
    """
    for name in names[: len(NAMES) + 1]:
        if name not in MAX_FILE_BYTES:
            raise _refused(f"holds {_shown(name)}, allowed are only {', '.join(NAMES)}")
    if len(names) > len(NAMES) or len(set(names)) < len(names):
        raise _refused(f"holds {len(names)} files, expected each of {', '.join(NAMES)} once")
    missing = [name for name in NAMES if name not in names]
    if missing:
        raise _refused(f"lacks {', '.join(missing)}")


def check_size(name: str, size_bytes: int) -> None:
    """Check a file's size before any of it is read.

    Raises:
        IntegrityError: Above the cap for its name.
    """
    if not 0 <= size_bytes <= MAX_FILE_BYTES[name]:
        raise _refused(f"{name} has {size_bytes:,} bytes, at most {MAX_FILE_BYTES[name]:,} are read")


def parse_manifest(content: bytes) -> Manifest:
    """Read `manifest.json` and check all that it says.

    Raises:
        IntegrityError: No JSON, unknown, missing or mistyped keys, a newer version, or something impossible.
    """
    check_size(MANIFEST, len(content))
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(f"{MANIFEST} cannot be read: {_newer(content) or error}") from error
    if not 1 <= manifest.version <= MANIFEST_VERSION:
        raise _refused(f"{MANIFEST} has format version {manifest.version}, this edgekit reads {MANIFEST_VERSION}")
    _check_no_key_twice(content)
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Check what a manifest says, apart from the files.

    Raises:
        IntegrityError: Says what is impossible.
    """
    _require(
        bool(_NAME.fullmatch(manifest.name)), f"name is {_shown(manifest.name)}, expected lower case a-z 0-9 . _ -"
    )
    _require(0 <= manifest.release <= MAX_RELEASE, f"release is {manifest.release}, expected 0 or more")
    created = manifest.created_unix_s
    _require(created is None or 0 <= created <= MAX_RELEASE, f"created_unix_s is {created}")
    _require(len(manifest.made_by) <= _MAX_TEXT, "made_by is too long")
    _check_compatible(manifest)
    _check_files(manifest)
    _check_model(manifest.model)
    _check_golden(manifest.golden, manifest.model)
    for key in ("ram_mib", "disk_mib"):
        _require(0 <= getattr(manifest.needs, key) <= MAX_RELEASE, f"needs.{key} is {getattr(manifest.needs, key)}")
    for key in ("p90_ms", "rss_mib"):
        bar = getattr(manifest.budgets, key)
        _require(bar is None or (math.isfinite(bar) and bar > 0), f"budgets.{key} is {bar}, expected more than 0")
    _check_sizes_agree(manifest)
    _check_baseline(manifest)


def check_content(manifest: Manifest, name: str, size_bytes: int, sha256: str) -> None:
    """Check a file against its entry.

    Args:
        manifest: A checked one.
        name: Of the file.
        size_bytes: That it has.
        sha256: That it has.

    Raises:
        IntegrityError: Another size or hash.
    """
    entry = manifest.file(name)
    if size_bytes != entry.size_bytes:
        raise _refused(f"{name} has {size_bytes:,} bytes, its manifest says {entry.size_bytes:,}")
    if sha256 != entry.sha256:
        raise _refused(f"{name} has SHA-256 {sha256[:16]}..., its manifest says {entry.sha256[:16]}...")


def check_labels(content: bytes, num_classes: int) -> tuple[str, ...]:
    """Read `labels.txt`: one class name a line, in output order.

    Raises:
        IntegrityError: No UTF-8, an empty name, a control character, or another number of names.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"{LABELS} is no UTF-8 text: {error}") from error
    labels = tuple(text.removesuffix("\n").split("\n"))
    if len(labels) != num_classes:
        raise _refused(f"{LABELS} names {len(labels)} classes, the model has {num_classes}")
    for label in labels:
        if not label.strip() or any(map(_is_control, label)):
            raise _refused(f"{LABELS} has {_shown(label)}, which is no name")
    return labels


def plain_labels(labels: Sequence[str], num_classes: int) -> tuple[str, ...]:
    r"""Class names as `labels.txt` can hold them: on one line, without control characters, none empty.

    Args:
        labels: Of the model's card; empty when it has none.
        num_classes: Of the model's answer.

    >>> plain_labels(("tea\ncup", ""), 2), plain_labels((), 1)
    (('tea cup', 'class 1'), ('class 0',))
    """
    names = labels or [""] * num_classes
    spaced = ("".join(" " if _is_control(character) else character for character in name).strip() for name in names)
    return tuple(name or f"class {index}" for index, name in enumerate(spaced))


def _is_control(character: str) -> bool:
    return ord(character) < 32 or ord(character) == 127


def _check_compatible(manifest: Manifest) -> None:
    compatible = manifest.compatible
    _require(0 < len(compatible.boards) <= _MAX_ENTRIES, "compatible.boards is empty or too long")
    _require(len(compatible.architectures) <= _MAX_ENTRIES, "compatible.architectures is too long")
    for word in (*compatible.boards, *compatible.architectures):
        _require(bool(_WORD.fullmatch(word)), f"compatible names {_shown(word)}")
    _require(min(compatible.python_at_least) >= 0, "compatible.python_at_least is negative")
    _require(0 < len(compatible.runtimes) <= _MAX_ENTRIES, "compatible.runtimes is empty or too long")
    for need in compatible.runtimes:
        _require(bool(_VERSION.fullmatch(need.at_least)), f"compatible.runtimes has version {_shown(need.at_least)}")


def _check_files(manifest: Manifest) -> None:
    names = [entry.name for entry in manifest.files]
    check_names([MANIFEST, *names])
    _require(names == sorted(names), "files are not sorted by name")
    for entry in manifest.files:
        check_size(entry.name, entry.size_bytes)
        _require(bool(_SHA256.fullmatch(entry.sha256)), f"{entry.name} has SHA-256 {_shown(entry.sha256)}")


def _check_model(model: ModelEntry) -> None:
    _require(bool(_SHA256.fullmatch(model.sha256)), f"model has SHA-256 {_shown(model.sha256)}")
    _require(0 < model.size_bytes <= MAX_MODEL_BYTES, f"model has {model.size_bytes:,} bytes")
    _require(0 < min(model.input_size) <= max(model.input_size) <= MAX_SIDE, f"model.input_size is {model.input_size}")
    _require(model.num_channels in (1, 3), f"model.num_channels is {model.num_channels}, expected 1 or 3")
    _require(0 < model.num_classes <= MAX_CLASSES, f"model.num_classes is {model.num_classes}")
    _require(max(len(model.name), len(model.scheme)) <= _MAX_TEXT, "model.name or model.scheme is too long")


def _check_golden(golden: GoldenEntry, model: ModelEntry) -> None:
    _require(0 < len(golden.top1) <= MAX_GOLDEN, f"{len(golden.top1)} golden pictures, expected 1 to {MAX_GOLDEN}")
    _require(
        all(0 <= index < model.num_classes for index in golden.top1),
        f"golden.top1 is {list(golden.top1)}, expected 0 to {model.num_classes - 1}",
    )
    is_usable = math.isfinite(golden.tolerance) and golden.tolerance >= 0
    _require(is_usable, f"golden.tolerance is {golden.tolerance}, expected 0 or more")
    _require(max(len(golden.source), len(golden.judge)) <= _MAX_TEXT, "golden.source or golden.judge is too long")


def _check_sizes_agree(manifest: Manifest) -> None:
    """The arrays' sizes follow from the shapes, so that no reader has to guess."""
    model, num = manifest.model, len(manifest.golden.top1)
    height, width = model.input_size
    expected = {GOLDEN: num * height * width * model.num_channels, LOGITS: num * model.num_classes * 4}
    for name, size_bytes in expected.items():
        declared = manifest.file(name).size_bytes
        _require(declared == size_bytes, f"{name} has {declared:,} bytes, {num} pictures make {size_bytes:,}")


def _check_baseline(manifest: Manifest) -> None:
    baseline = manifest.baseline
    if baseline is None:
        return
    _require(len(baseline) == manifest.model.num_classes, f"baseline has {len(baseline)} classes")
    is_distribution = all(0 <= share <= 1 for share in baseline) and abs(math.fsum(baseline) - 1) < 1e-6
    _require(is_distribution, "baseline is no distribution: shares of 0 to 1 that add up to 1")


def _check_no_key_twice(content: bytes) -> None:
    """Two readers may keep different ones of two equal keys; so there must not be any."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise _refused(f"{MANIFEST} has a key twice")
        return dict(pairs)

    json.loads(content, object_pairs_hook=once)


def _newer(content: bytes) -> str:
    """What to say instead of "unknown field" when the manifest is of a later version; "" when it is not."""

    class Versioned(msgspec.Struct):
        version: int = 0

    try:
        version = msgspec.json.decode(content, type=Versioned).version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f"format version {version}, this edgekit reads {MANIFEST_VERSION}" if version > MANIFEST_VERSION else ""


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise _refused(f"{MANIFEST}: {what}")


def _refused(what: str) -> IntegrityError:
    return IntegrityError(what, hint=_HINT)


def _shown(text: str) -> str:
    """Foreign text for a message: quoted, escaped, short."""
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")
