"""Networks to equalize and their comparison, for the tests of equalization."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from edgekit.core.graph import Graph
from edgekit.export.torch_graph import trace
from edgekit.export.unshuffle import unshuffle
from edgekit.models.architecture import BuildOptions
from edgekit.models.zoo import build_model, parse_model_name
from edgekit.quantize.channel_ranges import ChannelRange, observe_channels
from edgekit.quantize.equalization import watched_activations
from edgekit.quantize.execute import run_float


def small_family(variant: str) -> Graph:
    """An untrained network of the catalogue for pictures of 28 pixels, its BatchNorms far from neutral."""
    torch.manual_seed(0)
    options = parse_model_name(variant)
    channels = 1 if variant.startswith("lenet") else 3
    module = build_model(
        BuildOptions(variant=options.variant, width=options.width, num_classes=7, in_channels=channels, input_size=28)
    ).eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.2, 3.0)
    return unshuffle(trace(module, (channels, 28, 28), name=variant))


def random_pictures(graph: Graph, n: int) -> npt.NDArray[np.float32]:
    """Noise in the shape of a graph's input."""
    return np.random.default_rng(7).normal(size=(n, *graph.shapes[graph.input][1:])).astype(np.float32)


def observe(graph: Graph, x: npt.NDArray[np.float32]) -> dict[str, ChannelRange]:
    """The channel ranges that equalization needs, over some pictures."""
    return observe_channels(watched_activations(graph), [run_float(graph, x)])


def assert_same_answers(graph: Graph, done: Graph, x: npt.NDArray[np.float32]) -> None:
    """Compare the float answers of two graphs, up to rounding."""
    expected = run_float(graph, x)[graph.output]
    got = run_float(done, x)[done.output]
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-4 * max(float(np.abs(expected).max()), 1e-3))
