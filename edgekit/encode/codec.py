"""The packer on bytes in memory, for models that are small enough to be held."""

from __future__ import annotations

import io

from edgekit.encode.packing import pack
from edgekit.encode.unpacking import MemorySink, unpack


class EkzCodec:
    """Packs models and unpacks them again; what deltas between releases are made through."""

    def unpack(self, packed: bytes, max_bytes: int) -> bytes:
        """The model in an `.ekz` file of at most `max_bytes`. Raises IntegrityError."""
        sink = MemorySink()
        unpack(io.BytesIO(packed), len(packed), sink, max_bytes=max_bytes)
        return bytes(sink.content)

    def pack(self, model: bytes) -> bytes:
        """An `.ekz` file of a model."""
        return pack(model).content
