"""Where the bytes of a model file go: every tensor, before and after."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.entropy import order0_bits_of_counts
from edgekit.core.errors import DataError, IntegrityError
from edgekit.encode.container import MAGIC
from edgekit.encode.files import EXTENSION, is_packed, naming
from edgekit.encode.packing import find_tensors, pack
from edgekit.encode.pieces import (
    AnyPiece,
    Codebook,
    Copy,
    Ends,
    Extremes,
    FileKind,
    Header,
    Integers,
    Numbers,
    Scaled,
)
from edgekit.encode.tables import MAX_LEVELS
from edgekit.encode.tensors import Element, TensorBytes, arranged, elements
from edgekit.encode.unpacking import MemorySink, PieceBytes, unpack

_CODE_BYTES = 4


class TensorRow(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor, or one vector of quantization parameters.

    Args:
        name: Tensor name; of parameters, with their role before it.
        shape: Axes.
        dtype: Type of the elements.
        num_levels: Distinct values.
        density: Share of elements that do not stand for 0.0.
        bytes_before: In the original.
        bytes_after: In the .ekz file: words and raw bits, without the description in the header; None when the tensor
            lies in the residue.
        entropy_bytes: Order-0 entropy of the elements, plus a codebook where they are floats; the bytes as they are
            where there are more than 256 values.
        description: How it is coded.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Element
    num_levels: int
    density: float
    bytes_before: int
    bytes_after: int | None
    entropy_bytes: int
    description: str


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """A file and where its bytes go.

    Args:
        file: Its name.
        kind: What the original is.
        original_bytes: Size of the original.
        ekz_bytes: Size packed.
        limit_bytes: What a coder of independent symbols cannot go below: `entropy_bytes` of all tensors.
        tensor_bytes_before: Tensors and parameters in the original.
        tensor_bytes_after: The same in the .ekz file.
        residue_bytes_before: The rest of the original.
        residue_bytes_after: The same in the .ekz file.
        header_bytes: Header of the .ekz file, with the descriptions; and the states of the coder.
        tensors: In the order of the file.
    """

    file: str
    kind: FileKind
    original_bytes: int
    ekz_bytes: int
    limit_bytes: int
    tensor_bytes_before: int
    tensor_bytes_after: int
    residue_bytes_before: int
    residue_bytes_after: int
    header_bytes: int
    tensors: tuple[TensorRow, ...]


def inspect_file(path: Path) -> Inspection:
    """Inspect an .ekz file, or what packing would make of another file.

    Raises:
        UsageError: No such file.
        IntegrityError: A damaged .ekz file.
    """
    packed_already = is_packed(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if path.suffix == EXTENSION and not packed_already:
        raise IntegrityError(f"{path}: no .ekz file: it begins with {content[:8].hex(' ')}", hint="get the file again")
    packed = content if packed_already else pack(content).content
    sink = MemorySink()
    with naming(path):
        header, placed = unpack(io.BytesIO(packed), len(packed), sink)
    return _inspection(path.name, bytes(sink.content), header, placed, len(packed))


def _inspection(name: str, content: bytes, header: Header, placed: list[PieceBytes], ekz_bytes: int) -> Inspection:
    tensors = arranged(find_tensors(content)[1], len(content)) if content[: len(MAGIC)] != MAGIC else []
    rows = tuple(_row(tensor, content, _pieces(tensor, placed)) for tensor in tensors)
    residue = [section for section in header.sections if not section.num_pieces]
    before = sum(one.piece.length for one in placed)
    after = sum(one.coded_bytes for one in placed)
    residue_after = sum(section.length for section in residue)
    return Inspection(
        file=name,
        kind=header.kind,
        original_bytes=len(content),
        ekz_bytes=ekz_bytes,
        limit_bytes=sum(row.entropy_bytes for row in rows),
        tensor_bytes_before=before,
        tensor_bytes_after=after,
        residue_bytes_before=len(content) - before,
        residue_bytes_after=residue_after,
        header_bytes=ekz_bytes - after - residue_after,
        tensors=rows,
    )


def _pieces(tensor: TensorBytes, placed: list[PieceBytes]) -> list[PieceBytes]:
    end = tensor.offset + tensor.length
    return [one for one in placed if tensor.offset <= one.offset < end]


def _row(tensor: TensorBytes, content: bytes, pieces: list[PieceBytes]) -> TensorRow:
    chunk = content[tensor.offset : tensor.offset + tensor.length]
    values, counts = np.unique(elements(chunk, tensor.element), return_counts=True)
    num_zeros = int(counts[values == tensor.zero].sum())
    return TensorRow(
        name=tensor.name if tensor.role == "tensor" else f"{tensor.role} of {tensor.name}",
        shape=tensor.shape,
        dtype=tensor.element,
        num_levels=len(values),
        density=1 - num_zeros / max(1, int(counts.sum())),
        bytes_before=tensor.length,
        bytes_after=sum(one.coded_bytes for one in pieces) if pieces else None,
        entropy_bytes=_entropy_bytes(counts, tensor),
        description=", ".join(dict.fromkeys(_describe(one.piece) for one in pieces)) or "residue",
    )


def _entropy_bytes(counts: npt.NDArray[Any], tensor: TensorBytes) -> int:
    if counts.size > MAX_LEVELS:
        return tensor.length
    entropy = order0_bits_of_counts(counts) / 8
    codebook = counts.size * _CODE_BYTES if tensor.element.startswith(("f", "bf")) else 0
    return min(tensor.length, round(entropy + codebook))


def _describe(piece: AnyPiece) -> str:
    if isinstance(piece, Copy):
        return f"copy of {piece.offset}"
    if isinstance(piece, Scaled):
        return f"scaled from {piece.offset}"
    if isinstance(piece, (Extremes, Ends)):
        return f"extremes of {piece.weights}"
    if isinstance(piece, Numbers):
        return f"{'exponent' if piece.is_float else 'logarithm'} and raw bits"
    grid = piece.grid
    contexts = f", {grid.num_contexts} contexts" if grid.num_contexts else ""
    if isinstance(piece, Integers):
        if grid.num_levels == 1:
            return "constant"
        kind = "predicted " if piece.has_taps else "peaked " if piece.has_peaks else ""
        return f"{kind}integers, {grid.num_levels} levels{contexts}"
    if isinstance(piece, Codebook):
        mask = " and mask" if piece.mask is not None else ""
        return f"codebook of {_num_values(piece)}{mask}{contexts}"
    return f"{'exponent' if piece.is_float else 'logarithm'} and raw bits"


def _num_values(piece: Codebook) -> int:
    return piece.values.size if isinstance(piece.values, Numbers) else piece.values.grid.columns
