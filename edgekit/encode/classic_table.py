"""The table of Deep Compression for layers of ours (Han et al. 2016, tables 2 to 5).

What counts: codebooks, biases, code lengths, names, shapes and checksums, each to its last byte; the total of a network
is the size of its `.dc` file. What it is compared with: weights and biases in 32-bit floats, nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edgekit.encode.classic import FRONT, SharedLayer, code_layer, join_layers


class ClassicRow(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of the table, or all of them. P is pruning, Q is sharing (a codebook), H is Huffman.

    Args:
        name: Of the layer; "total" for all of them.
        num_weights: Weights, zeros among them.
        num_kept: Weights that are not zero.
        num_stored: Symbols in the file: weights that are kept, and fillers. A layer without zeros has no fillers.
        num_biases: Biases, float32 in the file.
        weight_bits: Bits of a stored symbol before coding: log2 of the codebook's size, rounded up. The zero of a
            pruned layer is in the codebook, for the fillers. A mean over the symbols in the total.
        coded_weight_bits: Mean bits of a stored symbol after Huffman; 0.0 where none is stored.
        gap_bits: Bits of a gap before coding, 0 where no gaps are stored. A mean over the symbols in the total.
        coded_gap_bits: Mean bits of a gap after Huffman.
        codebook_bytes: float32 centroids.
        shared_bytes: P+Q: codebook, biases, record, and symbols and gaps of fixed width, each rounded up to a byte.
        coded_bytes: P+Q+H: codebook, biases, record, code lengths, and symbols and gaps in Huffman codes.
    """

    name: str
    num_weights: int
    num_kept: int
    num_stored: int
    num_biases: int
    weight_bits: float
    coded_weight_bits: float
    gap_bits: float
    coded_gap_bits: float
    codebook_bytes: int
    shared_bytes: int
    coded_bytes: int

    @property
    def float_bytes(self) -> int:
        """Weights and biases in 32-bit floats."""
        return 4 * (self.num_weights + self.num_biases)

    @property
    def density(self) -> float:
        """Share of the weights that is kept, 0 to 1."""
        return self.num_kept / self.num_weights

    @property
    def shared_ratio(self) -> float:
        """How many times smaller P+Q is than 32-bit floats."""
        return self.float_bytes / self.shared_bytes

    @property
    def coded_ratio(self) -> float:
        """How many times smaller P+Q+H is than 32-bit floats."""
        return self.float_bytes / self.coded_bytes


class ClassicTable(msgspec.Struct, frozen=True, kw_only=True):
    """The whole table.

    Args:
        rows: One for each layer.
        total: All layers. Its bytes count the file's front (20 bytes) too, so `coded_bytes` is the file's size.
        content: The `.dc` file that was measured.
    """

    rows: tuple[ClassicRow, ...]
    total: ClassicRow
    content: bytes


def measure_classic(layers: Sequence[SharedLayer], gap_bits: int = 5) -> ClassicTable:
    """Code the layers and count.

    Args:
        layers: At least one, as for `encode_classic`.
        gap_bits: Bits of a relative index, 1 to 8.

    Raises:
        UsageError: As `encode_classic` does.
    """
    coded = [code_layer(layer, gap_bits) for layer in layers]
    rows: list[ClassicRow] = []
    for layer, one in zip(layers, coded, strict=True):
        weight_bits = max(1, math.ceil(math.log2(layer.centroids.size)))
        num_biases = 0 if layer.bias is None else layer.bias.size
        codebook_bytes = 4 * layer.centroids.size
        streams = -(-weight_bits * one.num_stored // 8) - (-one.gap_bits * one.num_stored // 8)
        rows.append(
            ClassicRow(
                name=layer.name,
                num_weights=layer.indices.size,
                num_kept=one.num_kept,
                num_stored=one.num_stored,
                num_biases=num_biases,
                weight_bits=weight_bits,
                coded_weight_bits=one.symbol_bits / max(1, one.num_stored),
                gap_bits=one.gap_bits,
                coded_gap_bits=one.coded_gap_bits / max(1, one.num_stored),
                codebook_bytes=codebook_bytes,
                shared_bytes=codebook_bytes + 4 * num_biases + len(one.record) + streams,
                coded_bytes=len(one.record) + len(one.payload),
            )
        )
    return ClassicTable(rows=tuple(rows), total=_add(rows), content=join_layers(coded))


def _add(rows: Sequence[ClassicRow]) -> ClassicRow:
    num_stored = sum(row.num_stored for row in rows)
    most = max(1, num_stored)
    return ClassicRow(
        name="total",
        num_weights=sum(row.num_weights for row in rows),
        num_kept=sum(row.num_kept for row in rows),
        num_stored=num_stored,
        num_biases=sum(row.num_biases for row in rows),
        weight_bits=sum(row.weight_bits * row.num_stored for row in rows) / most,
        coded_weight_bits=sum(row.coded_weight_bits * row.num_stored for row in rows) / most,
        gap_bits=sum(row.gap_bits * row.num_stored for row in rows) / most,
        coded_gap_bits=sum(row.coded_gap_bits * row.num_stored for row in rows) / most,
        codebook_bytes=sum(row.codebook_bytes for row in rows),
        shared_bytes=FRONT.size + sum(row.shared_bytes for row in rows),
        coded_bytes=FRONT.size + sum(row.coded_bytes for row in rows),
    )
