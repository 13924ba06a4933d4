"""Calibration pictures: drawn once, with the recipe's seed, and shown to whoever asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekit.core.errors import UsageError
from edgekit.core.progress import Progress
from edgekit.core.recipe import QuantizeSection
from edgekit.data.dataset import Source
from edgekit.data.drawing import draw_order
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.export.activations import fitting_batch_size, float_activations
from edgekit.export.hub import HubModel
from edgekit.quantize.calibration import Calibration, calibrate, observed_activations
from edgekit.quantize.walk import Pictures
from edgekit.runtime.preprocess import normalize


def run_calibration(
    hub: HubModel,
    source: Source,
    config: QuantizeSection,
    progress: Progress,
    unreadable: UnreadableLog | None = None,
) -> Calibration:
    """Watch the float model on calibration pictures, drawn with the recipe's seed.

    Args:
        hub: The model.
        source: Calibration pictures.
        config: How many, and the seed.
        progress: Shows how far it is.
        unreadable: Where pictures that cannot be read are logged.

    Raises:
        QuantizationError: No pictures, or activations that are not finite.
        DataError: Too many unreadable pictures.
        UsageError: Less than one picture wanted.
    """
    chosen = drawn(source, config)
    progress.begin("calibrate", len(chosen))
    batches = iterate_batches(
        source, hub.card.preprocess, batch_size=fitting_batch_size(hub.graph), indices=chosen, unreadable=unreadable
    )

    def activations() -> Iterator[Mapping[str, npt.NDArray[np.float32]]]:
        for batch in float_activations(hub.graph, hub.card.preprocess, batches, observed_activations(hub.graph)):
            yield batch
            progress.advance(len(batch[hub.graph.input]))

    calibration = calibrate(hub.graph, activations())
    progress.end()
    return calibration


def drawn(source: Source, config: QuantizeSection) -> npt.NDArray[np.int64]:
    """Indices of the calibration pictures.

    Raises:
        UsageError: Less than one picture wanted.
    """
    if config.num_calibration < 1:
        raise UsageError(f"quantize.num_calibration is {config.num_calibration}, expected at least 1")
    return np.asarray(draw_order(len(source), seed=config.seed)[: config.num_calibration], np.int64)


def held_out(source: Source, config: QuantizeSection, num_pictures: int) -> npt.NDArray[np.int64]:
    """Indices of pictures of the same source that calibration does not see, at most so many."""
    order = draw_order(len(source), seed=config.seed)
    return np.asarray(order[config.num_calibration : config.num_calibration + num_pictures], np.int64)


def pictures_of(hub: HubModel, source: Source, indices: npt.NDArray[np.int64]) -> Pictures:
    """Batches of normalized pictures, float32 [n, c, h, w], anew at every call; unreadable ones are left out."""

    def batches() -> Iterator[Tensor]:
        for pictures, _ in labelled(hub, source, indices):
            yield pictures

    return batches


def labelled(
    hub: HubModel, source: Source, indices: npt.NDArray[np.int64]
) -> Iterator[tuple[Tensor, npt.NDArray[np.int64] | None]]:
    """Batches of normalized pictures with their labels, where there are labels."""
    spec = hub.card.preprocess
    size = fitting_batch_size(hub.graph)
    for batch in iterate_batches(source, spec, batch_size=size, indices=indices, unreadable=UnreadableLog()):
        # Channels last: what torch's convolutions on a CPU like best.
        x = torch.from_numpy(normalize(batch.pictures, spec)).contiguous(memory_format=torch.channels_last)
        yield x, batch.labels
