"""What a page of the docs says about the types of a document."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec


def described_structs(page: Path, document: type[msgspec.Struct]) -> set[str]:
    """Names of the structs that a document holds; each has a section of the page, which names every field of it."""
    sections = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pending: list[Any] = [msgspec.inspect.type_info(document)]
    seen: set[str] = set()
    while pending:
        kind = pending.pop()
        if isinstance(kind, msgspec.inspect.UnionType):
            pending += kind.types
        elif isinstance(kind, msgspec.inspect.VarTupleType):
            pending.append(kind.item_type)
        elif isinstance(kind, msgspec.inspect.StructType) and kind.cls.__module__ == document.__module__:
            name = kind.cls.__name__
            seen.add(name)
            section = next(text for text in sections if f"`{name}`" in text.splitlines()[0])
            assert [field.name for field in kind.fields if f"`{field.name}`" not in section] == []
            pending += [field.type for field in kind.fields]
    return seen
