"""Which manifests are accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import plain_manifest
from edgekit.bundle.check import check_names, check_size, parse_manifest, plain_labels
from edgekit.bundle.manifest import MANIFEST_VERSION, encode_manifest
from edgekit.core.errors import IntegrityError


def document() -> dict[str, Any]:
    """The plain manifest as JSON has it."""
    return json.loads(encode_manifest(plain_manifest()))


def put(path: str, value: Any) -> bytes:
    """The plain manifest with one value replaced."""
    whole: Any = document()
    *keys, last = path.split(".")
    place = whole
    for key in keys:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[int(last) if isinstance(place, list) else last] = value
    return json.dumps(whole).encode()


def test_manifest_comes_back_as_it_was_written() -> None:
    content = encode_manifest(plain_manifest())

    assert parse_manifest(content) == plain_manifest()
    assert encode_manifest(parse_manifest(content)) == content


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "../evil"),
        ("name", ""),
        ("name", "Pets"),
        ("name", "x" * 200),
        ("release", -1),
        ("release", 2**60),
        ("release", 1.5),
        ("created_unix_s", -1),
        ("made_by", "x" * 600),
        ("compatible.boards", []),
        ("compatible.boards", ["a/b"]),
        ("compatible.architectures", ["\x1b[2J"]),
        ("compatible.python_at_least", [-3, 10]),
        ("compatible.runtimes", []),
        ("compatible.runtimes.0.name", "torch"),
        ("compatible.runtimes.0.at_least", "2; rm -rf /"),
        ("needs.ram_mib", -1),
        ("budgets.p90_ms", 0),
        ("budgets.rss_mib", -5),
        ("files", []),
        ("files.0.name", "manifest.json"),
        ("files.0.name", "../golden.bin"),
        ("files.0.size_bytes", 33),
        ("files.0.size_bytes", -1),
        ("files.0.sha256", "AB" * 32),
        ("files.0.sha256", "ab" * 31),
        ("files.2.size_bytes", 2**40),
        ("model.format", "pickle"),
        ("model.size_bytes", 0),
        ("model.size_bytes", 2**40),
        ("model.sha256", "x" * 64),
        ("model.input_size", [0, 4]),
        ("model.input_size", [4, 100000]),
        ("model.num_channels", 4),
        ("model.num_classes", 4),
        ("model.num_classes", 0),
        ("golden.origin", "dreamt"),
        ("golden.top1", []),
        ("golden.top1", [1, 3]),
        ("golden.top1", [1, 0, 0]),
        ("golden.tolerance", -1),
        ("baseline", [0.5, 0.5]),
        ("baseline", [0.5, 0.6, 0.5]),
        ("baseline", [1.5, -0.25, -0.25]),
        ("version", 0),
        ("version", MANIFEST_VERSION + 1),
        ("surprise", 1),
    ],
)
def test_impossible_manifest_is_refused(path: str, value: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_manifest(put(path, value))

    assert 0 < len(caught.value.message) < 500
    assert caught.value.message.isprintable()


def test_missing_key_is_refused() -> None:
    for key in document():
        if key != "version":
            rest = {other: value for other, value in document().items() if other != key}
            with pytest.raises(IntegrityError, match=key):
                parse_manifest(json.dumps(rest).encode())


def test_newer_version_is_named_even_with_unknown_keys() -> None:
    content = json.dumps({**document(), "version": 7, "signature": "?"}).encode()

    with pytest.raises(IntegrityError, match="format version 7, this edgekit reads 1"):
        parse_manifest(content)


def test_key_that_is_there_twice_is_refused() -> None:
    content = encode_manifest(plain_manifest()).replace(b'"release": 4,', b'"release": 4, "release": 5,')

    with pytest.raises(IntegrityError, match="key twice"):
        parse_manifest(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"name": ' * 100_000,
        b"\xff\xfe",
        b'{"name": NaN}',
        b'{"golden": {"tolerance": Infinity}}',
        b" " * (1024 * 1024 + 1),
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError):
        parse_manifest(content)


_LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=20)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@given(st.data())
def test_any_value_in_place_of_any_other_is_taken_or_refused(data: st.DataObject) -> None:
    whole: Any = document()
    place: Any = whole
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]
        if not inner or not isinstance(inner, dict | list) or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(_VALUES)

    try:
        manifest = parse_manifest(json.dumps(whole).encode())
    except IntegrityError:
        return
    assert parse_manifest(encode_manifest(manifest)) == manifest


@given(st.lists(st.text(max_size=20), max_size=8))
def test_names_are_the_allowed_ones_or_refused(names: list[str]) -> None:
    with pytest.raises(IntegrityError):
        check_names(names)


def test_size_above_the_cap_is_refused() -> None:
    check_size("labels.txt", 4 * 1024 * 1024)
    with pytest.raises(IntegrityError, match="at most"):
        check_size("labels.txt", 4 * 1024 * 1024 + 1)


@given(st.lists(st.text(max_size=10), min_size=1, max_size=5))
def test_plain_labels_are_one_line_each(labels: list[str]) -> None:
    plain = plain_labels(labels, len(labels))

    assert len("".join(f"{label}\n" for label in plain).split("\n")) == len(labels) + 1
    assert plain_labels(plain, len(plain)) == plain
