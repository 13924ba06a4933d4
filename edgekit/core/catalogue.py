"""The folder is the catalogue: the file name is the id, each file offers one typed constant.

Nothing is imported until it is asked for, so listing names costs a directory listing. There is no registry to edit
and no import side effect: to add an entry, add a file.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from edgekit.core.errors import UnknownNameError

EntryT = TypeVar("EntryT")


class Catalogue(Generic[EntryT]):
    """Entries of one package folder.

    Args:
        package: Dotted name of the package whose modules are the entries.
        constant: Name of the constant that every module offers.
        entry_type: Its type; anything else is a programming error and raises `TypeError`.
        kind: What an entry is called in messages ("architecture", "dataset").
    """

    def __init__(self, package: str, constant: str, entry_type: type[EntryT], kind: str) -> None:
        self.package = package
        self.constant = constant
        self.entry_type = entry_type
        self.kind = kind

    @cached_property
    def names(self) -> tuple[str, ...]:
        """File names of the entries, sorted. Imports none of them."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"catalogue package {self.package} is missing")
        folders = [Path(location) for location in spec.submodule_search_locations]
        stems = {path.stem for folder in folders for path in folder.glob("*.py")}
        return tuple(sorted(stem for stem in stems if not stem.startswith("_")))

    def load(self, name: str) -> EntryT:
        """Import one entry and return its constant.

        Raises:
            UnknownNameError: No file of that name; the message carries the nearest one.
        """
        if name not in self.names:
            raise UnknownNameError(self.kind, name, self.names)
        entry = getattr(importlib.import_module(f"{self.package}.{name}"), self.constant)
        if not isinstance(entry, self.entry_type):
            raise TypeError(f"{self.package}.{name}.{self.constant} is no {self.entry_type.__name__}")
        return entry
