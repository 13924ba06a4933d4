"""One model on its way to few bits: rounded as a whole, measured as the file that it becomes."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.core.progress import Progress
from edgekit.core.quant import QuantizedGraph, QuantParams
from edgekit.core.recipe import QuantizeSection
from edgekit.encode.packing import pack
from edgekit.evaluate.metrics import accuracy, agreement
from edgekit.export.hub import HubModel
from edgekit.export.tflite import build_tflite
from edgekit.export.tflite_nibbles import int4_layers
from edgekit.lowbit.calibrating import drawn, labelled, pictures_of
from edgekit.lowbit.request import QuantizeJob
from edgekit.quantize.calibration import Calibration
from edgekit.quantize.decisions import DecisionStore, fingerprint_of
from edgekit.quantize.layer_problem import RoundingMethod
from edgekit.quantize.layerwise import LayerwiseConfig, quantized_network, round_network
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.outcome import LayerOutcome
from edgekit.quantize.plan import plan_quantization
from edgekit.quantize.ptq import (
    DecidedLayer,
    QuantizationStart,
    choose_activation_grids,
    finish_quantization,
    start_quantization,
    unshare_constants,
)
from edgekit.quantize.schemes import parse_scheme
from edgekit.verify.subject import labels_fit

COARSE_RATE_WEIGHT = 1.4
"""Price of a bit where grids are coarse: what halving the step saves at high rates (2 ln 2)."""
FINE_RATE_WEIGHT = 1.8
PRUNED_RATE_WEIGHT = 0.5
"""Of pruned networks on coarse grids: what is left carries everything. The published SqueezeNet at 4 bits keeps 80 % of
its answers with it in 309 kB, 73 % in 287 kB with 1.4."""

Logits = npt.NDArray[np.float32]

_METHODS: dict[str, tuple[RoundingMethod, ...]] = {
    "auto": ("gptq", "adaround"),
    "nearest": (),
    "gptq": ("gptq",),
    "adaround": ("gptq", "adaround"),
}


PRUNED_SHARE = 0.15
"""A network with this share of zeros among its weights was pruned; one from 8-bit integers has a few percent."""


ROUNDING = "rounding"
"""Folder of decided layers, in that of a run's resumable states."""


class Rounder:
    """Rounds one model to any bits.

    Args:
        job: Recipe and pictures.
        hub: The float model, equalized where that was asked for.
        calibration: Of that model.
        progress: Shows how far it is.
    """

    def __init__(self, job: QuantizeJob, hub: HubModel, calibration: Calibration, progress: Progress) -> None:
        self.job = job
        self.hub = hub
        self.calibration = calibration
        self.progress = progress
        self.config: QuantizeSection = job.recipe.quantize
        self.pictures = pictures_of(hub, job.calibration, drawn(job.calibration, self.config))

    @property
    def layerwise(self) -> LayerwiseConfig:
        """How layers are rounded, by the recipe."""
        is_pruned = self.job.recipe.prune.makes_zeros or share_of_zeros(self.hub.graph) >= PRUNED_SHARE
        return LayerwiseConfig(
            methods=_METHODS[self.config.rounding],
            rate_weight=_rate_weight(self.config, is_pruned=is_pruned),
            mantissa_bits=self.config.scale_bits,
            keeps_zeros=is_pruned,
        )

    def start(self, bits: Mapping[str, int]) -> QuantizationStart:
        """Grids for layers of so many bits."""
        return start_quantization(
            self.hub.graph, self.calibration, self.config, bits=bits, activations=self._activation_grids
        )

    @cached_property
    def _activation_grids(self) -> Mapping[str, QuantParams]:
        """The same whatever the weights' bits, and their search takes seconds: chosen once."""
        plan = plan_quantization(unshare_constants(self.hub.graph))
        return choose_activation_grids(plan, self.calibration, self.config)

    def round(self, bits: Mapping[str, int]) -> tuple[QuantizedGraph, tuple[LayerOutcome, ...]]:
        """The whole network, layer by layer; goes on where an interrupted run stopped. Raises as `round_network`."""
        start = self.start(bits)
        pictures = (self.job.data, self.config.num_calibration, self.config.seed)
        store = DecisionStore(self.job.work_dir / ROUNDING, fingerprint_of(start, self.layerwise, pictures))
        return round_network(start, self.pictures, self.layerwise, self.progress, store)

    def packed_bytes(self, model: QuantizedGraph) -> int:
        """Bytes of the .ekz of a quantized model's TFLite file."""
        return len(pack(self.tflite(model)).content)

    def tflite(self, model: QuantizedGraph) -> bytes:
        """The TFLite file that a run writes."""
        compute: Literal["int8", "int4"] = self.config.compute if int4_layers(model) else "int8"
        return build_tflite(model, self.hub.card, float_io=self.config.float_io, compute=compute)

    def quick(self, decided: Mapping[tuple[str, int], DecidedLayer], bits: Mapping[str, int]) -> QuantizedGraph:
        """A network put together from layers that were rounded on their own: for sizes, and rough answers."""
        layers = {name: decided[name, num_bits] for name, num_bits in bits.items()}
        return finish_quantization(self.start(bits), layers)

    def quick_logits(
        self,
        decided: Mapping[tuple[str, int], DecidedLayer],
        bits: Mapping[str, int],
        indices: npt.NDArray[np.int64],
    ) -> Logits:
        """Answers of such a network on pictures of the calibration source, fake-quantized, [n, classes]."""
        layers = {name: decided[name, num_bits] for name, num_bits in bits.items()}
        return self._logits(quantized_network(self.start(bits), layers), indices)

    def float_logits(self, indices: npt.NDArray[np.int64]) -> Logits:
        """Answers of the float model on pictures of the calibration source, [n, classes]."""
        return self._logits(GraphNetwork(self.hub.graph), indices)

    def labels(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
        """Labels of pictures of the calibration source; None when it has none, or the model never saw any."""
        labels = self.job.calibration.labels
        if labels is None or not labels_fit(self.hub, self.job.calibration):
            return None
        return np.asarray(labels[indices], np.int64)

    def _logits(self, network: GraphNetwork, indices: npt.NDArray[np.int64]) -> Logits:
        with torch.inference_mode():
            batches = [network(x).numpy() for x, _ in labelled(self.hub, self.job.calibration, indices)]
        return np.concatenate(batches)


def _rate_weight(config: QuantizeSection, *, is_pruned: bool) -> float:
    """The recipe's price of a bit, or the default: higher where rounding errors are far below what answers feel."""
    if config.rate_weight is not None:
        return config.rate_weight
    scheme = parse_scheme(config.scheme)
    if not scheme.is_mixed and scheme.weight_bits > 4:
        return FINE_RATE_WEIGHT
    return PRUNED_RATE_WEIGHT if is_pruned else COARSE_RATE_WEIGHT


def measured_drop(logits: Logits, reference: Logits, labels: npt.NDArray[np.int64] | None) -> float:
    """Top-1 points lost against the float model; without labels, the points of answers that changed."""
    if labels is None or len(labels) != len(reference):
        return 100.0 * (1.0 - agreement(logits, reference).top1)
    return 100.0 * (accuracy(reference, labels).top1 - accuracy(logits, labels).top1)


def forget_rounding(work_dir: Path) -> None:
    """Remove decided layers, and the folder of the run's states where it holds nothing else."""
    shutil.rmtree(work_dir / ROUNDING, ignore_errors=True)
    with contextlib.suppress(OSError):  # it holds states of training, or was never made
        work_dir.rmdir()


def share_of_zeros(graph: Graph) -> float:
    """Share of a network's weights that are exactly zero."""
    weights = [graph.constants[node.inputs[1]] for node in graph.nodes if node.op in WEIGHTED_OPS]
    return sum(int((values == 0).sum()) for values in weights) / max(1, sum(values.size for values in weights))


def mean_bits(num_weights: Mapping[str, int], bits: Mapping[str, int], layers: Collection[str]) -> float:
    """Mean grid bits over the weights of some layers."""
    total = sum(num_weights[name] for name in layers)
    return sum(num_weights[name] * bits[name] for name in layers) / max(total, 1)
