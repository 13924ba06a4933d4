"""Any file into an `.ekz` file: tensors found, described, coded; the rest compressed.

The host side of the packer. Reading is in `unpacking`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from edgekit.core.errors import UsageError
from edgekit.encode import onnx_tensors, tflite_tensors
from edgekit.encode.chain import Families
from edgekit.encode.container import MAGIC, write_front
from edgekit.encode.describing import describe
from edgekit.encode.grids import Coded, Peaks, encode_matrix, encode_sequence
from edgekit.encode.lanes import MAX_LANES, LaneEncoder
from edgekit.encode.lines import encode_even, encode_line
from edgekit.encode.numbers import write_bits
from edgekit.encode.parts import Array, Description, EvenArray, LineArray
from edgekit.encode.pieces import (
    MAX_ELEMENTS,
    MAX_RESIDUE_BYTES,
    MAX_SIZE_BYTES,
    AnyPiece,
    Copy,
    FileKind,
    Header,
    Section,
)
from edgekit.encode.prediction import Vectors
from edgekit.encode.residue import compress
from edgekit.encode.tensors import TensorBytes, arranged, pieces_of

Report: TypeAlias = Callable[[int], None]

_SECTION_BYTES = 1 << 16
_CHAIN_SYMBOLS = 1 << 24
_ELEMENTS_PER_LANE = 8192
_LARGE = 1 << 20
"""Elements from which on lanes cost too little to be spared: four times as many, which decode faster."""

_FEWEST_LANES = 16
_PIECE_BITS = 64
"""What a description costs in the header, about."""


class Packed(msgspec.Struct, frozen=True):
    """A packed file.

    Args:
        content: The `.ekz` file.
        kind: What the original was taken for.
        num_tensors: Tensors found in it; 0 means that only general compression was at work.
        num_coded: Pieces of them that were coded as such, not with the rest.
    """

    content: bytes
    kind: FileKind
    num_tensors: int
    num_coded: int


class _Chosen(msgspec.Struct, frozen=True):
    offset: int
    piece: AnyPiece
    codes: tuple[Coded, ...] = ()
    raw: bytes = b""

    @property
    def end(self) -> int:
        return self.offset + self.piece.length


def pack(content: bytes, *, progress: Report | None = None) -> Packed:
    """Pack a file's bytes so that `unpack` gives back exactly these.

    Args:
        content: The file.
        progress: Told the number of original bytes that are done.

    Raises:
        UsageError: The file is packed already, or larger than the format allows.
    """
    if len(content) > MAX_SIZE_BYTES:
        raise UsageError(f"{len(content):,} bytes, at most {MAX_SIZE_BYTES:,}", hint="pack the parts of the model")
    if content[: len(MAGIC)] == MAGIC:
        raise UsageError("this is an .ekz file already", hint="edgekit inspect tells what is in it")
    kind, found = find_tensors(content)
    tensors = arranged(found, len(content))
    num_lanes = _num_lanes(sum(tensor.num_elements for tensor in tensors))
    chains: list[_Chain] = []
    vectors = Vectors(content, tensors)
    earlier: dict[bytes, int] = {}
    for tensor in tensors:
        for cut in pieces_of(tensor, MAX_ELEMENTS):
            offset, length = cut.offset, cut.length
            if not chains or chains[-1].num_symbols > _CHAIN_SYMBOLS:
                chains.append(_Chain(num_lanes))
            chunk = content[offset : offset + length]
            digest = hashlib.sha256(chunk).digest()
            if digest in earlier:
                chains[-1].add(_Chosen(offset, Copy(0, length, earlier[digest])))
            else:
                tried = describe(chunk, tensor.element, cut, num_lanes)
                if tensor.element == "f32":
                    predicted = (vectors.describe(offset, length), vectors.describe_ends(tensor))
                    tried += [one for one in predicted if one is not None]
                if chains[-1].choose(offset, tried, length):
                    earlier[digest] = offset
            if progress is not None:
                progress(length)
    num_coded = sum(len(chain.chosen) for chain in chains)
    return Packed(_assemble(content, kind, chains), kind, len(tensors), num_coded)


def _num_lanes(num_elements: int) -> int:
    wanted = num_elements // _ELEMENTS_PER_LANE * (4 if num_elements >= _LARGE else 1)
    return min(MAX_LANES, max(_FEWEST_LANES, 1 << wanted.bit_length()))


def find_tensors(content: bytes) -> tuple[FileKind, list[TensorBytes]]:
    """What a file is, by its content, and its constant tensors."""
    view = memoryview(content)
    if tflite_tensors.is_tflite(view):
        return "tflite", tflite_tensors.find_tensors(view)
    found = onnx_tensors.find_tensors(view)
    return ("onnx" if found else "unknown"), found


class _Chain:
    """Pieces that share lanes and distributions."""

    def __init__(self, num_lanes: int) -> None:
        self.num_lanes = num_lanes
        self.num_symbols = 0
        self.chosen: list[_Chosen] = []
        self._families = Families()

    def add(self, chosen: _Chosen) -> None:
        self.chosen.append(chosen)

    def choose(self, offset: int, tried: Sequence[Description], length: int) -> bool:
        """Take the shortest description that is shorter than the bytes as they are; say whether there is one."""
        best: tuple[float, _Chosen] | None = None
        before = self._families.save()
        after = before
        for description in tried:
            chosen = self._code(offset, description)
            bits = sum(coded.bits for coded in chosen.codes) + 8 * len(chosen.raw)
            if best is None or bits < best[0]:
                best, after = (bits, chosen), self._families.save()
            self._families.restore(before)
        if best is None or best[0] + _PIECE_BITS > 8 * length:
            return False
        self._families.restore(after)
        self.chosen.append(best[1])
        self.num_symbols += sum(coded.freqs.size for coded in best[1].codes)
        return True

    def _code(self, offset: int, description: Description) -> _Chosen:
        codes: list[Coded] = []
        raw: list[bytes] = []
        for part in description.parts:
            if isinstance(part, bytes):
                raw.append(part)
            elif isinstance(part, EvenArray):
                if part.values.size:
                    coded, low, widths = encode_even(part.values, part.counts, self.num_lanes)
                    codes.append(coded)
                    raw.append(write_bits(low.astype(np.uint64), widths))
            elif isinstance(part, LineArray):
                if part.line.num_levels > 1:
                    curve = self._families.curve(part.key)
                    codes.append(encode_line(part.levels, part.line, curve, self.num_lanes))
            elif part.grid.num_levels > 1:
                codes.append(self._code_array(part))
        return _Chosen(offset, description.piece, tuple(codes), b"".join(raw))

    def _code_array(self, array: Array) -> Coded:
        tables = self._families.of(array.family, array.grid)
        if array.grid.num_contexts:
            peaks = None if array.peaks is None else Peaks(array.peaks)
            return encode_matrix(array.levels, array.grid, tables, self.num_lanes, peaks)
        return encode_sequence(array.levels.ravel(), array.grid, tables, self.num_lanes)


def _assemble(content: bytes, kind: FileKind, chains: list[_Chain]) -> bytes:
    """Code every chain, compress the rest, and put the header before them."""
    sections: list[Section] = []
    payloads: list[bytes] = []
    pieces: list[AnyPiece] = []
    position = 0
    rest: list[bytes] = []
    for chain in chains:
        for chosen in chain.chosen:
            rest.append(content[position : chosen.offset])
            pieces.append(msgspec.structs.replace(chosen.piece, gap=chosen.offset - position))
            position = chosen.end
        for section, payload in _code_chain(chain):
            sections.append(section)
            payloads.append(payload)
    rest.append(content[position:])
    residue = b"".join(rest)
    front_sections: list[Section] = []
    front_payloads: list[bytes] = []
    for begin in range(0, len(residue), MAX_RESIDUE_BYTES):
        chunk = residue[begin : begin + MAX_RESIDUE_BYTES]
        payload = compress(chunk)
        front_payloads.append(payload)
        front_sections.append(Section(len(payload), zlib.crc32(payload), 0, len(chunk)))
    header = Header(
        kind=kind,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).digest(),
        sections=(*front_sections, *sections),
        pieces=tuple(pieces),
    )
    return b"".join([write_front(header), *front_payloads, *payloads])


def _code_chain(chain: _Chain) -> list[tuple[Section, bytes]]:
    groups = _groups(chain.chosen)
    encoder = LaneEncoder(chain.num_lanes)
    bodies: list[tuple[int, bytes]] = []
    for group in reversed(groups):
        words = [
            encoder.encode_steps(coded.freqs, coded.starts, coded.step_sizes)
            for chosen in reversed(group)
            for coded in reversed(chosen.codes)
        ]
        words.reverse()
        raw = b"".join(chosen.raw for chosen in group)
        num_words = sum(part.size for part in words)
        bodies.append((num_words, b"".join([*(part.astype("<u2").tobytes() for part in words), raw])))
    bodies.reverse()
    coded: list[tuple[Section, bytes]] = []
    for index, (group, (num_words, body)) in enumerate(zip(groups, bodies, strict=True)):
        states = encoder.states().astype("<u4").tobytes() if index == 0 else b""
        payload = states + body
        lanes = chain.num_lanes if index == 0 else 0
        coded.append((Section(len(payload), zlib.crc32(payload), len(group), num_words, lanes), payload))
    return coded


def _groups(chosen: list[_Chosen]) -> list[list[_Chosen]]:
    """Pieces by section: as many as make a section worth its checksum."""
    groups: list[list[_Chosen]] = []
    size = _SECTION_BYTES
    for one in chosen:
        if size >= _SECTION_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(one)
        size += one.piece.length
    return groups
