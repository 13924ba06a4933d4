"""Size against accuracy: networks from few bits to many, each made and measured like the one that is shipped."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.quant import QuantizedGraph
from edgekit.core.report import ParetoPoint
from edgekit.core.storage import write_bytes
from edgekit.data.reading import iterate_batches
from edgekit.evaluate.metrics import accuracy, agreement
from edgekit.export.onnx_writer import write_onnx
from edgekit.lowbit.mixing import Mixed
from edgekit.lowbit.rounder import Rounder, mean_bits
from edgekit.quantize.allocation import sweep
from edgekit.quantize.ptq import quantize_static
from edgekit.verify.answers import Logits, collect_answers, file_predictor
from edgekit.verify.subject import labels_fit

MAX_PICTURES = 2000
"""Test pictures that points of a sweep are measured on, at most."""


def sweep_sizes(rounder: Rounder, mixed: Mixed) -> tuple[ParetoPoint, ...]:
    """The float model, plain int8, the chosen network, and as many others as the recipe asks for.

    Raises:
        QuantizationError, DataError: As rounding and reading pictures.
    """
    measured = _Measured(rounder, mixed)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        measured.collect(Path(folder))
    return measured.points


class _Measured:
    """Points, as they are measured; the float model comes first and is the reference."""

    def __init__(self, rounder: Rounder, mixed: Mixed) -> None:
        self.rounder = rounder
        self.mixed = mixed
        self.source = rounder.job.test
        self.num_weights = {option.name: option.num_weights for option in mixed.table.options}
        self.reference: Logits = np.empty((0, 0), np.float32)
        self.points: tuple[ParetoPoint, ...] = ()

    def collect(self, folder: Path) -> None:
        num_points = self.rounder.config.pareto
        others = [
            allocation
            for allocation in sweep(self.mixed.table.options, max(num_points, 2))
            if dict(allocation.bits) != dict(self.mixed.bits)
        ]
        progress = self.rounder.progress
        float_path = folder / "float.onnx"
        artifact = write_onnx(self.rounder.hub.graph, float_path, self.rounder.hub.card)
        self.reference, labels = self._answers(float_path)
        self._add("float", "float", artifact.size_bytes, None, (self.reference, labels))
        plain = quantize_static(self.rounder.hub.graph, self.rounder.calibration, self.rounder.config)
        self._add_model("int8", plain, dict.fromkeys(self.num_weights, 8), folder)
        self._add_model("lowbit", self.mixed.model, self.mixed.bits, folder)
        self.points = (*self.points[:-1], msgspec.structs.replace(self.points[-1], is_chosen=True))
        for allocation in others:
            model, _ = self.rounder.round(allocation.bits)
            self._add_model("lowbit", model, allocation.bits, folder)
        progress.end()

    def _add_model(self, kind: str, model: QuantizedGraph, bits: Mapping[str, int], folder: Path) -> None:
        path = folder / "model.tflite"
        write_bytes(path, self.rounder.tflite(model))
        mean = mean_bits(self.num_weights, bits, list(bits))
        label = kind if kind == "int8" else f"{mean:.1f} bits"
        self._add(label, kind, self.rounder.packed_bytes(model), mean, self._answers(path))

    def _add(
        self,
        label: str,
        kind: str,
        size_bytes: int,
        grid_bits: float | None,
        answers: tuple[Logits, npt.NDArray[np.int64] | None],
    ) -> None:
        logits, labels = answers
        point = ParetoPoint(
            label=label,
            kind=kind,
            size_bytes=size_bytes,
            grid_bits=grid_bits,
            top1=None if labels is None else accuracy(logits, labels).top1,
            agreement=agreement(logits, self.reference).top1,
            n=len(logits),
        )
        self.points = (*self.points, point)

    def _answers(self, path: Path) -> tuple[Logits, npt.NDArray[np.int64] | None]:
        spec = self.rounder.hub.card.preprocess
        num_pictures = min(len(self.source), self.rounder.job.recipe.verify.num_pictures or MAX_PICTURES)
        batches = iterate_batches(
            self.source, spec, batch_size=32, indices=np.arange(min(num_pictures, MAX_PICTURES), dtype=np.int64)
        )
        self.rounder.progress.begin("measure size against accuracy", num_pictures)
        found = collect_answers({"file": file_predictor(path, spec)}, batches, self.rounder.progress)
        self.rounder.progress.end()
        has_labels = found.labels is not None and labels_fit(self.rounder.hub, self.source)
        return found.logits["file"], found.labels if has_labels else None
