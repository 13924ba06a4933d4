"""The stages in order; the only place where they meet.

    load (name, run, checkpoint, ONNX) -> hub graph -> calibrate -> quantize -> lower twice (ONNX QDQ, TFLite)
      -> pack -> verify -> measure latency -> report

`compress` is the main job. Every stage takes and gives frozen types; files are written into a run folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.artifact import Artifact, ModelCard
from edgekit.core.errors import CheckpointError, IntegrityError, MissingDependencyError, UnknownNameError, UsageError
from edgekit.core.history import EpochRow
from edgekit.core.layout import CURVES, FLOAT_ONNX, LABELS, MODEL_EKZ, MODEL_ONNX, MODEL_TFLITE, RECIPE
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
from edgekit.core.report import Report
from edgekit.core.stages import StageClock
from edgekit.core.storage import staged_folder, write_text
from edgekit.data.dataset import Source
from edgekit.data.drawing import draw_order
from edgekit.data.opening import open_source
from edgekit.data.reading import UnreadableLog, iterate_batches
from edgekit.encode.files import pack_file
from edgekit.export.activations import fitting_batch_size, float_activations
from edgekit.export.choices import choose_data, hub_request, resolve_data, resolve_model, with_labels
from edgekit.export.hub import HubModel, HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.models.checkpoint import CheckpointCard, read_card, save_checkpoint
from edgekit.models.importer import import_weights
from edgekit.models.weights import CHECKPOINT_NAME
from edgekit.quantize.calibration import Calibration, calibrate, observed_activations
from edgekit.quantize.ptq import quantize_static
from edgekit.quantize.schemes import parse_scheme, require_supported
from edgekit.report.curves import draw_curves
from edgekit.report.files import JSON_NAME, write_report
from edgekit.runtime.benchmark import BenchmarkSettings, compare
from edgekit.train.run import RunHooks, TrainedRun, train
from edgekit.verify.subject import make_subject
from edgekit.verify.summary import RunFacts, summarize
from edgekit.verify.verification import Verification, verify

LATENCY_QUERIES = 200


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
        num_unreadable: How many could not be read.
    """

    run_dir: Path
    report: Report
    passed: bool
    unreadable: tuple[str, ...] = ()
    num_unreadable: int = 0


def request_from_recipe(
    recipe: Recipe, *, out_dir: Path | None = None, measure_latency: bool = True, command: str = ""
) -> CompressRequest:
    """The request that a recipe stands for; an empty data name means "what the weights were trained on"."""
    return CompressRequest(
        model=recipe.model,
        data=recipe.data.name or None,
        quantize=recipe.quantize,
        verify=recipe.verify,
        out_dir=out_dir,
        measure_latency=measure_latency,
        command=command,
    )


def compress(request: CompressRequest, progress: Progress | None = None) -> Compressed:
    """Quantize a model, lower it to ONNX and TFLite, verify both against float, and report.

    The run folder appears when everything in it is there: whatever ends the run before (an error, Ctrl-C) leaves
    nothing behind.

    Raises:
        EdgekitError: As the stages raise them. A missed bar is no error here: it is in `Compressed.passed` and in the
            report.
    """
    progress = progress or Silent()
    clock = StageClock()
    require_supported(parse_scheme(request.quantize.scheme))
    with clock.stage("load"):
        hub = load_hub(hub_request(request.model))
        data_name = choose_data(request.model, request.data, hub)
        sources = _Sources(calibration=open_source(data_name, "calibration"), test=open_source(data_name, "test"))
        hub = with_labels(hub, sources.test)
    run_dir = request.out_dir or Path("runs") / f"{hub.card.model}-{Path(data_name).name}-{request.quantize.scheme}"
    with staged_folder(run_dir, last=JSON_NAME) as staging:
        verification, report, unreadable = _make_run(request, hub, sources, staging, (clock, progress))
        write_text(staging / RECIPE, dump_recipe(_resolved_recipe(request, data_name)))
        write_report(report, staging)
    return Compressed(
        run_dir=run_dir,
        report=report,
        passed=verification.passed,
        unreadable=(*unreadable.reasons, *verification.unreadable),
        num_unreadable=unreadable.num_pictures + verification.num_unreadable,
    )


class _Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures of a run."""

    calibration: Source
    test: Source


def _make_run(
    request: CompressRequest, hub: HubModel, sources: _Sources, folder: Path, watch: tuple[StageClock, Progress]
) -> tuple[Verification, Report, UnreadableLog]:
    """Make the model files in a folder and measure them."""
    clock, progress = watch
    unreadable = UnreadableLog()
    with clock.stage("calibrate"):
        calibration = run_calibration(hub, sources.calibration, request.quantize, progress, unreadable)
    with clock.stage("quantize"):
        quantized = quantize_static(hub.graph, calibration, request.quantize)
    with clock.stage("export"):
        artifacts = export(hub, quantized, folder, float_io=request.quantize.float_io)
        write_text(folder / LABELS, "".join(f"{label}\n" for label in hub.card.labels))
    with clock.stage("pack"):
        packed = pack_file(folder / MODEL_TFLITE, folder / MODEL_EKZ)
    with clock.stage("verify"):
        verification = verify(make_subject(hub, folder, sources.test), sources.test, request.verify, progress)
    with clock.stage("latency"):
        latency = _measure_latency(artifacts, progress) if request.measure_latency else []
    facts = RunFacts(
        artifacts=artifacts,
        ekz_bytes=packed.ekz_bytes,
        latency=tuple(latency),
        stages=tuple(clock.rows),
        seed=request.quantize.seed,
        command=request.command,
    )
    return verification, summarize(hub, quantized, verification, sources.test, facts), unreadable


def run_calibration(
    hub: HubModel,
    source: Source,
    config: QuantizeSection,
    progress: Progress,
    unreadable: UnreadableLog | None = None,
) -> Calibration:
    """Watch the float model on calibration pictures, drawn with the recipe's seed.

    Args:
        hub: The model.
        source: Calibration pictures.
        config: How many, and the seed.
        progress: Shows how far it is.
        unreadable: Where pictures that cannot be read are logged.

    Raises:
        QuantizationError: No pictures, or activations that are not finite.
        DataError: Too many unreadable pictures.
        UsageError: Less than one picture wanted.
    """
    if config.num_calibration < 1:
        raise UsageError(f"quantize.num_calibration is {config.num_calibration}, expected at least 1")
    chosen = draw_order(len(source), seed=config.seed)[: config.num_calibration]
    progress.begin("calibrate", len(chosen))
    batches = iterate_batches(
        source, hub.card.preprocess, batch_size=fitting_batch_size(hub.graph), indices=chosen, unreadable=unreadable
    )

    def activations() -> Iterator[Mapping[str, npt.NDArray[np.float32]]]:
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


def _resolved_recipe(request: CompressRequest, data_name: str) -> Recipe:
    """The recipe that makes the same files again, from any folder."""
    return Recipe(
        model=resolve_model(request.model),
        data=resolve_data(DataSection(name=data_name)),
        quantize=request.quantize,
        verify=request.verify,
    )


def _measure_latency(artifacts: dict[str, Artifact], progress: Progress) -> list[Latency]:
    """A short interleaved benchmark of the three files, one thread; `edgekit bench` measures longer."""
    settings = BenchmarkSettings(num_queries=LATENCY_QUERIES, max_seconds=10.0)
    progress.begin("measure latency", settings.num_queries)
    done = 0

    def advance(num_done: int, _total: int) -> None:
        nonlocal done
        progress.advance(num_done - done)
        done = num_done

    latency = compare([artifact.path for artifact in artifacts.values()], settings, progress=advance)
    progress.end()
    return latency


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
    hub = _reload(recipe.model, run_dir)
    source = open_source(recipe.data.name, "test")
    config = recipe.verify if max_drop is None else msgspec.structs.replace(recipe.verify, max_drop=max_drop)
    return verify(make_subject(with_labels(hub, source), run_dir, source), source, config, progress or Silent())


def _reload(model: ModelSection, run_dir: Path) -> HubModel:
    """The float model of a run: with its torch model where that is still at hand, else the run's float ONNX file."""
    stand_in = HubRequest(model=str(run_dir / FLOAT_ONNX))
    if Path(model.name).suffix.lower() == ".onnx":  # the user's file may have changed since
        return load_hub(stand_in)
    try:
        return load_hub(hub_request(model))
    except (CheckpointError, IntegrityError, UsageError, MissingDependencyError):
        return load_hub(stand_in)


def export_float(model: ModelSection, path: Path) -> Artifact:
    """Write a model as a float file, .onnx or .tflite by the path's extension.

    Raises:
        UnknownNameError: Another extension.
    """
    formats = {".onnx": write_onnx, ".tflite": write_tflite}
    write = formats.get(path.suffix.lower())
    if write is None:
        raise UnknownNameError("format", path.suffix or path.name, formats)
    hub = load_hub(hub_request(model))
    return write(hub.graph, path, hub.card)


class ImportedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What `import_run` made.

    Args:
        run_dir: Run folder.
        card: Of its checkpoint.
        num_params: Weights and biases.
        num_zeros: Exact zeros among them (pruned weights).
    """

    run_dir: Path
    card: CheckpointCard
    num_params: int
    num_zeros: int


def import_run(format_name: str, path: Path, run_dir: Path) -> ImportedRun:
    """Read trained weights of others into a run folder that `compress` takes: checkpoint and float ONNX.

    Raises:
        UnknownNameError: No such format.
        DataError, IntegrityError: The file cannot be read, or is no such file.
        OutputError: The folder cannot be written.
    """
    module, imported = import_weights(format_name, path)
    with staged_folder(run_dir, last=CHECKPOINT_NAME) as staging:
        save_checkpoint(staging / CHECKPOINT_NAME, module.state_dict(), imported.card)
        hub = load_hub(HubRequest(model=str(staging)))
        write_onnx(hub.graph, staging / FLOAT_ONNX, hub.card)
        write_text(staging / LABELS, "".join(f"{label}\n" for label in hub.card.labels))
    return ImportedRun(
        run_dir=run_dir,
        card=read_card(run_dir / CHECKPOINT_NAME),
        num_params=hub.num_params,
        num_zeros=sum(int((constant == 0).sum()) for constant in hub.graph.constants.values()),
    )


def train_run(
    recipe: Recipe, run_dir: Path, *, resume: bool = False, progress: Progress | None = None, command: str = ""
) -> TrainedRun:
    """Train by a recipe into a run folder, drawing the curves after every epoch. Errors as `train.run.train`."""

    def draw(history: list[EpochRow], folder: Path) -> None:
        draw_curves(history, folder / CURVES)

    recipe = msgspec.structs.replace(recipe, data=resolve_data(recipe.data))
    hooks = RunHooks(progress=progress or Silent(), on_epoch=draw)
    return train(recipe, run_dir, resume=resume, command=command, hooks=hooks)
