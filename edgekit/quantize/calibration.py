"""What calibration pictures tell: a histogram per activation and the mean of every channel, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import QuantizationError
from edgekit.core.graph import Graph
from edgekit.quantize.histogram import Histogram, HistogramObserver
from edgekit.quantize.plan import plan_quantization


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of the float model's activations.

    Args:
        histograms: Activation name -> distribution of its values.
        channel_means: Activation name -> mean of every channel (axis 1), float64 [channels].
        num_pictures: Pictures seen.
    """

    histograms: Mapping[str, Histogram]
    channel_means: Mapping[str, npt.NDArray[np.float64]]
    num_pictures: int


def observed_activations(graph: Graph) -> tuple[str, ...]:
    """Names of the activations that `calibrate` reads: the others need not be computed or kept."""
    return plan_quantization(graph).observed


def calibrate(graph: Graph, batches: Iterable[Mapping[str, npt.NDArray[np.floating]]]) -> Calibration:
    """Watch the float model on calibration pictures.

    Args:
        graph: The float graph.
        batches: Per batch, activation name -> float array [n, ...] (NCHW), the graph's input among them. Each batch
            must hold at least `observed_activations(graph)`; more is ignored. Batches are read once, one at a time.

    Raises:
        QuantizationError: No pictures, an activation is missing, or a value is NaN or infinite (named).
    """
    observers = {name: _ActivationObserver(name) for name in observed_activations(graph)}
    num_pictures = 0
    for batch in batches:
        for name, observer in observers.items():
            if name not in batch:
                raise QuantizationError(f"calibration batch lacks activation {name}", hint="run all observed outputs")
            observer.update(batch[name])
        num_pictures += int(batch[graph.input].shape[0]) if graph.input in batch else 0
    if num_pictures == 0:
        raise QuantizationError(
            f"{graph.name}: static quantization needs calibration pictures, got none",
            hint="give --data a folder with pictures; 256 are plenty, one is enough to run",
        )
    return Calibration(
        histograms={name: observer.histogram.finish() for name, observer in observers.items()},
        channel_means={name: observer.means() for name, observer in observers.items()},
        num_pictures=num_pictures,
    )


class _ActivationObserver:
    """Histogram and channel means of one activation."""

    def __init__(self, name: str) -> None:
        self.histogram = HistogramObserver(name)
        self._sums: npt.NDArray[np.float64] | float = 0.0
        self._num_positions = 0

    def update(self, values: npt.NDArray[np.floating]) -> None:
        self.histogram.update(values)
        axes = (0, *range(2, values.ndim))
        self._sums = self._sums + values.sum(axis=axes, dtype=np.float64)
        self._num_positions += values.size // values.shape[1]

    def means(self) -> npt.NDArray[np.float64]:
        return np.asarray(self._sums / max(self._num_positions, 1))
