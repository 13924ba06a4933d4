"""The stages in order; the only place where they meet.

    load (name, run, checkpoint, ONNX) -> hub graph -> calibrate -> quantize -> lower twice (ONNX QDQ, TFLite)
      -> verify -> measure latency -> report

`compress` is the main job. Every stage takes and gives frozen types; files are written into a run folder (DESIGN 4.2).
"""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

import msgspec

from edgekit.core.artifact import Artifact, ModelCard
from edgekit.core.errors import DataError, UsageError
from edgekit.core.measurement import Latency
from edgekit.core.progress import Progress, Silent
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import DataSection, ModelSection, QuantizeSection, Recipe, VerifySection, dump_recipe
from edgekit.core.report import Report, ReportDataset, Sizes
from edgekit.core.stages import StageClock
from edgekit.core.storage import write_text
from edgekit.data.dataset import Source
from edgekit.data.drawing import draw_order
from edgekit.data.opening import find_dataset, open_source
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.export.activations import float_activations
from edgekit.export.hub import HubModel, HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.quantize.calibration import Calibration, calibrate, observed_activations
from edgekit.quantize.entropy import limit_bytes
from edgekit.quantize.ptq import quantize_static
from edgekit.quantize.schemes import parse_scheme
from edgekit.report.files import write_report
from edgekit.runtime.benchmark import BenchmarkSettings, compare
from edgekit.verify.layers import layer_rows
from edgekit.verify.verification import Subject, Verification, verify

EMBEDDED_DATASET = "fashion_mnist_mini"
CALIBRATION_BATCH = 16
FLOAT_ONNX, MODEL_ONNX, MODEL_TFLITE = "float.onnx", "model.onnx", "model.tflite"


class CompressRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to compress, and how.

    Args:
        model: Alias, catalogue name, run folder, checkpoint, or .onnx file.
        data: Dataset name or folder for calibration and verification; None for what the weights were trained on
            (the embedded pictures for the embedded weights).
        quantize: How it is quantized.
        verify: The bars.
        width: Width multiplier (untrained models).
        input_size: Pixels.
        untrained: Random weights, for tests and benchmarks.
        out_dir: Run folder; None for runs/<model>-<dataset>-<scheme>.
        measure_latency: Whether latency is measured.
        command: For the report.
    """

    model: str
    data: str | None = None
    quantize: QuantizeSection = msgspec.field(default_factory=QuantizeSection)
    verify: VerifySection = msgspec.field(default_factory=VerifySection)
    width: float | None = None
    input_size: int | None = None
    untrained: bool = False
    out_dir: Path | None = None
    measure_latency: bool = True
    command: str = ""


class Compressed(msgspec.Struct, frozen=True, kw_only=True):
    """What `compress` made.

    Args:
        run_dir: Run folder.
        report: Everything measured; also report.json and report.html in the folder.
        passed: Whether every bar of verification was met.
        unreadable: One line per picture that could not be read (the first twenty).
    """

    run_dir: Path
    report: Report
    passed: bool
    unreadable: tuple[str, ...]


def compress(request: CompressRequest, progress: Progress | None = None) -> Compressed:
    """Quantize a model, lower it to ONNX and TFLite, verify both against float, and report.

    Raises:
        EdgekitError: As the stages raise them; nothing half-written is left behind. A missed bar is no error here:
            it is in `Compressed.passed` and in the report.
    """
    progress = progress or Silent()
    clock = StageClock()
    parse_scheme(request.quantize.scheme)
    with clock.stage("load"):
        hub = load_hub(_hub_request(request))
        data_name = _data_name(request, hub)
        calibration_source, test_source = open_source(data_name, "calibration"), open_source(data_name, "test")
        hub = _with_labels(hub, test_source)
    run_dir = request.out_dir or Path("runs") / f"{hub.card.model}-{Path(data_name).name}-{request.quantize.scheme}"
    with clock.stage("calibrate"):
        calibration = run_calibration(hub, calibration_source, request.quantize, progress)
    with clock.stage("quantize"):
        quantized = quantize_static(hub.graph, calibration, request.quantize)
    with clock.stage("export"):
        artifacts = export(hub, quantized, run_dir, float_io=request.quantize.float_io)
        write_text(run_dir / "labels.txt", "".join(f"{label}\n" for label in hub.card.labels))
        write_text(run_dir / "recipe.toml", dump_recipe(_resolved_recipe(request, data_name)))
    with clock.stage("verify"):
        subject = make_subject(hub, run_dir, test_source)
        verification = verify(subject, test_source, request.verify, progress)
    with clock.stage("latency"):
        latency = _measure_latency(artifacts, progress) if request.measure_latency else []
    report = _assemble(request, hub, quantized, verification, test_source)
    report = msgspec.structs.replace(
        report, sizes=_sizes(artifacts, quantized), latency=tuple(latency), stages=tuple(clock.rows)
    )
    write_report(report, run_dir)
    return Compressed(
        run_dir=run_dir, report=report, passed=verification.passed, unreadable=verification.unreadable
    )


def run_calibration(hub: HubModel, source: Source, config: QuantizeSection, progress: Progress) -> Calibration:
    """Watch the float model on calibration pictures, drawn with the recipe's seed.

    Raises:
        QuantizationError: No pictures, or activations that are not finite.
        UsageError: Less than one picture wanted.
    """
    if config.num_calibration < 1:
        raise UsageError(f"quantize.num_calibration is {config.num_calibration}, expected at least 1")
    chosen = draw_order(len(source), seed=config.seed)[: config.num_calibration]
    progress.begin("calibrate", len(chosen))
    log = UnreadableLog()
    batches = iterate_batches(
        source, hub.card.preprocess, batch_size=CALIBRATION_BATCH, indices=chosen, unreadable=log
    )

    def activations():  # noqa: ANN202 - a generator between two stages
        for batch in float_activations(hub.graph, hub.card.preprocess, batches, observed_activations(hub.graph)):
            yield batch
            progress.advance(len(batch[hub.graph.input]))

    calibration = calibrate(hub.graph, activations())
    progress.end()
    return calibration


def export(hub: HubModel, quantized: QuantizedGraph, run_dir: Path, *, float_io: bool) -> dict[str, Artifact]:
    """Write the float ONNX file and both lowerings of the quantized graph into a run folder."""
    card: ModelCard = hub.card
    return {
        FLOAT_ONNX: write_onnx(hub.graph, run_dir / FLOAT_ONNX, card),
        MODEL_ONNX: write_onnx(quantized, run_dir / MODEL_ONNX, card),
        MODEL_TFLITE: write_tflite(quantized, run_dir / MODEL_TFLITE, card, float_io=float_io),
    }


def make_subject(hub: HubModel, run_dir: Path, source: Source) -> Subject:
    """What verification looks at in a run folder."""
    return Subject(
        graph=hub.graph,
        spec=hub.card.preprocess,
        class_names=hub.card.labels,
        float_path=run_dir / FLOAT_ONNX,
        onnx_path=run_dir / MODEL_ONNX,
        tflite_path=run_dir / MODEL_TFLITE,
        torch_logits=hub.torch_logits,
        trained=hub.trained,
        labels_fit=_labels_fit(hub, source),
    )


def _hub_request(request: CompressRequest) -> HubRequest:
    return HubRequest(
        model=request.model, width=request.width, input_size=request.input_size, untrained=request.untrained
    )


def _data_name(request: CompressRequest, hub: HubModel) -> str:
    """The pictures to use when none are named: the embedded ones for what they stand for, else the training set's."""
    if request.data is not None:
        return request.data
    if hub.dataset in {None, "fashion_mnist"} and hub.torch_logits is not None:
        return EMBEDDED_DATASET
    if hub.dataset is None:
        raise UsageError(
            f"{request.model} does not say what it was trained on", hint="give its pictures: --data NAME or FOLDER"
        )
    return hub.dataset


def _labels_fit(hub: HubModel, source: Source) -> bool:
    """Whether the pictures' classes are the model's: as many outputs, and no labels that say otherwise."""
    if source.labels is None or not hub.trained:
        return False
    num_classes = hub.graph.shapes[hub.graph.output][-1]
    if len(source.class_names) != num_classes:
        raise DataError(
            f"{source.name} has {len(source.class_names)} classes, the model {num_classes}",
            hint="give the pictures it was trained for, or a flat folder of unlabelled pictures",
        )
    return True


def _with_labels(hub: HubModel, source: Source) -> HubModel:
    """Give a model that carries no labels those of its pictures, where they fit."""
    num_classes = hub.graph.shapes[hub.graph.output][-1]
    if hub.card.labels or not hub.trained or len(source.class_names) != num_classes:
        return hub
    card = msgspec.structs.replace(hub.card, labels=source.class_names)
    return msgspec.structs.replace(hub, card=card)


def _resolved_recipe(request: CompressRequest, data_name: str) -> Recipe:
    model = ModelSection(name=request.model, width=request.width, input_size=request.input_size)
    return Recipe(
        model=model, data=DataSection(name=data_name), quantize=request.quantize, verify=request.verify
    )


def _sizes(artifacts: dict[str, Artifact], quantized: QuantizedGraph) -> Sizes:
    return Sizes(
        float_bytes=artifacts[FLOAT_ONNX].size_bytes,
        onnx_bytes=artifacts[MODEL_ONNX].size_bytes,
        tflite_bytes=artifacts[MODEL_TFLITE].size_bytes,
        ekz_bytes=None,
        limit_bytes=limit_bytes(quantized),
    )


def _measure_latency(artifacts: dict[str, Artifact], progress: Progress) -> list[Latency]:
    """A short interleaved benchmark of the three files, one thread; `edgekit bench` measures longer."""
    settings = BenchmarkSettings(num_queries=200, max_seconds=10.0)
    progress.begin("measure latency", settings.num_queries)
    done = 0

    def advance(num_done: int, _total: int) -> None:
        nonlocal done
        progress.advance(num_done - done)
        done = num_done

    latency = compare([artifact.path for artifact in artifacts.values()], settings, progress=advance)
    progress.end()
    return latency


def _assemble(
    request: CompressRequest,
    hub: HubModel,
    quantized: QuantizedGraph,
    verification: Verification,
    source: Source,
) -> Report:
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
        ),
        sizes=Sizes(float_bytes=0, onnx_bytes=0, tflite_bytes=0, ekz_bytes=None, limit_bytes=0),
        accuracy=verification.accuracy,
        agreement=verification.agreement,
        checks=verification.checks,
        latency=(),
        layers=layer_rows(quantized.graph, verification.stored, verification.sqnr_db, grid_bits),
        first_divergent_layer=verification.first_divergent_layer,
        confusion=verification.confusion,
        disagreements=verification.disagreements,
        stages=(),
        environment=_environment(request.quantize.seed),
        command=request.command,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _environment(seed: int) -> dict[str, str]:
    """Versions, processor and seed: what a number depends on besides the model."""
    versions = {
        name: metadata.version(name)
        for name in ("edgekit", "numpy", "onnx", "onnxruntime", "ai-edge-litert", "torch")
        if _is_installed(name)
    }
    return {
        **versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "num_cpus": str(os.cpu_count()),
        "seed": str(seed),
    }


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


__all__ = ["CompressRequest", "Compressed", "compress", "export", "find_dataset", "run_calibration"]
