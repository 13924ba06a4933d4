"""Folders of pictures (placeholder while the reader lands)."""

from __future__ import annotations

from edgekit.data.memory import MemorySource


class FolderSource(MemorySource):
    """Pictures in a folder of class folders."""
