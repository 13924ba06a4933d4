"""A small mobile network, its pictures and its grids: where rounding layer by layer starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekit.core.graph import Graph
from edgekit.core.recipe import QuantizeSection
from edgekit.quantize.calibration import calibrate
from edgekit.quantize.execute import run_float
from edgekit.quantize.ptq import QuantizationStart, start_quantization
from edgekit.quantize.walk import Pictures
from graphs import GraphBuilder

Reals32 = npt.NDArray[np.float32]


def mobile_graph(seed: int = 0) -> Graph:
    """Conv, depthwise, pointwise with a residual, grouped, classifier; on correlated inputs."""
    build = GraphBuilder((1, 3, 10, 10), seed=seed)
    x = build.relu6(build.conv("input", 8, 3, stride=2, pads=(0, 0, 1, 1)))
    y = build.relu6(build.conv(x, 8, 3, pads=1, group=8))
    x = build.binary("Add", build.conv(y, 8, 1), x)
    x = build.relu(build.conv(x, 16, 3, pads=1, group=2, bias=False))
    build.gemm(build.flatten(build.global_pool(x)), 5)
    return build.build()


def smooth_pictures(num: int, shape: tuple[int, ...] = (3, 10, 10), seed: int = 1) -> Reals32:
    """Noise in which neighbours are alike, as in pictures."""
    noise = np.random.default_rng(seed).normal(size=(num, *shape))
    for axis in range(2, noise.ndim):
        noise = noise + 0.8 * np.roll(noise, 1, axis) + 0.4 * np.roll(noise, 2, axis)
    return (noise + 0.5).astype(np.float32)


def batches_of(x: Reals32, batch_size: int = 16) -> Pictures:
    def batches() -> Iterator[Tensor]:
        return iter(torch.from_numpy(x).split(batch_size))

    return batches


def start_of(
    graph: Graph, x: Reals32, num_bits: int = 4, bits: Mapping[str, int] | None = None, **options: object
) -> QuantizationStart:
    """Grids of a graph that was calibrated on pictures, all weights at `num_bits` but those of `bits`."""
    config = QuantizeSection(scheme=f"static_wi{num_bits}_ai8", **options)  # type: ignore[arg-type]
    return start_quantization(graph, calibrate(graph, [run_float(graph, x)]), config, bits=bits)
