"""Patches make the new file to the byte, and hostile ones waste no more than they are allowed."""

from __future__ import annotations

import bz2
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import bsdiff4
import bsdiff4.core
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import plain_contents, with_manifest
from edgekit.bundle.check import MAX_FILE_BYTES, NAMES
from edgekit.bundle.delta import MAGIC, DeltaHeader, Part, Section, apply_delta, apply_patch, read_header
from edgekit.bundle.manifest import GOLDEN, LABELS, LOGITS, MANIFEST, MODEL
from edgekit.bundle.reading import Bundle, open_bundle, write_bundle
from edgekit.core.errors import IntegrityError, UsageError

BLOCKS = st.lists(st.binary(min_size=1, max_size=40), max_size=12)


class NoCodec:
    """No model is unpacked in these tests."""

    def unpack(self, packed: bytes, max_bytes: int) -> bytes:
        raise IntegrityError(f"not asked for: {len(packed)}, {max_bytes}")

    def pack(self, model: bytes) -> bytes:
        raise IntegrityError(f"not asked for: {len(model)}")


class Reversing:
    """Stands in for the packer: a packed model is the model backwards."""

    def unpack(self, packed: bytes, max_bytes: int) -> bytes:
        assert len(packed) <= max_bytes
        return packed[::-1]

    def pack(self, model: bytes) -> bytes:
        return model[::-1]


def triple(*numbers: int) -> bytes:
    return b"".join((abs(number) | (1 << 63 if number < 0 else 0)).to_bytes(8, "little") for number in numbers)


@pytest.fixture
def old(tmp_path: Path) -> Bundle:
    write_bundle(tmp_path / "old.ekb", plain_contents())
    return open_bundle(tmp_path / "old.ekb")


@pytest.fixture
def new(tmp_path: Path) -> Bundle:
    contents = {**plain_contents(), MODEL: b"another model, " * 9}
    changed = with_manifest(contents, lambda manifest: msgspec.structs.replace(manifest, release=5))
    write_bundle(tmp_path / "new.ekb", changed)
    return open_bundle(tmp_path / "new.ekb")


def file_of(bundle: Bundle, name: str) -> bytes:
    with zipfile.ZipFile(bundle.path) as archive:
        return archive.read(name)


def section(content: bytes, codec: str = "raw") -> tuple[Section, bytes]:
    packed = {"raw": bytes, "bz2": bz2.compress, "xz": lzma.compress}[codec](content)
    return Section(codec=codec, packed_bytes=len(packed), size_bytes=len(content)), packed  # type: ignore[arg-type]


def write_delta(
    path: Path,
    old: Bundle,
    new: Bundle,
    change: Callable[[dict[str, tuple[Part, bytes]]], None] = lambda _: None,
    *,
    tail: bytes = b"",
) -> Path:
    """A delta that sends manifest and model in full; a test changes what it wants."""
    parts: dict[str, tuple[Part, bytes]] = {}
    for name in NAMES:
        if name in (MANIFEST, MODEL):
            described, payload = section(file_of(new, name), "xz")
            parts[name] = (Part(name=name, method="full", sections=(described,)), payload)
        else:
            parts[name] = (Part(name=name, method="same"), b"")
    change(parts)
    header = DeltaHeader(base=old.digest, target=new.digest, parts=tuple(part for part, _ in parts.values()))
    front = msgspec.json.encode(header)
    payloads = b"".join(payload for _, payload in parts.values())
    path.write_bytes(MAGIC + len(front).to_bytes(4, "little") + front + payloads + tail)
    return path


@given(BLOCKS, BLOCKS, BLOCKS)
def test_patch_of_bsdiff_makes_the_new_file(shared: list[bytes], before: list[bytes], after: list[bytes]) -> None:
    one, two = b"".join([*shared, *before]), b"".join([*after, *shared])
    sections = bsdiff4.core.diff(one, two)
    assert apply_patch(one, sections, len(two)) == two
    assert bsdiff4.patch(one, bsdiff4.diff(one, two)) == two


@pytest.mark.parametrize(
    ("control", "added", "inserted", "size_bytes"),
    [
        (triple(4, 0, 0)[:-1], b"\0" * 4, b"", 4),
        (triple(-1, 0, 0), b"", b"", 4),
        (triple(0, -1, 0), b"", b"", 4),
        (triple(5, 0, 0), b"\0" * 5, b"", 4),
        (triple(11, 0, 0), b"\0" * 11, b"", 11),
        (triple(0, 0, -3) + triple(2, 0, 0), b"\0\0", b"", 2),
        (triple(0, 0, 9) + triple(2, 0, 0), b"\0\0", b"", 2),
        (triple(4, 0, 0), b"\0\0", b"", 4),
        (triple(0, 4, 0), b"", b"ab", 4),
        (triple(2, 0, 0), b"\0\0", b"", 4),
        (triple(2, 0, 0), b"\0\0", b"left over", 2),
        (triple(2**62, 2**62, 2**62), b"", b"", 4),
    ],
)
def test_patch_that_reaches_outside_is_refused(control: bytes, added: bytes, inserted: bytes, size_bytes: int) -> None:
    with pytest.raises(IntegrityError, match="the delta"):
        apply_patch(b"0123456789", (control, added, inserted), size_bytes)


@given(st.binary(max_size=96), st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 60))
def test_patch_of_any_bytes_makes_what_it_should_or_is_refused(
    control: bytes, added: bytes, inserted: bytes, size_bytes: int
) -> None:
    try:
        made = apply_patch(b"0123456789", (control, added, inserted), size_bytes)
    except IntegrityError:
        return
    assert len(made) == size_bytes


def test_delta_makes_the_new_release(tmp_path: Path, old: Bundle, new: Bundle) -> None:
    delta = write_delta(tmp_path / "x.ekd", old, new)
    made = apply_delta(delta, old, tmp_path / "made.ekb", NoCodec())
    assert made.digest == new.digest
    assert made.path.read_bytes() == new.path.read_bytes()


@pytest.mark.parametrize("method", ["patch", "model_patch"])
def test_model_may_come_as_a_patch(tmp_path: Path, old: Bundle, new: Bundle, method: str) -> None:
    before, after = file_of(old, MODEL), file_of(new, MODEL)
    if method == "model_patch":
        before, after = before[::-1], after[::-1]

    def patched(parts: dict[str, tuple[Part, bytes]]) -> None:
        made = [section(content, "bz2") for content in bsdiff4.core.diff(before, after)]
        described = tuple(one for one, _ in made)
        parts[MODEL] = (
            Part(name=MODEL, method=method, sections=described),  # type: ignore[arg-type]
            b"".join(payload for _, payload in made),
        )

    delta = write_delta(tmp_path / "x.ekd", old, new, patched)
    assert apply_delta(delta, old, tmp_path / "made.ekb", Reversing()).digest == new.digest


def test_delta_for_another_release_is_refused(tmp_path: Path, old: Bundle, new: Bundle) -> None:
    delta = write_delta(tmp_path / "x.ekd", old, new)
    with pytest.raises(UsageError, match="is for the release"):
        apply_delta(delta, new, tmp_path / "made.ekb", NoCodec())
    assert not (tmp_path / "made.ekb").exists()


@pytest.mark.parametrize("codec", ["bz2", "xz"])
def test_bomb_goes_off_in_a_box(tmp_path: Path, old: Bundle, new: Bundle, codec: str) -> None:
    def bomb(parts: dict[str, tuple[Part, bytes]]) -> None:
        described, payload = section(b"\0" * (64 << 20), codec)
        small = msgspec.structs.replace(described, size_bytes=len(file_of(new, MODEL)))
        parts[MODEL] = (Part(name=MODEL, method="full", sections=(small,)), payload)

    delta = write_delta(tmp_path / "x.ekd", old, new, bomb)
    with pytest.raises(IntegrityError, match="section"):
        apply_delta(delta, old, tmp_path / "made.ekb", NoCodec())


def test_section_that_wants_too_much_memory_is_refused(tmp_path: Path, old: Bundle, new: Bundle) -> None:
    def greedy(parts: dict[str, tuple[Part, bytes]]) -> None:
        content = file_of(new, MODEL)
        packed = lzma.compress(content, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 512 << 20}])
        described = Section(codec="xz", packed_bytes=len(packed), size_bytes=len(content))
        parts[MODEL] = (Part(name=MODEL, method="full", sections=(described,)), packed)

    delta = write_delta(tmp_path / "x.ekd", old, new, greedy)
    with pytest.raises(IntegrityError, match="damaged section"):
        apply_delta(delta, old, tmp_path / "made.ekb", NoCodec())


@pytest.mark.parametrize("name", [MANIFEST, MODEL])
def test_section_larger_than_its_file_may_be_is_refused(tmp_path: Path, old: Bundle, new: Bundle, name: str) -> None:
    def large(parts: dict[str, tuple[Part, bytes]]) -> None:
        part, payload = parts[name]
        size = (MAX_FILE_BYTES[MANIFEST] if name == MANIFEST else len(file_of(new, MODEL))) + 1
        described = msgspec.structs.replace(part.sections[0], size_bytes=size)
        parts[name] = (msgspec.structs.replace(part, sections=(described,)), payload)

    delta = write_delta(tmp_path / "x.ekd", old, new, large)
    with pytest.raises(IntegrityError, match="allowed"):
        apply_delta(delta, old, tmp_path / "made.ekb", NoCodec())


def test_manifest_of_another_release_is_refused(tmp_path: Path, old: Bundle, new: Bundle) -> None:
    def stale(parts: dict[str, tuple[Part, bytes]]) -> None:
        parts[MANIFEST] = (Part(name=MANIFEST, method="same"), b"")

    delta = write_delta(tmp_path / "x.ekd", old, new, stale)
    with pytest.raises(IntegrityError, match="another manifest than it says"):
        apply_delta(delta, old, tmp_path / "made.ekb", NoCodec())


def test_content_that_the_manifest_does_not_know_is_refused(tmp_path: Path, old: Bundle, new: Bundle) -> None:
    def forged(parts: dict[str, tuple[Part, bytes]]) -> None:
        content = bytes(reversed(file_of(new, MODEL)))
        described, payload = section(content)
        parts[MODEL] = (Part(name=MODEL, method="full", sections=(described,)), payload)

    delta = write_delta(tmp_path / "x.ekd", old, new, forged)
    with pytest.raises(IntegrityError, match="SHA-256"):
        apply_delta(delta, old, tmp_path / "made.ekb", NoCodec())


def drop(parts: dict[str, tuple[Part, bytes]]) -> None:
    del parts[LOGITS]


def repeat(parts: dict[str, tuple[Part, bytes]]) -> None:
    parts[GOLDEN] = (Part(name=LABELS, method="same"), b"")


def escape(parts: dict[str, tuple[Part, bytes]]) -> None:
    parts[GOLDEN] = (Part(name="../../etc/passwd", method="same"), b"")


def too_few(parts: dict[str, tuple[Part, bytes]]) -> None:
    part, payload = parts[MODEL]
    parts[MODEL] = (msgspec.structs.replace(part, method="patch"), payload)


def wrong_file(parts: dict[str, tuple[Part, bytes]]) -> None:
    described, payload = section(b"x")
    parts[GOLDEN] = (Part(name=GOLDEN, method="model_patch", sections=(described,) * 3), payload * 3)


@pytest.mark.parametrize("change", [drop, repeat, escape, too_few, wrong_file])
def test_impossible_header_is_refused(
    tmp_path: Path, old: Bundle, new: Bundle, change: Callable[[dict[str, tuple[Part, bytes]]], None]
) -> None:
    with pytest.raises(IntegrityError, match="the delta"):
        read_header(write_delta(tmp_path / "x.ekd", old, new, change))


def test_every_truncation_and_a_tail_are_refused(tmp_path: Path, old: Bundle, new: Bundle) -> None:
    content = write_delta(tmp_path / "x.ekd", old, new).read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut.ekd").write_bytes(content[:length])
        with pytest.raises(IntegrityError):
            apply_delta(tmp_path / "cut.ekd", old, tmp_path / "made.ekb", NoCodec())
    with pytest.raises(IntegrityError, match="its sections make another number"):
        read_header(write_delta(tmp_path / "x.ekd", old, new, tail=b"."))


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_flipped_byte_makes_nothing_else(at: int, flip: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("flips")
    write_bundle(folder / "old.ekb", plain_contents())
    old = open_bundle(folder / "old.ekb")
    contents = with_manifest(
        {**plain_contents(), MODEL: b"another model, " * 9},
        lambda manifest: msgspec.structs.replace(manifest, release=5),
    )
    write_bundle(folder / "new.ekb", contents)
    new = open_bundle(folder / "new.ekb")
    content = bytearray(write_delta(folder / "x.ekd", old, new).read_bytes())
    content[at % len(content)] ^= flip
    (folder / "x.ekd").write_bytes(content)
    try:
        made = apply_delta(folder / "x.ekd", old, folder / "made.ekb", NoCodec())
    except (IntegrityError, UsageError):
        return
    assert made.digest == new.digest


def test_missing_delta_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no delta at"):
        read_header(tmp_path / "none.ekd")
