"""How good features are at finding pictures of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError
from edgekit.core.features import Closeness, PrecisionAtK
from edgekit.core.measurement import wilson_interval
from edgekit.retrieval.nearest import nearest_others, similarities, to_unit

Features = npt.NDArray[np.float32]

DEFAULT_K = (1, 5, 10)


def precision_at_k(
    features: Features, labels: npt.NDArray[np.integer[Any]], ks: Sequence[int] = DEFAULT_K
) -> tuple[PrecisionAtK, ...]:
    """Precision at k of every picture against all others, by cosine (Manning et al. 2008, section 8.4).

    Args:
        features: float32 [n, d].
        labels: [n].
        ks: How many are found; a k of n or more is left out, there are not so many others.

    Raises:
        DataError: As many labels as pictures are needed, and k of at least 1.
        GraphError: Features that are not finite.
    """
    if len(labels) != len(features) or min(ks, default=1) < 1:
        raise DataError(f"{len(labels)} labels for {len(features)} pictures, k {list(ks)}: expected as many, k above 0")
    num = len(features)
    wanted = [k for k in ks if k < num]
    if not wanted:
        return ()
    found = nearest_others(to_unit(features), max(wanted))
    is_right = labels[found] == labels[:, np.newaxis]
    rows: list[PrecisionAtK] = []
    for k in wanted:
        share = float(is_right[:, :k].mean())
        rows.append(PrecisionAtK(k=k, share=share, ci95=wilson_interval(share * num, num), n=num))
    return tuple(rows)


def closeness(features: Features, reference: Features) -> Closeness:
    """Cosine of each picture's features with the float model's, [n, d] both.

    A picture in which neither sees anything (zeros) counts as the same.

    Raises:
        DataError: Shapes that differ, or no picture.
        GraphError: Features that are not finite.
    """
    if features.shape != reference.shape or not len(features):
        raise DataError(f"features of shapes {list(features.shape)} and {list(reference.shape)} cannot be compared")
    ours, theirs = to_unit(features), to_unit(reference)
    cosines = np.array([similarities(one, other[np.newaxis])[0] for one, other in zip(ours, theirs, strict=True)])
    both_empty = ~ours.any(axis=1) & ~theirs.any(axis=1)
    cosines[both_empty] = 1.0
    return Closeness(mean=float(cosines.mean()), least=float(cosines.min()), n=len(cosines))
