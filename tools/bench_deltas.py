"""A delta between two bundles, file by file: bsdiff as edgekit offers it, beside a zstd patch of the same files.

    python tools/bench_deltas.py OLD.ekb NEW.ekb

It needs zstandard, which edgekit does not (`pip install zstandard`). A zstd patch is what
`zstd --ultra -22 --long=27 --patch-from OLD` makes: the old file is the prefix of the window. It is
tried on every file, and for the model on the unpacked one, too, as bsdiff is. One JSON document on standard output:
`<file>_bsdiff_bytes` and `<file>_zstd_bytes`, each the smaller of packed and unpacked for the model, 0 for a file that
is the same; `delta_bytes` of the whole `.ekd`; `both_bytes`, what it would be with the smaller of both for each file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarking import Figure, arguments, print_document
from edgekit.bundle.check import NAMES
from edgekit.bundle.manifest import MODEL
from edgekit.bundle.reading import Bundle, open_bundle, read_file
from edgekit.deploy.deltas import make_delta, smallest_part
from edgekit.encode.codec import EkzCodec

_LEVEL, _WINDOW_LOG = 22, 27
_MAX_MODEL_BYTES = 1 << 30


def main() -> None:
    """Measure, and print the document."""
    parser = arguments(__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    given = parser.parse_args()
    print_document(measure(given.old, given.new))


def measure(old_path: Path, new_path: Path) -> dict[str, Figure]:
    """Sizes of all ways."""
    old, new = open_bundle(old_path), open_bundle(new_path)
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as scratch:
        report = make_delta(old_path, new_path, Path(scratch) / "delta.ekd")
    figures: dict[str, Figure] = {"full_bytes": report.full_bytes, "delta_bytes": report.delta_bytes}
    saved = 0
    for name in NAMES:
        part, payload = smallest_part(name, old, new)
        zstd = 0 if part.method == "same" else _zstd_bytes(name, old, new)
        saved += max(0, len(payload) - zstd)
        key = name.replace(".", "_").lower()
        figures |= {f"{key}_way": part.method, f"{key}_bsdiff_bytes": len(payload), f"{key}_zstd_bytes": zstd}
    return {**figures, "both_bytes": report.delta_bytes - saved}


def _zstd_bytes(name: str, old: Bundle, new: Bundle) -> int:
    before, after = read_file(old, name), read_file(new, name)
    sizes = [len(zstd_patch(before, after))]
    if name == MODEL:
        codec = EkzCodec()
        model = codec.unpack(after, _MAX_MODEL_BYTES)
        if codec.pack(model) == after:
            sizes.append(len(zstd_patch(codec.unpack(before, _MAX_MODEL_BYTES), model)))
    return min(sizes)


def zstd_patch(before: bytes, after: bytes) -> bytes:
    """A zstd frame of one file with another as its prefix, long matches on."""
    import zstandard  # pyright: ignore[reportMissingImports] - a peer, not a dependency

    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=_WINDOW_LOG, enable_ldm=True, write_checksum=False, write_content_size=False
    )
    prefix = zstandard.ZstdCompressionDict(before, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=prefix, compression_params=parameters).compress(after)


if __name__ == "__main__":
    main()
