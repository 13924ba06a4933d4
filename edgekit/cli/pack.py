"""`edgekit pack`, `unpack` and `inspect`: the `.ekz` packer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.bundle import show_bundle
from edgekit.cli.console import Bars, note, plain_table, print_json, show

if TYPE_CHECKING:
    from edgekit.encode.inspection import Inspection, TensorRow

_NAME_WIDTH = 40
_NAME_HEAD = 11
"""Characters of a long name that stay in front: as many as say "minimum of "."""

_TITLES = ("tensor", "shape", "dtype", "levels", "density", "before", "after", "order-0", "coded as")


def pack(
    file: Annotated[Path, typer.Argument(help="Model file: .tflite or .onnx (any other is compressed in general).")],
    out: Annotated[Path | None, typer.Option(help="Target; by default the same name with .ekz.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Pack a model file without loss: its weights are entropy-coded, and unpack gives back the identical bytes."""
    from edgekit.encode.files import pack_file

    with Bars() as bars:
        bars.begin("pack", file.stat().st_size if file.is_file() else 1)
        packed = pack_file(file, out, progress=bars.advance)
    if packed.num_tensors == 0:
        note(f"{file}: no tensors found, packed as plain bytes")
    if as_json:
        print_json(packed)
    else:
        ratio = packed.original_bytes / max(1, packed.ekz_bytes)
        show(f"{packed.path}: {packed.ekz_bytes:,} bytes, from {packed.original_bytes:,} ({ratio:.2f}x smaller)")


def unpack(
    file: Annotated[Path, typer.Argument(help="An .ekz file.")],
    out: Annotated[Path | None, typer.Option(help="Target; by default the same name as .tflite or .onnx.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Restore the file that was packed, and check its SHA-256."""
    from edgekit.encode.files import unpack_file

    with Bars() as bars:
        bars.begin("unpack", 1)
        unpacked = unpack_file(file, out)
    if as_json:
        print_json(unpacked)
    else:
        show(f"{unpacked.path}: {unpacked.original_bytes:,} bytes, SHA-256 as packed")


def inspect(
    file: Annotated[
        Path, typer.Argument(help="An .ekz file, one to see what packing would make of it, or a bundle (.ekb).")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show where the bytes go: every tensor before and after, its order-0 entropy, and how it is coded.

    Of a bundle: what it holds, for which boards, and what it has to answer. Everything in it is checked.
    """
    from edgekit.bundle.reading import is_bundle, open_bundle
    from edgekit.encode.inspection import inspect_file

    if is_bundle(file):
        show_bundle(open_bundle(file), as_json=as_json)
        return
    inspection = inspect_file(file)
    if as_json:
        print_json(inspection)
        return
    rows = map(_cells, inspection.tensors)
    show(plain_table(_TITLES, rows, left=("tensor", "shape", "coded as"), unbroken=_TITLES))
    for line in _totals(inspection):
        show(line)


def _cells(row: TensorRow) -> tuple[str, ...]:
    """One row under `_TITLES`."""
    return (
        _shortened(row.name),
        "x".join(map(str, row.shape)),
        row.dtype,
        f"{row.num_levels:,}",
        f"{row.density:.2f}",
        f"{row.bytes_before:,}",
        "-" if row.bytes_after is None else f"{row.bytes_after:,}",
        f"{row.entropy_bytes:,}",
        row.description,
    )


def _shortened(name: str) -> str:
    """Its beginning, which is the role of a parameter, and its end, which tells layers apart."""
    if len(name) <= _NAME_WIDTH:
        return name
    return f"{name[:_NAME_HEAD]}...{name[_NAME_HEAD + 3 - _NAME_WIDTH :]}"


def _totals(one: Inspection) -> list[str]:
    ratio = one.original_bytes / max(1, one.ekz_bytes)
    tensors = f"tensors {one.tensor_bytes_before:,} -> {one.tensor_bytes_after:,}"
    rest = f"the rest {one.residue_bytes_before:,} -> {one.residue_bytes_after:,}"
    return [
        f"{one.file}: {one.kind}, {one.original_bytes:,} bytes; packed {one.ekz_bytes:,} ({ratio:.2f}x smaller)",
        f"{tensors}, {rest}, header {one.header_bytes:,}; order-0 limit of the tensors {one.limit_bytes:,}",
    ]
