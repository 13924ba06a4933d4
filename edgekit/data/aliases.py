"""Names that the user gave to folders of pictures, kept in a small JSON file in the user's configuration folder."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import platformdirs

from edgekit.core.errors import DataError, UsageError
from edgekit.core.storage import write_bytes
from edgekit.data.dataset import DATASETS
from edgekit.data.folder import list_pictures

_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def aliases_path() -> Path:
    """File that holds the names; may not exist yet."""
    return platformdirs.user_config_path("edgekit") / "datasets.json"


def read_aliases() -> dict[str, str]:
    """Read the user's names: name -> absolute path of the folder. Empty when nothing was added.

    Raises:
        DataError: The file is damaged.
    """
    path = aliases_path()
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            f"cannot read {path}: {error}", hint="delete it, then add your datasets again with `edgekit data add`"
        ) from error


def add_dataset(name: str, folder: Path) -> None:
    """Give a folder of pictures a name that `--data` takes. An earlier folder of that name is replaced.

    Raises:
        UsageError: The name has other characters than letters, digits, `_` and `-`, or is in the catalogue.
        DataError: No folder, or no pictures in it.
        OutputError: The configuration folder cannot be written.
    """
    if not _NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f"{name!r} is no dataset name", hint="use letters, digits, _ and -, beginning with a letter or a digit"
        )
    if name in DATASETS.names:
        raise UsageError(f"{name!r} is a dataset of the catalogue", hint="choose another name")
    folder = folder.expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder" if folder.exists() else f"no folder {folder}")
    if not list_pictures(folder):
        raise DataError(f"{folder} holds no pictures", hint="expected a folder of class folders, or of pictures")
    aliases = {**read_aliases(), name: str(folder.resolve())}
    write_bytes(aliases_path(), msgspec.json.format(msgspec.json.encode(aliases, order="sorted")) + b"\n")
