"""The stages in order; the only place where they meet.

    load (name, run, checkpoint, ONNX) -> hub graph [-> prune, share, fine-tune] -> calibrate -> quantize [-> train]
      -> lower twice (ONNX QDQ, TFLite) -> pack -> verify [-> compare with the original] -> measure latency -> report

`compress` is the main job. Every stage takes and gives frozen types; files are written into a run folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekit.core.artifact import Artifact, ModelCard
from edgekit.core.errors import CheckpointError, IntegrityError, MissingDependencyError, UnknownNameError, UsageError
from edgekit.core.history import EpochRow
from edgekit.core.layout import (
    CURVES,
    FLOAT_ONNX,
    LABELS,
    MODEL_DC,
    MODEL_EKZ,
    MODEL_ONNX,
    MODEL_TFLITE,
    ORIGINAL_TFLITE,
    RECIPE,
)
from edgekit.core.measurement import Latency
from edgekit.core.progress import Progress, Silent
from edgekit.core.qat import QatSection
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import (
    DataSection,
    ModelSection,
    QuantizeSection,
    Recipe,
    dump_recipe,
    load_recipe,
)
from edgekit.core.report import Check, Original, Report, ShrinkReport
from edgekit.core.stages import StageClock, Tell, Watch
from edgekit.core.storage import staged_folder, write_bytes, write_text
from edgekit.data.dataset import Source
from edgekit.data.opening import open_source
from edgekit.data.reading import UnreadableLog
from edgekit.encode.files import pack_file
from edgekit.export.choices import choose_data, hub_request, resolve_data, resolve_model, with_labels
from edgekit.export.hub import HubModel, HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.lowbit.quantizing import check_recipe, quantize
from edgekit.lowbit.request import QuantizeJob, as_fixed_bits
from edgekit.lowbit.settling import settle_scheme
from edgekit.models.weights import copy_checkpoint
from edgekit.report.curves import draw_curves
from edgekit.report.files import JSON_NAME, write_report
from edgekit.runtime.benchmark import BenchmarkSettings, compare
from edgekit.runtime.card import read_tflite_card, require_classifier
from edgekit.shrink.reporting import Exported, judge_shrinking, measure_coding, most_values, shrink_report
from edgekit.shrink.request import ShrinkRequest, Shrunk, is_asked, name_suffix
from edgekit.shrink.stages import shrink
from edgekit.train.run import RunHooks, TrainedRun, train
from edgekit.verify.evaluation import evaluate_on
from edgekit.verify.subject import labels_fit, make_subject
from edgekit.verify.summary import RunFacts, summarize
from edgekit.verify.verification import Verification, verify

LATENCY_QUERIES = 200


class CompressRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to compress, and how.

    Args:
        recipe: Model, data, pruning, sharing, quantization, coding, bars. An empty data name stands for what the
            weights were trained on (the embedded pictures for the embedded weights).
        out_dir: Run folder; None for runs/<model>-<dataset>-<scheme>.
        measure_latency: Whether latency is measured.
        resume: Go on with fine-tuning that was interrupted.
        command: For the report.
    """

    recipe: Recipe
    out_dir: Path | None = None
    measure_latency: bool = True
    resume: bool = False
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


def compress(request: CompressRequest, progress: Progress | None = None, tell: Tell | None = None) -> Compressed:
    """Prune and share a model where asked, quantize it, lower it to ONNX and TFLite, verify both, and report.

    The run folder appears when everything in it is there: whatever ends the run before (an error, Ctrl-C) leaves
    nothing behind but the states of fine-tuning, in a folder beside it, for `resume`.

    Args:
        request: What, and how.
        progress: Shows how far it is.
        tell: Takes plans and notes, line by line, before they are carried out.

    Raises:
        EdgekitError: As the stages raise them. A missed bar is no error here: it is in `Compressed.passed` and in the
            report.
    """
    recipe = request.recipe
    watch = Watch(clock=StageClock(), progress=progress or Silent(), tell=tell or (lambda _: None))
    check_recipe(recipe)
    with watch.clock.stage("load"):
        hub = load_hub(hub_request(recipe.model))
        recipe = settle_scheme(recipe, hub.graph, watch.tell)
        request = msgspec.structs.replace(request, recipe=recipe)
        data_name = choose_data(recipe.model, recipe.data.name or None, hub)
        test = open_source(data_name, "test")
        hub = with_labels(hub, test)
    run_name = f"{hub.card.model}-{Path(data_name).name}-{recipe.quantize.scheme}{name_suffix(recipe)}"
    run_dir = request.out_dir or Path("runs") / run_name
    sources = _Sources(
        name=data_name,
        calibration=open_source(data_name, "calibration"),
        test=test,
        work_dir=run_dir.with_name(f"{run_dir.name}.work"),
    )
    if not request.resume:
        shutil.rmtree(sources.work_dir, ignore_errors=True)
    with staged_folder(run_dir, last=JSON_NAME) as staging:
        shrunk = Shrunk(hub=hub)
        if is_asked(recipe):
            asked = ShrinkRequest(
                recipe=recipe, data=data_name, work_dir=sources.work_dir, resume=request.resume, command=request.command
            )
            shrunk = shrink(asked, hub, sources.calibration, watch)
        made = _make_run(request, (hub, shrunk), sources, staging, watch)
        write_text(staging / RECIPE, dump_recipe(resolved_recipe(recipe, data_name)))
        write_report(made.report, staging)
    shutil.rmtree(sources.work_dir, ignore_errors=True)
    return msgspec.structs.replace(made, run_dir=run_dir)


class _Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures of a run, and where its resumable states lie."""

    name: str
    calibration: Source
    test: Source
    work_dir: Path


def _make_run(
    request: CompressRequest, models: tuple[HubModel, Shrunk], sources: _Sources, folder: Path, watch: Watch
) -> Compressed:
    """Make the model files in a folder, measure them, and put the report together."""
    config = request.recipe.quantize
    original, shrunk = models
    hub = with_labels(shrunk.hub, sources.test)
    unreadable = UnreadableLog()
    job = QuantizeJob(
        recipe=request.recipe,
        hub=hub,
        calibration=sources.calibration,
        test=sources.test,
        data=sources.name,
        one_scale=most_values(shrunk),
        work_dir=sources.work_dir,
        resume=request.resume,
        unreadable=unreadable,
    )
    made = quantize(job, watch)
    hub, quantized = made.hub, made.model
    with watch.clock.stage("export"):
        compute = made.section.compute if made.section else "int8"  # mixed bits may have come out above 4 everywhere
        artifacts = export(hub, quantized, folder, msgspec.structs.replace(config, compute=compute))
        write_text(folder / LABELS, "".join(f"{label}\n" for label in hub.card.labels))
        if shrunk.checkpoint_dir is not None:
            copy_checkpoint(shrunk.checkpoint_dir, folder)
    with watch.clock.stage("pack"):
        packed = pack_file(folder / MODEL_TFLITE, folder / MODEL_EKZ)
    with watch.clock.stage("verify"):
        subject = make_subject(hub, folder, sources.test, quantized.scheme)
        verification = verify(subject, sources.test, request.recipe.verify, watch.progress)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as beside:
        section, checks = None, ()
        if is_asked(request.recipe):
            with watch.clock.stage("original"):
                before = _make_original(request.recipe, original, sources, Path(beside), watch.progress)
            section, checks = _judge(request.recipe, (shrunk, before), quantized, verification, folder)
        with watch.clock.stage("latency"):
            paths = [*(artifact.path for artifact in artifacts.values()), *Path(beside).glob("*.tflite")]
            latency = measure_latency(paths, watch.progress) if request.measure_latency else []
    verification = msgspec.structs.replace(verification, checks=(*verification.checks, *checks))
    facts = RunFacts(
        artifacts=artifacts,
        ekz_bytes=packed.ekz_bytes,
        latency=tuple(latency),
        stages=tuple(watch.clock.rows),
        seed=config.seed,
        command=request.command,
    )
    report = summarize(hub, quantized, verification, sources.test, facts)
    return Compressed(
        run_dir=folder,
        report=msgspec.structs.replace(report, shrink=section, bits=made.section),
        passed=verification.passed,
        unreadable=(*unreadable.reasons, *verification.unreadable),
        num_unreadable=unreadable.num_pictures + verification.num_unreadable,
    )


def _make_original(recipe: Recipe, hub: HubModel, sources: _Sources, folder: Path, progress: Progress) -> Original:
    """The model as it was before pruning and sharing, quantized and packed the same way, for comparison."""
    float_file = write_onnx(hub.graph, folder / "original.onnx", hub.card)
    plain = msgspec.structs.replace(recipe, qat=QatSection(), quantize=as_fixed_bits(recipe.quantize))
    job = QuantizeJob(
        recipe=plain,
        hub=hub,
        calibration=sources.calibration,
        test=sources.test,
        data=sources.name,
        work_dir=folder,
    )
    made = quantize(job, Watch(clock=StageClock(), progress=progress, tell=lambda _: None))
    hub, quantized = made.hub, made.model
    tflite = write_tflite(quantized, folder / ORIGINAL_TFLITE, hub.card, float_io=recipe.quantize.float_io)
    packed = pack_file(tflite.path, folder / "original.ekz")
    accuracy = None
    if labels_fit(hub, sources.test):
        accuracy = evaluate_on(float_file.path, sources.test, recipe.verify.num_pictures, progress)
    return Original(
        num_params=hub.num_params,
        macs=hub.graph.num_macs,
        float_bytes=float_file.size_bytes,
        tflite_bytes=tflite.size_bytes,
        ekz_bytes=packed.ekz_bytes,
        accuracy=accuracy,
    )


def _judge(
    recipe: Recipe,
    models: tuple[Shrunk, Original],
    quantized: QuantizedGraph,
    verification: Verification,
    folder: Path,
) -> tuple[ShrinkReport, tuple[Check, ...]]:
    """The report's section on pruning, sharing and coding, and its bars."""
    shrunk, before = models
    exported = Exported(
        graph=quantized.graph, stored=verification.stored, run_dir=folder, accuracy=verification.accuracy.tflite
    )
    table = measure_coding(exported, recipe.code.gap_bits)
    if recipe.code.method == "huffman":
        write_bytes(folder / MODEL_DC, table.content)
    section = shrink_report(shrunk, before, exported, table, recipe)
    return section, judge_shrinking(shrunk, before, exported, recipe.verify.max_drop)


def export(hub: HubModel, quantized: QuantizedGraph, run_dir: Path, config: QuantizeSection) -> dict[str, Artifact]:
    """Write the float ONNX file and both lowerings of the quantized graph into a run folder."""
    card: ModelCard = hub.card
    tflite_path = run_dir / MODEL_TFLITE
    return {
        FLOAT_ONNX: write_onnx(hub.graph, run_dir / FLOAT_ONNX, card),
        MODEL_ONNX: write_onnx(quantized, run_dir / MODEL_ONNX, card),
        MODEL_TFLITE: write_tflite(quantized, tflite_path, card, float_io=config.float_io, compute=config.compute),
    }


def resolved_recipe(recipe: Recipe, data_name: str) -> Recipe:
    """The recipe that makes the same files again, from any folder."""
    return msgspec.structs.replace(
        recipe, model=resolve_model(recipe.model), data=resolve_data(DataSection(name=data_name))
    )


def measure_latency(paths: Sequence[Path], progress: Progress) -> list[Latency]:
    """A short interleaved benchmark of the files, one thread; `edgekit bench` measures longer."""
    settings = BenchmarkSettings(num_queries=LATENCY_QUERIES, max_seconds=10.0)
    progress.begin("measure latency", settings.num_queries)
    done = 0

    def advance(num_done: int, _total: int) -> None:
        nonlocal done
        progress.advance(num_done - done)
        done = num_done

    latency = compare(paths, settings, progress=advance)
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
        UsageError: No run folder, or files are missing in it, or they give features (see `embedding.verify_extractor`).
        EdgekitError: As the stages raise them.
    """
    missing = [name for name in (RECIPE, FLOAT_ONNX, MODEL_ONNX, MODEL_TFLITE) if not (run_dir / name).is_file()]
    if missing:
        raise UsageError(f"{run_dir} is no run folder: {', '.join(missing)} missing", hint="edgekit compress makes one")
    require_classifier(read_tflite_card(run_dir / MODEL_TFLITE), run_dir)
    recipe = load_recipe(run_dir / RECIPE)
    hub = _reload(recipe, run_dir)
    source = open_source(recipe.data.name, "test")
    config = recipe.verify if max_drop is None else msgspec.structs.replace(recipe.verify, max_drop=max_drop)
    subject = make_subject(with_labels(hub, source), run_dir, source, recipe.quantize.scheme)
    return verify(subject, source, config, progress or Silent())


def _reload(recipe: Recipe, run_dir: Path) -> HubModel:
    """The float model of a run: with its torch model where that is still at hand, else the run's float ONNX file."""
    stand_in = HubRequest(model=str(run_dir / FLOAT_ONNX))
    model = recipe.model
    if is_asked(recipe):
        return load_hub(HubRequest(model=str(run_dir)))
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


def train_run(
    recipe: Recipe, run_dir: Path, *, resume: bool = False, progress: Progress | None = None, command: str = ""
) -> TrainedRun:
    """Train by a recipe into a run folder, drawing the curves after every epoch. Errors as `train.run.train`."""

    def draw(history: list[EpochRow], folder: Path) -> None:
        draw_curves(history, folder / CURVES)

    recipe = msgspec.structs.replace(recipe, data=resolve_data(recipe.data))
    hooks = RunHooks(progress=progress or Silent(), on_epoch=draw)
    return train(recipe, run_dir, resume=resume, command=command, hooks=hooks)
