"""Models to compare on: ours and the peers' from the same weights and the same calibration pictures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import nn

from edgekit.core.artifact import ModelCard
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.data.source import Batch
from edgekit.export.activations import float_activations
from edgekit.export.torch_graph import trace
from edgekit.export.unshuffle import unshuffle
from edgekit.models.architecture import BuildOptions
from edgekit.models.zoo import build_model
from edgekit.quantize.calibration import Calibration, calibrate, observed_activations

ARCHITECTURES = (
    "squeezenet1_0",
    "squeezenet1_1",
    "mobilenet_v1",
    "mobilenet_v2",
    "shufflenet_v1_x1_0_g3",
    "shufflenet_v2_x1_0",
    "efficientnet_lite0",
)
"""The architectures of the catalogue that are made for 224x224 pixels, one size of each family."""

NUM_NOISE_PICTURES = 8
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """A float model as both sides get it.

    Args:
        options: What it is.
        module: Ours, in eval mode.
        card: For our files.
        weights_path: The same weights, for the peers.
    """

    options: BuildOptions
    module: nn.Module
    card: ModelCard
    weights_path: Path

    @property
    def settings(self) -> dict[str, str]:
        """What a job of `peer_jobs.py` needs to build the same module."""
        return {"options": msgspec.json.encode(self.options).decode(), "weights": str(self.weights_path)}

    def trace(self) -> Graph:
        """The hub graph."""
        size = self.options.input_size
        return unshuffle(trace(self.module, (self.options.in_channels, size, size), name=self.card.model))


def random_contestant(options: BuildOptions, folder: Path, *, seed: int = 0) -> Contestant:
    """A network with random weights: for time and latency, which do not depend on them.

    BatchNorm gets the statistics of a random batch, so that no activation dies out or overflows: denormal numbers
    would cost time.
    """
    torch.manual_seed(seed)
    module = build_model(options)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = 1.0
    size = options.input_size
    with torch.no_grad():
        module.train()(torch.randn(4, options.in_channels, size, size))
    weights_path = folder / f"{options.variant}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, weights_path)
    channels = options.in_channels  # of gray pictures, the first of three numbers
    mean, std = _IMAGENET_MEAN[:channels], _IMAGENET_STD[:channels]
    spec = PreprocessSpec(input_size=(size, size), num_channels=channels, mean=mean, std=std)
    card = ModelCard(model=options.variant, scheme="float", labels=(), preprocess=spec)
    return Contestant(options=options, module=module.eval(), card=card, weights_path=weights_path)


def noise_pictures(spec: PreprocessSpec, *, num: int = NUM_NOISE_PICTURES, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Random pictures, uint8 [num, height, width, channels]."""
    shape = (num, *spec.input_size, spec.num_channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def calibrate_on(
    graph: Graph, spec: PreprocessSpec, pictures: npt.NDArray[np.uint8], batch_size: int = 4
) -> Calibration:
    """Our calibration on pictures that already have the model's size, uint8 [n, height, width, channels]."""
    batches = (
        Batch(pictures=pictures[start : start + batch_size], labels=None, indices=np.arange(start, start + batch_size))
        for start in range(0, len(pictures), batch_size)
    )
    return calibrate(graph, float_activations(graph, spec, batches, observed_activations(graph), num_threads=1))
