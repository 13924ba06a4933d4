from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import IntegrityError
from edgekit.encode.classic import FRONT, MAGIC, RECORD, SharedLayer, encode_classic
from edgekit.encode.classic_reading import decode_classic

GOLDEN = Path(__file__).parent.parent / "golden" / "classic_v1.dc"


SMALL_LAYER = SharedLayer(
    name="conv",
    centroids=np.array([-1, 0, 1], dtype=np.float32),
    indices=np.array([1, 0, 1, 1, 2, 2, 1, 0, 1, 1], dtype=np.uint8),
    bias=np.ones(2, dtype=np.float32),
)
SMALL = encode_classic([SMALL_LAYER], gap_bits=1)
RECORD_FIELDS = (
    "name_bytes",
    "num_dimensions",
    "gap_bits",
    "num_centroids",
    "num_biases",
    "num_stored",
    "symbol_bytes",
    "gap_bytes",
    "crc",
)
PAYLOAD = FRONT.size + RECORD.size + 4 + 4
"""Where the payload of `SMALL` begins: behind front, record, name and one dimension."""


def forged(front: dict[str, int] | None = None, size: int | None = None, **record: int) -> bytes:
    """`SMALL` with other numbers in its header, and the header's checksum put right."""
    numbers = dict(zip(RECORD_FIELDS, RECORD.unpack_from(SMALL, FRONT.size), strict=True)) | record
    tail = SMALL[FRONT.size + RECORD.size : PAYLOAD - 4] + struct.pack("<I", 10 if size is None else size)
    return sealed(RECORD.pack(*numbers.values()) + tail, SMALL[PAYLOAD:], **(front or {}))


def sealed(records: bytes, payload: bytes, num_layers: int = 1, version: int = 1) -> bytes:
    front = FRONT.pack(MAGIC, version, num_layers, len(records), 0)[:-4]
    return front + struct.pack("<I", zlib.crc32(records, zlib.crc32(front))) + records + payload


def with_payload(payload: bytes) -> bytes:
    """`SMALL` with other bytes behind the header, and all checksums put right."""
    records = bytearray(SMALL[FRONT.size : PAYLOAD])
    struct.pack_into("<I", records, RECORD.size - 4, zlib.crc32(payload))
    return sealed(bytes(records), payload)


@pytest.fixture(scope="module")
def golden() -> bytes:
    return GOLDEN.read_bytes()


def test_forging_nothing_gives_the_file() -> None:
    assert forged() == SMALL == with_payload(SMALL[PAYLOAD:])


@pytest.mark.parametrize("bit", range(8))
def test_decode_classic_finds_every_flipped_bit(bit: int) -> None:
    for place in range(len(SMALL)):
        damaged = bytearray(SMALL)
        damaged[place] ^= 1 << bit
        with pytest.raises(IntegrityError):
            decode_classic(bytes(damaged))


def test_decode_classic_finds_every_flipped_byte(golden: bytes) -> None:
    for place in range(len(golden)):
        damaged = bytearray(golden)
        damaged[place] ^= 255
        with pytest.raises(IntegrityError):
            decode_classic(bytes(damaged))


def test_decode_classic_finds_every_missing_end(golden: bytes) -> None:
    for length in range(len(golden)):
        with pytest.raises(IntegrityError):
            decode_classic(golden[:length])


def test_decode_classic_refuses_bytes_behind_the_end(golden: bytes) -> None:
    with pytest.raises(IntegrityError, match=f"has {len(golden) + 1} bytes, its header says {len(golden)}"):
        decode_classic(golden + b"x")


def test_decode_classic_says_which_layer_is_damaged(golden: bytes) -> None:
    damaged = golden[:-1] + bytes([golden[-1] ^ 1])
    with pytest.raises(IntegrityError, match=r"layer 'one symbol' is damaged \(offset \d+ to \d+\)"):
        decode_classic(damaged)


def test_decode_classic_says_so_when_the_format_is_newer() -> None:
    with pytest.raises(IntegrityError, match="version 2") as caught:
        decode_classic(forged({"version": 2}))
    assert caught.value.hint is not None
    assert "newer" in caught.value.hint


def test_decode_classic_refuses_a_file_of_another_kind() -> None:
    with pytest.raises(IntegrityError, match=r"no \.dc file"):
        decode_classic(b"\x89EKZ\r\n\x1a\n" + bytes(100))


def test_decode_classic_refuses_more_than_is_wanted(golden: bytes) -> None:
    wanted = sum(
        layer.indices.nbytes + layer.centroids.nbytes + (0 if layer.bias is None else layer.bias.nbytes)
        for layer in decode_classic(golden)
    )
    decode_classic(golden, max_bytes=wanted)
    with pytest.raises(IntegrityError, match=f"take {wanted} bytes, at most {wanted - 1} are wanted"):
        decode_classic(golden, max_bytes=wanted - 1)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"front": {"version": 0}}, "version 0"),
        ({"front": {"num_layers": 0}}, "0 layers"),
        ({"front": {"num_layers": 65535}}, "65535 layers"),
        ({"front": {"num_layers": 2}}, "layer 1 of 2: the header ends in it"),
        ({"name_bytes": 255}, "ends in its name or shape"),
        ({"name_bytes": 0}, "no name"),
        ({"name_bytes": 3}, "its layers take"),
        ({"num_dimensions": 0}, "0 dimensions"),
        ({"num_dimensions": 255}, "ends in its name or shape"),
        ({"size": 0}, "0 weights"),
        ({"size": (1 << 32) - 1}, "4294967295 weights"),
        ({"size": 1 << 30}, "at most 268435456 are wanted"),
        ({"num_centroids": 0}, "0 centroids"),
        ({"num_centroids": 65535}, "65535 centroids"),
        ({"num_centroids": 4}, "its header says"),
        ({"num_biases": (1 << 32) - 1}, "are wanted"),
        ({"num_biases": 3}, "its header says"),
        ({"gap_bits": 9}, "gaps of 9 bits"),
        ({"gap_bits": 0}, "gaps of 0 bits"),
        ({"gap_bits": 0, "num_stored": 10}, "bytes of no gaps"),
        ({"num_stored": 11}, "11 symbols for 10 weights"),
        ({"num_stored": 10}, "10 symbols in 1 bytes"),
        ({"num_stored": 7}, "symbols: .*bits left|symbols: ends after"),
        ({"symbol_bytes": (1 << 32) - 1}, "its header says"),
        ({"gap_bytes": (1 << 32) - 1}, "its header says"),
        ({"crc": 0}, "layer 'conv' is damaged"),
    ],
    ids=str,
)
def test_header_is_refused_when_its_numbers_are_impossible(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(IntegrityError, match=what):
        decode_classic(forged(**changes))


def test_header_is_refused_when_names_are_no_text_or_the_same() -> None:
    records = SMALL[FRONT.size : PAYLOAD]
    with pytest.raises(IntegrityError, match="no text"):
        decode_classic(sealed(records.replace(b"conv", b"\xff\xff\xff\xff"), SMALL[PAYLOAD:]))
    with pytest.raises(IntegrityError, match="same name"):
        decode_classic(sealed(records * 2, SMALL[PAYLOAD:] * 2, num_layers=2))


def test_header_of_4_gib_in_a_small_file_is_refused() -> None:
    front = FRONT.pack(MAGIC, 1, 1, (1 << 32) - 1, 0)
    with pytest.raises(IntegrityError, match="in its header"):
        decode_classic(front + bytes(100))


def test_layers_are_refused_before_memory_is_taken_for_them() -> None:
    one = forged(size=1 << 28)  # a name, and a quarter of a billion zeros, in a hundred bytes
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="are wanted"):
            decode_classic(one)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("begin", "replacement", "what"),
    [
        (0, struct.pack("<f", float("nan")), "not finite"),
        (0, struct.pack("<f", 5.0), "do not rise"),
        (4, struct.pack("<f", 0.5), "gaps without a centroid 0.0"),
        (20, b"\x11\x01", "code lengths that fill"),
        (20, b"\x22\x11", "half byte"),
    ],
)
def test_layer_is_refused_when_its_content_is_impossible(begin: int, replacement: bytes, what: str) -> None:
    payload = SMALL[PAYLOAD:]
    changed = payload[:begin] + replacement + payload[begin + len(replacement) :]
    with pytest.raises(IntegrityError, match=f"layer 'conv' at offset {PAYLOAD}.*{what}"):
        decode_classic(with_payload(changed))


def test_layer_is_refused_when_its_gaps_lead_out_of_it() -> None:
    with pytest.raises(IntegrityError, match="the gaps lead to weight 7 of 7"):
        decode_classic(forged(size=7))


@given(st.binary(max_size=120), st.integers(0, len(SMALL)))
def test_decode_classic_of_any_header_gives_layers_or_an_integrity_error(noise: bytes, begin: int) -> None:
    changed = bytearray(SMALL)
    changed[FRONT.size + begin : FRONT.size + begin + len(noise)] = noise
    decode_or_refuse(sealed(bytes(changed[FRONT.size : PAYLOAD]), bytes(changed[PAYLOAD:])))


@given(st.dictionaries(st.sampled_from(RECORD_FIELDS[:-1]), st.integers(0, 12), max_size=3), st.integers(1, 12))
def test_decode_classic_of_any_numbers_gives_layers_or_an_integrity_error(record: dict[str, int], size: int) -> None:
    decode_or_refuse(forged(None, size, **record))


@given(st.binary(min_size=len(SMALL) - PAYLOAD - 20, max_size=len(SMALL) - PAYLOAD - 20))
def test_decode_classic_of_any_streams_gives_layers_or_an_integrity_error(noise: bytes) -> None:
    decode_or_refuse(with_payload(SMALL[PAYLOAD : PAYLOAD + 20] + noise))


@given(st.integers(0, 8 * (len(SMALL) - PAYLOAD) - 1), st.integers(0, 8 * (len(SMALL) - PAYLOAD) - 1))
def test_decode_classic_of_bits_changed_behind_the_checksum_gives_layers_or_an_integrity_error(
    first: int, second: int
) -> None:
    payload = bytearray(SMALL[PAYLOAD:])
    for bit in {first, second}:
        payload[bit >> 3] ^= 1 << (bit & 7)
    decode_or_refuse(with_payload(bytes(payload)))


@given(st.binary(max_size=200))
def test_decode_classic_of_any_bytes_is_an_integrity_error(content: bytes) -> None:
    for whole in (content, MAGIC + content, FRONT.pack(MAGIC, 1, 1, len(content), 0) + content):
        with pytest.raises(IntegrityError):
            decode_classic(whole)


def decode_or_refuse(content: bytes) -> None:
    """Nothing but layers, which can be coded again, or an `IntegrityError`."""
    try:
        layers = decode_classic(content, max_bytes=1 << 16)
    except IntegrityError:
        return
    assert sum(layer.indices.nbytes for layer in layers) <= 1 << 16
    encode_classic(layers)
