"""Deltas on the board: the installed release and a patch make the bundle that is to be installed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator
from pathlib import Path

from edgekit.agent.install.disk import CURRENT
from edgekit.bundle.archive import EXTENSION
from edgekit.bundle.delta import DELTA_EXTENSION, apply_delta
from edgekit.bundle.reading import open_bundle
from edgekit.core.errors import OutputError, UsageError
from edgekit.encode.codec import EkzCodec


@contextlib.contextmanager
def full_bundle(path: Path, state_dir: Path) -> Generator[Path, None, None]:
    """Give a whole bundle: the path itself, or what a delta (`.ekd`) makes of the release that serves.

    Args:
        path: Bundle, or delta.
        state_dir: Folder with `current`.

    Raises:
        UsageError: No release is installed, or the delta is for another one.
        IntegrityError, DataError, OutputError: As `apply_delta`.
    """
    if path.suffix.lower() != DELTA_EXTENSION:
        yield path
        return
    base = state_dir / CURRENT
    if not base.is_dir():
        raise UsageError(f"{path} is a delta, and no release is installed", hint="install a whole bundle first")
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-delta-"))
        except OSError as error:
            raise OutputError(f"no place for the bundle: {error.strerror or error}") from error
        yield apply_delta(path, open_bundle(base), Path(folder) / f"bundle{EXTENSION}", EkzCodec()).path
