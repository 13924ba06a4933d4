"""What calibration pictures tell of single channels: how far each reaches, its mean and its spread.

`calibrate` keeps one histogram per activation, because an activation has one grid. Equalization moves ranges between
the channels of an activation, so it must see them apart. It needs four numbers per channel, in one pass over the
pictures before the one that calibrates (whose ranges equalization changes).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import QuantizationError

Channels: TypeAlias = npt.NDArray[np.float64]
"""float64 [channels]."""


class ChannelRange(msgspec.Struct, frozen=True, kw_only=True):
    """The channels of one activation, over all pictures and positions; every array is float64 [channels].

    Args:
        lowest: Smallest value.
        highest: Largest value.
        mean: Mean.
        variance: Mean squared distance from the mean.
    """

    lowest: Channels
    highest: Channels
    mean: Channels
    variance: Channels

    @property
    def reach(self) -> Channels:
        """Largest magnitude."""
        return np.maximum(np.abs(self.lowest), np.abs(self.highest))

    @property
    def energy(self) -> Channels:
        """Mean square."""
        return self.variance + self.mean**2


def observe_channels(
    names: Collection[str], batches: Iterable[Mapping[str, npt.NDArray[np.floating]]]
) -> dict[str, ChannelRange]:
    """Watch the float model's channels on calibration pictures, in memory that does not depend on their number.

    Args:
        names: Activations to watch (`equalization.watched_activations`).
        batches: Per batch, activation name -> float array [n, channels, ...], as `calibrate` takes them; more than
            `names` is ignored.

    Raises:
        QuantizationError: No pictures, an activation is missing, or a value is NaN or infinite (named).
    """
    observers = {name: _Observer(name) for name in names}
    num_batches = 0
    for batch in batches:
        num_batches += 1
        for name, observer in observers.items():
            if name not in batch:
                raise QuantizationError(f"calibration batch lacks activation {name}", hint="run all watched outputs")
            observer.update(batch[name])
    if num_batches == 0:
        raise QuantizationError("channel ranges need calibration pictures, got none", hint="one is enough to run")
    return {name: observer.finish() for name, observer in observers.items()}


class _Observer:
    """Running moments of one activation, merged batch by batch (Chan, Golub and LeVeque 1979, eq. 2.1)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._num_values = 0
        self._seen: ChannelRange | None = None

    def update(self, values: npt.NDArray[np.floating]) -> None:
        if values.size == 0:
            return
        axes = (0, *range(2, values.ndim))
        num_values = values.size // values.shape[1]
        lowest = values.min(axis=axes).astype(np.float64)
        highest = values.max(axis=axes).astype(np.float64)
        if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
            raise QuantizationError(
                f"activation {self.name}: expected finite values, got NaN or infinity in a calibration batch",
                hint="the float model overflows, or a calibration picture is not normalized as in training",
            )
        mean = values.mean(axis=axes, dtype=np.float64)
        variance = values.var(axis=axes, dtype=np.float64)
        seen = ChannelRange(lowest=lowest, highest=highest, mean=mean, variance=variance)
        if self._seen is not None:
            seen = _merge((self._seen, self._num_values), (seen, num_values))
        self._seen = seen
        self._num_values += num_values

    def finish(self) -> ChannelRange:
        if self._seen is None:
            raise QuantizationError(f"activation {self.name}: no calibration values")
        return self._seen


def _merge(first: tuple[ChannelRange, int], second: tuple[ChannelRange, int]) -> ChannelRange:
    (a, num_a), (b, num_b) = first, second
    share = num_b / (num_a + num_b)
    shift = b.mean - a.mean
    return ChannelRange(
        lowest=np.minimum(a.lowest, b.lowest),
        highest=np.maximum(a.highest, b.highest),
        mean=a.mean + share * shift,
        variance=(1 - share) * a.variance + share * b.variance + share * (1 - share) * shift**2,
    )
