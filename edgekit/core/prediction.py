"""What a classifier answers."""

from __future__ import annotations

import msgspec


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Answer for one picture.

    Args:
        label: Name of the most likely class.
        index: Its index.
        confidence: Its softmax probability, 0..1.
        top: The k most likely (label, probability) pairs, best first.
    """

    label: str
    index: int
    confidence: float
    top: tuple[tuple[str, float], ...]
