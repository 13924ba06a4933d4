"""The FAT partition inside an image, through mtools: one small file is read, and one is replaced."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from edgekit.core.errors import DataError
from edgekit.deploy.image.programs import run_program

COMMAND_LINE = "cmdline.txt"
_LINK = "card"


def read_boot_file(image_path: Path, offset: int, name: str) -> bytes | None:
    """Content of a file at the top of a FAT partition; None when there is none of that name.

    Raises:
        MissingDependencyError: mtools is missing.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder_name:
        folder = Path(folder_name)
        ran = run_program("mcopy", ["-n", "-i", _linked(image_path, folder, offset), f"::{name}", "out"], folder)
        target = folder / "out"
        return target.read_bytes() if ran.returncode == 0 and target.is_file() else None


def write_boot_file(image_path: Path, offset: int, name: str, content: bytes, date_unix_s: int) -> None:
    """Replace a file at the top of a FAT partition, or make it.

    Raises:
        DataError: mtools did not do it; the file system is not to be used any more.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder_name:
        folder = Path(folder_name)
        (folder / "in").write_bytes(content)
        os.utime(folder / "in", (date_unix_s, date_unix_s))
        target = _linked(image_path, folder, offset)
        ran = run_program("mcopy", ["-o", "-m", "-i", target, "in", f"::{name}"], folder, date_unix_s)
        if ran.returncode != 0 or read_boot_file(image_path, offset, name) != content:
            said = ran.stderr.decode(errors="replace").strip().replace("\n", " / ") or "it reads back as something else"
            raise DataError(f"cannot write {name} on the boot partition: {said}")


def _linked(image_path: Path, folder: Path, offset: int) -> str:
    link = folder / _LINK
    if not link.is_symlink():
        link.symlink_to(image_path.absolute())
    return f"{_LINK}@@{offset}"
