"""Layer by layer: how well each layer's output survives, and what its integers weigh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.core.graph import WEIGHTED_OPS, Graph, Node
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.report import LayerRow
from edgekit.data.source import Batch
from edgekit.export.activations import file_activations, float_activations
from edgekit.export.stored import StoredFile, StoredTensor
from edgekit.quantize.entropy import order0_bits

DIVERGENT_DB = 10.0
"""Below this a layer's output holds more than a tenth of its power in error: it has diverged."""


def visible_output(graph: Graph, node: Node) -> str:
    """The activation in which a weighted layer's output is visible: after the activation function fused into it."""
    consumers = graph.consumers().get(node.output, [])
    if len(consumers) == 1 and consumers[0].op in {"Relu", "Clip"}:
        return consumers[0].output
    return node.output


def measure_sqnr(graph: Graph, spec: PreprocessSpec, path: Path, pictures: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Signal to quantization noise ratio at each weighted layer's output, in dB.

    Args:
        graph: Float graph.
        spec: Picture to input.
        path: TFLite file lowered from it.
        pictures: uint8 [n, h, w, c]; a few dozen are enough.

    Returns:
        Layer name -> 10 log10(sum of squares of the float output / of the difference), summed over all pictures.
        Layers that the file does not show are left out.
    """
    outputs = {node.name: visible_output(graph, node) for node in graph.nodes if node.op in WEIGHTED_OPS}
    names = frozenset(outputs.values())
    signal: dict[str, float] = dict.fromkeys(names, 0.0)
    noise: dict[str, float] = {}
    singles = [
        Batch(pictures=pictures[i : i + 1], labels=None, indices=np.array([i], np.int64)) for i in range(len(pictures))
    ]
    references = float_activations(graph, spec, singles, names)
    for reference, values in zip(references, file_activations(path, graph, spec, pictures, names), strict=True):
        for name, value in values.items():
            expected = reference[name].astype(np.float64)
            signal[name] += float(np.square(expected).sum())
            noise[name] = noise.get(name, 0.0) + float(np.square(expected - value.reshape(expected.shape)).sum())
    return {layer: _decibel(signal[name], noise[name]) for layer, name in outputs.items() if name in noise}


def _decibel(signal: float, noise: float) -> float:
    """Bounded to +-200 dB, so that a perfect or dead layer stays a number."""
    return float(np.clip(10 * np.log10(max(signal, 1e-20) / max(noise, 1e-20)), -200, 200))


def first_divergent(graph: Graph, sqnr: dict[str, float]) -> str | None:
    """The first layer, in execution order, whose SQNR is below `DIVERGENT_DB`; None if none is."""
    return next((node.name for node in graph.nodes if sqnr.get(node.name, DIVERGENT_DB) < DIVERGENT_DB), None)


def layer_rows(graph: Graph, stored: StoredFile, sqnr: dict[str, float], grid_bits: int) -> tuple[LayerRow, ...]:
    """The report's per-layer table, from the integers that a file really holds."""
    rows: list[LayerRow] = []
    for node in graph.nodes:
        if node.op not in WEIGHTED_OPS:
            continue
        name = node.inputs[1]
        tensor = stored.constants.get(name)
        shape = tuple(int(size) for size in graph.constants[name].shape)
        if tensor is None:
            continue
        rows.append(
            LayerRow(
                name=node.name,
                op="DepthwiseConv" if graph.is_depthwise(node) else node.op,
                shape=shape,
                macs=graph.macs(node),
                grid_bits=grid_bits,
                density=float(np.count_nonzero(tensor.values) / max(1, tensor.values.size)),
                scale_granularity="per_channel" if np.unique(tensor.scale).size > 1 else "per_tensor",
                bytes=tensor.size_bytes,
                entropy_bytes=_entropy_bytes(tensor),
                sqnr_db=sqnr.get(node.name),
            )
        )
    return tuple(rows)


def _entropy_bytes(tensor: StoredTensor) -> int:
    return int(np.ceil(order0_bits(tensor.values) / 8))
