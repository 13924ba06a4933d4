"""Analytic bias correction (Nagel et al. 2019, section 4.2).

Rounding changes weights by dW, so the output of a layer shifts on average by E[dW * x] = dW * E[x]. The shift is known
from the mean of each input channel over the calibration pictures, and is taken off the bias. No pictures are run
again, and the memory does not depend on their number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.core.graph import Graph
from edgekit.quantize import operators
from edgekit.quantize.plan import Layer

_ROWS_AT_ONCE = 64
"""Of a dense layer's weights, in float64: the first of VGG's would take 0.8 GB at once."""


def mean_shift(
    graph: Graph,
    layer: Layer,
    weight_error: npt.NDArray[np.floating],
    input_means: npt.NDArray[np.floating],
) -> npt.NDArray[np.float64]:
    """Expected change of a layer's output per channel, E[dW * x], [out_channels].

    Zero padding is part of x: a tap that lies outside the picture for a share of the output positions counts that much
    less. Apart from this, every position of a channel is taken to have the channel's mean.

    Args:
        graph: The graph of the layer, for shapes.
        layer: The layer.
        weight_error: dW, real values, in the shape of the weight.
        input_means: E[x], [in_channels].
    """
    means = input_means.astype(np.float64)
    if layer.node.op == "Gemm":
        blocks = range(0, weight_error.shape[0], _ROWS_AT_ONCE)
        return np.concatenate([weight_error[row : row + _ROWS_AT_ONCE].astype(np.float64) @ means for row in blocks])
    error = weight_error.astype(np.float64)
    out_channels, in_per_group = error.shape[:2]
    group = layer.node.int("group")
    per_tap = error.reshape(group, out_channels // group, in_per_group, -1) @ _tap_shares(graph, layer)
    return (per_tap @ means.reshape(group, in_per_group, 1)).reshape(out_channels)


def _tap_shares(graph: Graph, layer: Layer) -> npt.NDArray[np.float64]:
    """Share of the output positions at which each kernel tap lies inside the picture, [kernel_h * kernel_w]."""
    node = layer.node
    inside = operators.pad(np.ones((1, 1, *graph.shapes[layer.input][2:])), node.ints("pads"))
    height, width = graph.constants[layer.weight].shape[2:]
    taps = operators.window_taps(inside, (height, width), node.ints("strides"), node.ints("dilations"))
    return np.array([tap.mean() for tap in taps])
