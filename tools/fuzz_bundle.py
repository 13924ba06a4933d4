"""Coverage-guided fuzzing of what reads bundles and deltas (needs atheris, which is no dependency).

    PYTHONPATH=tests python tools/fuzz_bundle.py /tmp/corpus -max_total_time=600

The first byte of an input says what the rest is: a whole `.ekb` file; a manifest, put into an otherwise good bundle
whose hashes are made to fit; the other files of a bundle, with a manifest that fits them; or a whole delta. An empty
corpus is given one good example of each. The readers may raise IntegrityError and nothing else, and take no more memory
than what is there.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris")  # no dependency, not even of the tests

with atheris.instrument_imports(include=["edgekit.bundle"]):
    import msgspec

    from bundles import plain_files, plain_manifest
    from edgekit.bundle.archive import encode_archive
    from edgekit.bundle.check import parse_manifest
    from edgekit.bundle.delta import read_header
    from edgekit.bundle.manifest import MANIFEST, describe_file, encode_manifest
    from edgekit.bundle.reading import open_bundle
    from edgekit.core.errors import IntegrityError

PATH = Path("/dev/shm/edgekit-fuzz.ekb")  # noqa: S108 - in memory, a name of its own
SPLITTER = b"\xff--\xff"


def main() -> None:
    """Fuzz until told to stop."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        for number, seed in enumerate(seeds()):
            (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup(sys.argv, read_anything)
    atheris.Fuzz()


def seeds() -> list[bytes]:
    """One good input of each kind but the last, which begins as a delta does."""
    files = plain_files()
    manifest = encode_manifest(plain_manifest())
    whole = encode_archive({MANIFEST: manifest, **files})
    return [b"\0" + whole, b"\1" + manifest, b"\2" + SPLITTER.join(files.values()), b"\3" + whole]


def read_anything(content: bytes) -> None:
    """One input."""
    kind, rest = content[:1], content[1:]
    if kind == b"\3":
        PATH.write_bytes(rest)
        try:
            read_header(PATH)
        except IntegrityError:
            return
        return
    whole = rest if kind == b"\0" else with_manifest(rest) if kind == b"\1" else with_files(rest)
    if whole is None:
        return
    PATH.write_bytes(whole)
    try:
        open_bundle(PATH)
    except IntegrityError:
        return


def with_manifest(content: bytes) -> bytes | None:
    """A bundle of good files with this manifest; where it can be read at all, its hashes are made to fit."""
    files = plain_files()
    try:
        manifest = parse_manifest(content)
    except IntegrityError:
        return encode_archive({MANIFEST: content, **files})
    entries = tuple(describe_file(name, one) for name, one in sorted(files.items()))
    return encode_archive({MANIFEST: encode_manifest(msgspec.structs.replace(manifest, files=entries)), **files})


def with_files(content: bytes) -> bytes | None:
    """A bundle of these files with a manifest that fits them."""
    parts = content.split(SPLITTER)
    names = list(plain_files())
    if len(parts) != len(names):
        return None
    files = dict(zip(names, parts, strict=True))
    return encode_archive({MANIFEST: encode_manifest(plain_manifest(files)), **files})


if __name__ == "__main__":
    main()
