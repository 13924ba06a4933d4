"""What a corruption is, and how one is applied.

Fifteen corruptions in four families, each in five severities, as Hendrycks and Dietterich (2019, "Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations") define them. Pictures up to 64 pixels get the parameters
of CIFAR-10-C, larger ones those of ImageNet-C; where a file deviates from what was published, it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.catalogue import Catalogue
from edgekit.core.errors import DataError, UsageError

Pictures: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]
Family: TypeAlias = Literal["noise", "blur", "weather", "digital"]

FAMILIES: tuple[Family, ...] = ("noise", "blur", "weather", "digital")
SEVERITIES = (1, 2, 3, 4, 5)
SMALL_SIDE = 64
"""Short sides up to this many pixels get the parameters of CIFAR-10-C."""
MIN_SIDE = 8
"""Short sides below this are refused: the kernels would be larger than what they blur."""
_CHUNK = 128
"""Pictures that are changed at once: bounds memory. Another number would be another draw."""


class Corruption(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which a picture goes bad.

    Args:
        name: Id, equal to the file name of its module.
        title: In words.
        family: Which of the four it belongs to.
        small: Parameters of severity 1 to 5 for small pictures.
        large: The same for large ones.
        change: (float32 pictures [n, h, w, c] in 0..1, parameters, randomness) -> the same shape; need not be clipped.
    """

    name: str
    title: str
    family: Family
    small: tuple[Any, Any, Any, Any, Any]
    large: tuple[Any, Any, Any, Any, Any]
    change: Callable[[Floats, Any, np.random.Generator], Floats]


CORRUPTIONS = Catalogue("edgekit.perturb.corruptions", "CORRUPTION", Corruption, "corruption")


def list_corruptions() -> tuple[Corruption, ...]:
    """Every corruption, family by family."""
    every = [CORRUPTIONS.load(name) for name in CORRUPTIONS.names]
    return tuple(sorted(every, key=lambda one: (FAMILIES.index(one.family), one.name)))


def corrupt(corruption: Corruption, pictures: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Apply a corruption to pictures.

    Args:
        corruption: Which.
        pictures: uint8 [n, height, width, 1 or 3], RGB.
        severity: 1 to 5.
        rng: Randomness: the same state gives the same pictures.

    Returns:
        uint8 in the same shape.

    Raises:
        UsageError: Another severity.
        DataError: No such pictures, or a short side below 8 pixels.
    """
    check_pictures(pictures)
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity} of {corruption.name} does not exist, expected 1 to 5")
    side = min(pictures.shape[1:3])
    if side < MIN_SIDE:
        raise DataError(
            f"{corruption.name} needs pictures of at least {MIN_SIDE} pixels, got {list(pictures.shape[1:3])}",
            hint="measure robustness on a model with a larger input",
        )
    parameters = (corruption.small if side <= SMALL_SIDE else corruption.large)[severity - 1]
    changed = np.empty_like(pictures)
    for start in range(0, len(pictures), _CHUNK):
        values = np.divide(pictures[start : start + _CHUNK], 255, dtype=np.float32)
        changed[start : start + _CHUNK] = to_pixels(corruption.change(values, parameters, rng))
    return changed


def to_pixels(values: npt.NDArray[np.floating[Any]]) -> Pictures:
    """0..1 to uint8, rounded; what lies outside is clipped."""
    return np.rint(np.clip(values, 0.0, 1.0) * 255).astype(np.uint8)


def check_pictures(pictures: Pictures) -> None:
    """Refuse what is no batch of pictures.

    Raises:
        DataError: Not uint8 [n, height, width, 1 or 3] with pixels.
    """
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] not in (1, 3) or 0 in pictures.shape[1:]:
        raise DataError(
            f"pictures are {pictures.dtype} {list(pictures.shape)}, "
            "expected uint8 [n, height, width, 1 or 3] with pixels"
        )
