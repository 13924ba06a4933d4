"""The stages in order; the only place where they meet.

    load (name, run, checkpoint, ONNX) -> hub graph [-> prune, share, fine-tune] -> calibrate -> quantize [-> train]
      -> lower twice (ONNX QDQ, TFLite) -> pack -> verify [-> compare with the original] -> measure latency -> report

`compress` is the main job; `edgekit.embedding` goes through the same steps (`open_run`, `make_files`, `conclude`) and
judges features in between. Every stage takes and gives frozen types; files are written into a run folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgekit.core.artifact import Artifact
from edgekit.core.errors import CheckpointError, IntegrityError, MissingDependencyError, UsageError
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
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import DataSection, ModelSection, QatSection, Recipe
from edgekit.core.recipe_files import dump_recipe, load_recipe
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
from edgekit.export.writing import write_run
from edgekit.lowbit.quantizing import check_recipe, quantize
from edgekit.lowbit.request import Quantized, QuantizeJob, as_fixed_bits
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
from edgekit.verify.matching import match_classes
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
    watch = Watch(clock=StageClock(), progress=progress or Silent(), tell=tell or (lambda _: None))
    check_recipe(request.recipe)
    opened = open_run(request.recipe, watch)
    recipe, hub = opened.recipe, opened.hub
    run_name = f"{hub.card.model}-{Path(opened.data).name}-{recipe.quantize.scheme}{name_suffix(recipe)}"
    run_dir = request.out_dir or Path("runs") / run_name
    work_dir = run_dir.with_name(f"{run_dir.name}.work")
    if not request.resume:
        shutil.rmtree(work_dir, ignore_errors=True)
    with staged_folder(run_dir, last=JSON_NAME) as staging:
        shrunk = Shrunk(hub=hub)
        if is_asked(recipe):
            asked = ShrinkRequest(
                recipe=recipe, data=opened.data, work_dir=work_dir, resume=request.resume, command=request.command
            )
            shrunk = shrink(asked, hub, opened.calibration, watch)
        made = _make_run(request, (opened, shrunk), work_dir, staging, watch)
        write_text(staging / RECIPE, dump_recipe(resolved_recipe(recipe, opened.data)))
        write_report(made.report, staging)
    shutil.rmtree(work_dir, ignore_errors=True)
    return msgspec.structs.replace(made, run_dir=run_dir)


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What a run begins with.

    Args:
        recipe: As it was asked for, its scheme settled.
        hub: The float model.
        data: Dataset or folder of its pictures.
        calibration: Pictures to calibrate with.
        test: Pictures to measure on.
    """

    recipe: Recipe
    hub: HubModel
    data: str
    calibration: Source
    test: Source


def open_run(recipe: Recipe, watch: Watch) -> Opened:
    """Load the model, settle the scheme, and open the pictures, in its classes. Errors as these stages raise them."""
    with watch.clock.stage("load"):
        hub = load_hub(hub_request(recipe.model))
        recipe = settle_scheme(recipe, hub.graph, watch.tell)
        data = choose_data(recipe.model, recipe.data.name or None, hub)
        calibration = match_classes(open_source(data, "calibration"), hub.card.labels)
        test = match_classes(open_source(data, "test"), hub.card.labels)
    return Opened(recipe=recipe, hub=with_labels(hub, test), data=data, calibration=calibration, test=test)


def _make_run(
    request: CompressRequest, models: tuple[Opened, Shrunk], work_dir: Path, folder: Path, watch: Watch
) -> Compressed:
    """Make the model files in a folder, measure them, and put the report together."""
    opened, shrunk = models
    recipe, test = opened.recipe, opened.test
    job = QuantizeJob(
        recipe=recipe,
        hub=with_labels(shrunk.hub, test),
        calibration=opened.calibration,
        test=test,
        data=opened.data,
        one_scale=most_values(shrunk),
        work_dir=work_dir,
        resume=request.resume,
    )
    files = make_files(job, folder, watch)
    write_text(folder / LABELS, "".join(f"{label}\n" for label in files.made.hub.card.labels))
    if shrunk.checkpoint_dir is not None:
        copy_checkpoint(shrunk.checkpoint_dir, folder)
    with watch.clock.stage("verify"):
        subject = make_subject(files.made.hub, folder, test, files.made.model.scheme)
        verification = verify(subject, test, recipe.verify, watch.progress)
    if not is_asked(recipe):
        return conclude(request, opened, files, verification, watch)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as beside:
        with watch.clock.stage("original"):
            before = _make_original(opened, Path(beside), watch.progress)
        section, checks = _judge(recipe, (shrunk, before), files.made.model, verification, folder)
        verification = msgspec.structs.replace(verification, checks=(*verification.checks, *checks))
        made = conclude(request, opened, files, verification, watch, also=(Path(beside) / ORIGINAL_TFLITE,))
    return msgspec.structs.replace(made, report=msgspec.structs.replace(made.report, shrink=section))


class RunFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The model files of a run.

    Args:
        folder: Where they lie.
        made: What was lowered.
        artifacts: File name -> written file.
        ekz_bytes: Size of the TFLite file, packed.
        unreadable: Calibration pictures that could not be read.
    """

    folder: Path
    made: Quantized
    artifacts: Mapping[str, Artifact]
    ekz_bytes: int
    unreadable: UnreadableLog


def make_files(job: QuantizeJob, folder: Path, watch: Watch) -> RunFiles:
    """Quantize, lower twice, pack. Errors as these stages raise them."""
    made = quantize(job, watch)
    with watch.clock.stage("export"):
        compute = made.section.compute if made.section else "int8"  # mixed bits may have come out above 4 everywhere
        float_io = job.recipe.quantize.float_io
        artifacts = write_run(made.hub, made.model, folder, float_io=float_io, compute=compute)
    with watch.clock.stage("pack"):
        packed = pack_file(folder / MODEL_TFLITE, folder / MODEL_EKZ)
    return RunFiles(
        folder=folder, made=made, artifacts=artifacts, ekz_bytes=packed.ekz_bytes, unreadable=job.unreadable
    )


def conclude(
    request: CompressRequest,
    opened: Opened,
    files: RunFiles,
    verification: Verification,
    watch: Watch,
    *,
    also: Sequence[Path] = (),
) -> Compressed:
    """Measure latency, where that is asked, and put the report together.

    Args:
        request: What was asked for.
        opened: What the run began with.
        files: What it made.
        verification: What these turned out to be.
        watch: Who is told what happens.
        also: Further files to measure the latency of.
    """
    with watch.clock.stage("latency"):
        paths = [*(artifact.path for artifact in files.artifacts.values()), *also]
        latency = _measure_latency(paths, watch.progress) if request.measure_latency else []
    facts = RunFacts(
        artifacts=files.artifacts,
        ekz_bytes=files.ekz_bytes,
        latency=tuple(latency),
        stages=tuple(watch.clock.rows),
        seed=opened.recipe.quantize.seed,
        command=request.command,
    )
    report = summarize(files.made.hub, files.made.model, verification, opened.test, facts)
    return Compressed(
        run_dir=files.folder,
        report=msgspec.structs.replace(report, bits=files.made.section),
        passed=verification.passed,
        unreadable=(*files.unreadable.reasons, *verification.unreadable),
        num_unreadable=files.unreadable.num_pictures + verification.num_unreadable,
    )


def _make_original(opened: Opened, folder: Path, progress: Progress) -> Original:
    """The model as it was before pruning and sharing, quantized and packed the same way, for comparison."""
    recipe, hub, test = opened.recipe, opened.hub, opened.test
    float_file = write_onnx(hub.graph, folder / "original.onnx", hub.card)
    plain = msgspec.structs.replace(recipe, qat=QatSection(), quantize=as_fixed_bits(recipe.quantize))
    job = QuantizeJob(
        recipe=plain, hub=hub, calibration=opened.calibration, test=test, data=opened.data, work_dir=folder
    )
    made = quantize(job, Watch(clock=StageClock(), progress=progress, tell=lambda _: None))
    hub, quantized = made.hub, made.model
    tflite = write_tflite(quantized, folder / ORIGINAL_TFLITE, hub.card, float_io=recipe.quantize.float_io)
    packed = pack_file(tflite.path, folder / "original.ekz")
    accuracy = None
    if labels_fit(hub, test):
        accuracy = evaluate_on(float_file.path, test, recipe.verify.num_pictures, progress)
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


def resolved_recipe(recipe: Recipe, data_name: str) -> Recipe:
    """The recipe that makes the same files again, from any folder."""
    return msgspec.structs.replace(
        recipe, model=resolve_model(recipe.model), data=resolve_data(DataSection(name=data_name))
    )


def _measure_latency(paths: Sequence[Path], progress: Progress) -> list[Latency]:
    """A short interleaved benchmark of the files, one thread; `edgekit bench` measures longer."""
    settings = BenchmarkSettings(num_queries=LATENCY_QUERIES, max_seconds=10.0)
    progress.begin("measure latency", settings.num_queries)
    latency = compare(paths, settings, progress=progress)
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
    source = match_classes(open_source(recipe.data.name, "test"), hub.card.labels)
    config = recipe.verify if max_drop is None else msgspec.structs.replace(recipe.verify, max_drop=max_drop)
    subject = make_subject(with_labels(hub, source), run_dir, source, recipe.quantize.scheme)
    return verify(subject, source, config, progress or Silent())


def _reload(recipe: Recipe, run_dir: Path) -> HubModel:
    """The float model of a run: with its torch model where that is still at hand, else the run's float ONNX file."""
    if is_asked(recipe):
        return load_hub(HubRequest(model=str(run_dir)))
    return load_again(recipe.model) or load_hub(HubRequest(model=str(run_dir / FLOAT_ONNX)))


def load_again(model: ModelSection) -> HubModel | None:
    """The model that a run was made of; None where it is no longer at hand, or may have changed since."""
    if Path(model.name).suffix.lower() == ".onnx":  # the user's file
        return None
    try:
        return load_hub(hub_request(model))
    except (CheckpointError, IntegrityError, UsageError, MissingDependencyError):
        return None


def train_run(
    recipe: Recipe, run_dir: Path, *, resume: bool = False, progress: Progress | None = None, command: str = ""
) -> TrainedRun:
    """Train by a recipe into a run folder, drawing the curves after every epoch. Errors as `train.run.train`."""

    def draw(history: list[EpochRow], folder: Path) -> None:
        draw_curves(history, folder / CURVES)

    recipe = msgspec.structs.replace(recipe, data=resolve_data(recipe.data))
    hooks = RunHooks(progress=progress or Silent(), on_epoch=draw)
    return train(recipe, run_dir, resume=resume, command=command, hooks=hooks)
