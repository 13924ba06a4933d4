"""What layers respond to: the channels that a picture drives most, and what in it each of them sees.

Zeiler and Fergus 2014, arXiv:1311.2901, section 2.1: one response is kept, all others of its layer are set to zero, and
it is projected back to the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from edgekit.core.errors import UnknownNameError
from edgekit.core.explanation import ChannelResponse, LayerResponses
from edgekit.core.graph import WEIGHTED_OPS, Graph, Node
from edgekit.explain.gradients import FloatImage, deconvolve_channel, has_positions
from edgekit.explain.rectified import RectifiedNetwork

NUM_LAYERS = 4
"""Layers that are looked at unless some are named: the first, the last, and two between them."""
NUM_CHANNELS = 6
_FAINT = 0.05
"""Pixels below this share of the strongest are not part of what a channel sees."""
_SMALLEST_SIDE = 8


def choose_layers(graph: Graph, names: Sequence[str] = ()) -> tuple[Node, ...]:
    """The layers to look at, in the order of the network.

    Args:
        graph: Float graph.
        names: Layers by name; none for four, evenly spread over those with maps or tokens, or over all but the
            last where none has.

    Raises:
        UnknownNameError: No such layer.
    """
    layers = [node for node in graph.nodes if node.op in WEIGHTED_OPS]
    if names:
        known = {node.name: node for node in layers}
        for name in names:
            if name not in known:
                raise UnknownNameError("layer", name, known)
        return tuple(node for node in layers if node.name in set(names))
    candidates = [node for node in layers if has_positions(graph, node.output)] or layers[:-1]
    picked = np.unique(np.linspace(0, len(candidates) - 1, NUM_LAYERS).round().astype(int)) if candidates else ()
    return tuple(candidates[index] for index in picked)


def measure_layer(
    network: RectifiedNetwork, node: Node, x: Tensor, num_channels: int
) -> tuple[LayerResponses, tuple[FloatImage, ...]]:
    """The strongest channels of a layer, and the deconvolution of each one's strongest response.

    Args:
        network: The float network.
        node: Layer.
        x: One normalized picture [1, c, h, w].
        num_channels: Most channels; those that are nowhere above 0 do not count.

    Returns:
        The responses, and as many images [h, w, c].
    """
    values = network.activation(node.output, x)[0].numpy()
    is_tokens = values.ndim == 2
    if is_tokens:  # [t, c]: channels first, as in maps
        values = values.T
    flat = values.reshape(len(values), -1)
    strongest = flat.max(axis=1)
    responding = np.flatnonzero(strongest > 0)
    order = responding[np.argsort(-strongest[responding], kind="stable")][:num_channels]
    channels: list[ChannelResponse] = []
    images: list[FloatImage] = []
    for channel in order.tolist():
        place = np.unravel_index(int(flat[channel].argmax()), values.shape[1:])
        position = tuple(int(index) for index in place)
        selected = (*position, channel) if is_tokens else (channel, *position)
        image = deconvolve_channel(network, x, node.output, selected)
        row, column = (*position, 0, 0)[:2]
        channels.append(
            ChannelResponse(
                channel=channel, response=float(strongest[channel]), row=row, column=column, box=visible_box(image)
            )
        )
        images.append(image)
    responses = LayerResponses(
        layer=node.name,
        op="DepthwiseConv" if network.graph.is_depthwise(node) else node.op,
        shape=tuple(values.shape),
        num_responding=len(responding),
        channels=tuple(channels),
    )
    return responses, tuple(images)


def visible_box(image: FloatImage) -> tuple[int, int, int, int]:
    """The smallest square part of a deconvolution that holds all but its faint pixels: top, left, bottom, right.

    Where a side of the picture is in the way the part is moved, and where the picture is too short it is cut off.

    >>> image = np.zeros((20, 30, 1), np.float32)
    >>> image[9:19, 2:6] = 1.0
    >>> visible_box(image)
    (9, 0, 19, 10)
    """
    strength = np.abs(image).max(axis=2)
    if strength.max() == 0:
        return (0, 0, image.shape[0], image.shape[1])
    visible = strength > _FAINT * strength.max()
    spans = [_span(visible.any(axis=axis)) for axis in (1, 0)]
    side = max(_SMALLEST_SIDE, *(end - start for start, end in spans))
    (top, bottom), (left, right) = (_widen(span, side, size) for span, size in zip(spans, strength.shape, strict=True))
    return (top, left, bottom, right)


def _span(seen: npt.NDArray[np.bool_]) -> tuple[int, int]:
    positions = np.flatnonzero(seen)
    return int(positions[0]), int(positions[-1]) + 1


def _widen(span: tuple[int, int], side: int, size: int) -> tuple[int, int]:
    side = min(side, size)
    start = min(max(0, (span[0] + span[1] - side) // 2), size - side)
    return start, start + side
