"""Nearest by cosine: exact, and the same order every time, whatever the sizes of the blocks that it is computed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError

Vectors: TypeAlias = npt.NDArray[np.float32]

_BLOCK = 512
"""Queries whose similarities to all others are held at once: 20 MB with 10,000 vectors."""
_ROUNDING = 1e-5
"""More than a sum of products of unit vectors in float32 is off by."""
_MOST_RESCORED = 1024
"""Of more candidates that tie with the k-th, only the similarities in float32 decide: they are next to equal."""


def to_unit(features: npt.NDArray[np.float32]) -> Vectors:
    """Vectors of length 1, float32 [n, d]; zeros stay zeros, and are like nothing.

    Raises:
        GraphError: NaN or infinity among them.
    """
    if not bool(np.isfinite(features).all()):
        raise GraphError("features are NaN or infinite", hint="verify the extractor: edgekit embed makes it again")
    wide = features.astype(np.float64)
    length = np.sqrt(np.square(wide).sum(axis=1, keepdims=True))
    return np.divide(wide, length, out=np.zeros_like(wide), where=length > 0).astype(np.float32)


def similarities(query: Vectors, vectors: Vectors) -> npt.NDArray[np.float64]:
    """Cosine of one vector [d] with each of [n, d], float64 [n]; equal vectors get equal values, and 1 for the query.

    Unit vectors in float32 are off by 1e-8 from length 1, so the lengths are divided by once more.
    """
    wide, one = vectors.astype(np.float64), query.astype(np.float64)
    lengths = np.sqrt(np.square(wide).sum(axis=1) * np.square(one).sum())
    products = (wide * one).sum(axis=1)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return np.minimum(cosines, 1.0)


class Best:
    """The best of a stream of scored things, in memory for `k` of them.

    Args:
        k: How many are kept; of equal ones the earlier.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._scores = np.empty(0, np.float64)
        self._names: list[str] = []

    def add(self, scores: npt.NDArray[np.float64], names: Sequence[str]) -> None:
        """Take the next of the stream, in order."""
        joined = np.concatenate([self._scores, scores])
        everyone = [*self._names, *names]
        order = np.argsort(-joined, kind="stable")[: self._k]
        self._scores = joined[order]
        self._names = [everyone[int(index)] for index in order]

    @property
    def ranked(self) -> tuple[tuple[str, float], ...]:
        """(name, score), the best first."""
        return tuple((name, float(score)) for name, score in zip(self._names, self._scores, strict=True))


def nearest_others(vectors: Vectors, k: int) -> npt.NDArray[np.int64]:
    """The k nearest other vectors of each vector: int64 [n, k], the nearest first, of equally near ones the earlier.

    Blocks of products in float32 find candidates, exact sums put them in order.

    Args:
        vectors: Unit vectors [n, d].
        k: 1 to n - 1.
    """
    num = len(vectors)
    found = np.empty((num, k), np.int64)
    for start in range(0, num, _BLOCK):
        block: Vectors = np.matmul(vectors[start : start + _BLOCK], np.transpose(vectors))
        for row, scores in enumerate(block):
            query = start + row
            scores[query] = -np.inf
            found[query] = _best_of(scores, vectors, query, k)
    return found


def _best_of(scores: Vectors, vectors: Vectors, query: int, k: int) -> npt.NDArray[np.int64]:
    """Positions of the k best of one row of similarities."""
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    candidates = np.flatnonzero(scores >= threshold - _ROUNDING)
    candidates = candidates[candidates != query]
    if len(candidates) > _MOST_RESCORED + k:
        values = np.round(scores[candidates].astype(np.float64), 5)
    else:
        values = similarities(vectors[query], vectors[candidates])
    return candidates[np.argsort(-values, kind="stable")[:k]]
