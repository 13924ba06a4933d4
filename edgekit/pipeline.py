"""The stages in order; the only place where they meet.

    load (name, run, checkpoint, ONNX) -> hub graph -> calibrate -> quantize -> lower twice (ONNX QDQ, TFLite)
      -> verify -> measure latency -> report

`compress` is the main job. Every stage takes and gives frozen types; files are written into a run folder (DESIGN 4.2).
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec

from edgekit.core.artifact import Artifact, ModelCard
from edgekit.core.environment import describe_environment
from edgekit.core.errors import CheckpointError, DataError, MissingDependencyError, UnknownNameError, UsageError
from edgekit.core.history import EpochRow
from edgekit.core.measurement import Latency
from edgekit.core.progress import Progress, Silent
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import (
    DataSection,
    ModelSection,
    QuantizeSection,
    Recipe,
    VerifySection,
    dump_recipe,
    load_recipe,
)
from edgekit.core.report import Report, ReportDataset, Sizes
from edgekit.core.stages import StageClock
from edgekit.core.storage import write_text
from edgekit.data.dataset import Source
from edgekit.data.drawing import draw_order
from edgekit.data.opening import open_source
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.export.activations import fitting_batch_size, float_activations
from edgekit.export.hub import HubModel, HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.quantize.calibration import Calibration, calibrate, observed_activations
from edgekit.quantize.entropy import limit_bytes
from edgekit.quantize.ptq import quantize_static
from edgekit.quantize.schemes import parse_scheme
from edgekit.report.curves import draw_curves
from edgekit.report.files import write_report
from edgekit.runtime.benchmark import BenchmarkSettings, compare
from edgekit.train.run import TrainedRun, train
from edgekit.verify.layers import layer_rows
from edgekit.verify.verification import Subject, Verification, verify

EMBEDDED_DATASET = "fashion_mnist_mini"
RECIPE, FLOAT_ONNX, MODEL_ONNX, MODEL_TFLITE = "recipe.toml", "float.onnx", "model.onnx", "model.tflite"
CURVES = "curves.png"


class CompressRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to compress, and how.

    Args:
        model: Alias, catalogue name, run folder, checkpoint or .onnx file, with its sizes.
        data: Dataset name or folder for calibration and verification; None for what the weights were trained on
            (the embedded pictures for the embedded weights).
        quantize: How it is quantized.
        verify: The bars.
        out_dir: Run folder; None for runs/<model>-<dataset>-<scheme>.
        measure_latency: Whether latency is measured.
        command: For the report.
    """

    model: ModelSection
    data: str | None = None
    quantize: QuantizeSection = msgspec.field(default_factory=QuantizeSection)
    verify: VerifySection = msgspec.field(default_factory=VerifySection)
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


def request_from_recipe(recipe: Recipe, *, out_dir: Path | None = None, command: str = "") -> CompressRequest:
    """The request that a recipe stands for; an empty data name means "what the weights were trained on"."""
    return CompressRequest(
        model=recipe.model,
        data=recipe.data.name or None,
        quantize=recipe.quantize,
        verify=recipe.verify,
        out_dir=out_dir,
        command=command,
    )


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
        hub = load_hub(_hub_request(request.model))
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
        write_text(run_dir / RECIPE, dump_recipe(_resolved_recipe(request, data_name)))
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
    return Compressed(run_dir=run_dir, report=report, passed=verification.passed, unreadable=verification.unreadable)


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
        source, hub.card.preprocess, batch_size=fitting_batch_size(hub.graph), indices=chosen, unreadable=log
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


def verify_run(run_dir: Path, max_drop: float | None = None, progress: Progress | None = None) -> Verification:
    """Verify the files of a run folder once more, by its own recipe.

    The torch model is compared too when it can still be loaded; otherwise the float ONNX file stands for it.

    Args:
        run_dir: Folder that `compress` made.
        max_drop: Another bar than the recipe's, in points; None for the recipe's.
        progress: Shows how far it is.

    Raises:
        UsageError: No run folder, or files are missing in it.
        EdgekitError: As the stages raise them.
    """
    missing = [name for name in (RECIPE, FLOAT_ONNX, MODEL_ONNX, MODEL_TFLITE) if not (run_dir / name).is_file()]
    if missing:
        raise UsageError(f"{run_dir} is no run folder: {', '.join(missing)} missing", hint="edgekit compress makes one")
    recipe = load_recipe(run_dir / RECIPE)
    try:
        hub = load_hub(_hub_request(recipe.model))
    except (CheckpointError, UnknownNameError, UsageError, MissingDependencyError):
        hub = load_hub(HubRequest(model=str(run_dir / FLOAT_ONNX)))
    source = open_source(recipe.data.name, "test")
    config = recipe.verify if max_drop is None else msgspec.structs.replace(recipe.verify, max_drop=max_drop)
    return verify(make_subject(_with_labels(hub, source), run_dir, source), source, config, progress or Silent())


def export_float(model: ModelSection, path: Path) -> Artifact:
    """Write a model as a float file, .onnx or .tflite by the path's extension.

    Raises:
        UsageError: Another extension.
    """
    if path.suffix not in {".onnx", ".tflite"}:
        raise UsageError(f"cannot tell the format of {path}: expected .onnx or .tflite")
    hub = load_hub(_hub_request(model))
    write = write_onnx if path.suffix == ".onnx" else write_tflite
    return write(hub.graph, path, hub.card)


def train_run(
    recipe: Recipe, run_dir: Path, *, resume: bool = False, progress: Progress | None = None, command: str = ""
) -> TrainedRun:
    """Train by a recipe into a run folder, drawing the curves after every epoch. Errors as `train.run.train`."""

    def draw(history: list[EpochRow], folder: Path) -> None:
        draw_curves(history, folder / CURVES)

    return train(recipe, run_dir, resume=resume, progress=progress or Silent(), command=command, on_epoch=draw)


def _hub_request(model: ModelSection) -> HubRequest:
    return HubRequest(model=model.name, width=model.width, input_size=model.input_size, untrained=model.untrained)


def _data_name(request: CompressRequest, hub: HubModel) -> str:
    """The pictures to use when none are named: the embedded ones for what they stand for, else the training set's."""
    if request.data is not None:
        return request.data
    if hub.dataset in {None, "fashion_mnist"} and hub.torch_logits is not None:
        return EMBEDDED_DATASET
    if hub.dataset is None:
        raise UsageError(
            f"{request.model.name} does not say what it was trained on", hint="give its pictures: --data NAME or FOLDER"
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
    """The recipe that makes the same files again, from any folder: paths are made absolute."""
    model = msgspec.structs.replace(request.model, name=_absolute(request.model.name))
    data = DataSection(name=_absolute(data_name))
    return Recipe(model=model, data=data, quantize=request.quantize, verify=request.verify)


def _absolute(name_or_path: str) -> str:
    path = Path(name_or_path).expanduser()
    return str(path.resolve()) if path.exists() else name_or_path


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
        environment={**describe_environment(), "seed": str(request.quantize.seed)},
        command=request.command,
        created=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    )
