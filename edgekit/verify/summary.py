"""From what was decided and measured to the report."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgekit.core.artifact import Artifact
from edgekit.core.environment import date_of_now, describe_environment
from edgekit.core.layout import FLOAT_ONNX, MODEL_ONNX, MODEL_TFLITE
from edgekit.core.measurement import Latency
from edgekit.core.quant import QuantizedGraph
from edgekit.core.report import Report, ReportDataset, Sizes, StageRow
from edgekit.data.dataset import Source
from edgekit.export.hub import HubModel
from edgekit.quantize.entropy import limit_bytes
from edgekit.quantize.schemes import parse_scheme
from edgekit.verify.layers import layer_rows
from edgekit.verify.verification import Verification


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a run measured besides verification.

    Args:
        artifacts: File name -> written file.
        ekz_bytes: Size of the TFLite file, packed.
        latency: One row per file; empty when it was not measured.
        stages: Time and memory of each stage.
        seed: Of the calibration draw.
        command: The command that was given.
    """

    artifacts: Mapping[str, Artifact]
    ekz_bytes: int
    latency: tuple[Latency, ...]
    stages: tuple[StageRow, ...]
    seed: int
    command: str


def summarize(
    hub: HubModel, quantized: QuantizedGraph, verification: Verification, source: Source, facts: RunFacts
) -> Report:
    """Put the report together.

    Args:
        hub: The float model.
        quantized: What was decided.
        verification: What the files turned out to be.
        source: The test pictures.
        facts: Files, latency, stages.
    """
    grid_bits = parse_scheme(quantized.scheme).weight_bits
    return Report(
        model=hub.card.model,
        scheme=quantized.scheme,
        trained=hub.trained,
        num_params=hub.num_params,
        macs=hub.graph.num_macs,
        input_shape=hub.graph.shapes[hub.graph.input],
        dataset=ReportDataset(
            name=source.name,
            split=source.split,
            n=verification.num_pictures,
            labelled=verification.accuracy.float is not None,
            class_names=hub.card.labels,
            num_left_out=verification.num_unreadable,
        ),
        sizes=Sizes(
            float_bytes=facts.artifacts[FLOAT_ONNX].size_bytes,
            onnx_bytes=facts.artifacts[MODEL_ONNX].size_bytes,
            tflite_bytes=facts.artifacts[MODEL_TFLITE].size_bytes,
            ekz_bytes=facts.ekz_bytes,
            limit_bytes=limit_bytes(quantized),
        ),
        accuracy=verification.accuracy,
        agreement=verification.agreement,
        checks=verification.checks,
        latency=facts.latency,
        layers=layer_rows(quantized.graph, verification.stored, verification.sqnr_db, grid_bits),
        first_divergent_layer=verification.first_divergent_layer,
        confusion=verification.confusion,
        disagreements=verification.disagreements,
        stages=facts.stages,
        environment={**describe_environment(), "seed": str(facts.seed)},
        command=facts.command,
        created=date_of_now(),
    )
