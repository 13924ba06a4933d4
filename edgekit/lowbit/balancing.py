"""Balance channels between layers before they are quantized, on what calibration pictures show of them."""

from __future__ import annotations

import msgspec

from edgekit.core.progress import Progress
from edgekit.core.recipe import QuantizeSection
from edgekit.data.dataset import Source
from edgekit.data.reading import iterate_batches
from edgekit.export.activations import fitting_batch_size, float_activations
from edgekit.export.hub import HubModel
from edgekit.lowbit.calibrating import drawn
from edgekit.quantize.channel_ranges import observe_channels
from edgekit.quantize.equalization import equalize, watched_activations


def balance(hub: HubModel, source: Source, config: QuantizeSection, progress: Progress) -> HubModel:
    """The same model with channels balanced between its layers (cross-layer equalization) and high biases absorbed.

    Args:
        hub: The float model.
        source: Calibration pictures.
        config: How many, and the seed.
        progress: Shows that it goes on.

    Raises:
        QuantizationError: A value that is not finite; names it.
    """
    names = watched_activations(hub.graph)
    if not names:
        return hub
    progress.begin("balance channels", 1)
    batches = iterate_batches(
        source,
        hub.card.preprocess,
        batch_size=fitting_batch_size(hub.graph),
        indices=drawn(source, config),
    )
    seen = observe_channels(names, float_activations(hub.graph, hub.card.preprocess, batches, names))
    graph = equalize(hub.graph, seen)
    progress.advance()
    progress.end()
    return msgspec.structs.replace(hub, graph=graph)
