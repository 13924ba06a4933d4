"""A model as a feature extractor: cut, quantized, exported, verified and reported like a classifier.

    load -> cut the classifier off -> calibrate -> quantize -> lower twice (and float twice) -> pack -> verify
      -> measure latency -> report

Beside `edgekit.pipeline`, which makes classifiers, the only place where stages meet.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from edgekit.core.errors import UsageError
from edgekit.core.layout import FLOAT_TFLITE, MODEL_EKZ, MODEL_TFLITE
from edgekit.core.progress import Progress, Silent
from edgekit.core.recipe import Recipe
from edgekit.core.stages import StageClock, Tell, Watch
from edgekit.core.storage import staged_folder
from edgekit.data.dataset import Source
from edgekit.data.opening import open_source
from edgekit.data.reading import UnreadableLog
from edgekit.encode.files import pack_file
from edgekit.export.choices import choose_data, hub_request
from edgekit.export.features import FeatureCut, as_extractor
from edgekit.export.hub import HubModel, load_hub
from edgekit.export.tflite import write_tflite
from edgekit.lowbit.quantizing import check_recipe, quantize
from edgekit.lowbit.request import QuantizeJob
from edgekit.lowbit.settling import settle_scheme
from edgekit.pipeline import Compressed, CompressRequest, export, measure_latency
from edgekit.quantize.schemes import parse_scheme
from edgekit.report.files import JSON_NAME, write_report
from edgekit.shrink.request import is_asked
from edgekit.verify.features import verify_features
from edgekit.verify.subject import make_subject
from edgekit.verify.summary import RunFacts, summarize


def embed(request: CompressRequest, progress: Progress | None = None, tell: Tell | None = None) -> Compressed:
    """Export a model up to its penultimate layer, in float and quantized, and measure what its features find.

    Args:
        request: What, and how; as for `pipeline.compress`, but nothing that asks the classifier.
        progress: Shows how far it is.
        tell: Takes notes, line by line.

    Raises:
        UsageError: The recipe prunes, shares or trains, or chooses bits by what the classifier loses.
        GraphError: A model without a last layer that could be cut off.
        EdgekitError: As the stages raise them. A missed bar is no error here: it is in `Compressed.passed` and in the
            report.
    """
    recipe = request.recipe
    watch = Watch(clock=StageClock(), progress=progress or Silent(), tell=tell or (lambda _: None))
    check_recipe(recipe)
    _check_features(recipe)
    with watch.clock.stage("load"):
        hub = load_hub(hub_request(recipe.model))
        recipe = settle_scheme(recipe, hub.graph, watch.tell)
        request = msgspec.structs.replace(request, recipe=recipe)
        data_name = choose_data(recipe.model, recipe.data.name or None, hub)
        extractor, cut = as_extractor(hub)
        pictures = (open_source(data_name, "calibration"), open_source(data_name, "test"))
    run_name = f"{hub.card.model}-{Path(data_name).name}-features-{recipe.quantize.scheme}"
    run_dir = request.out_dir or Path("runs") / run_name
    with staged_folder(run_dir, last=JSON_NAME) as staging:
        made = _make_run(request, (extractor, cut), (data_name, *pictures), staging, watch)
        write_report(made.report, staging)
    return msgspec.structs.replace(made, run_dir=run_dir)


def _check_features(recipe: Recipe) -> None:
    """Refuse what needs answers in classes.

    Raises:
        UsageError: Pruning, sharing, training, a sweep, or mixed bits without a budget.
    """
    hint = "do it to the classifier with edgekit compress, and make the extractor from that run"
    if is_asked(recipe):
        raise UsageError("an extractor is not pruned or shared: fine-tuning needs the classifier", hint=hint)
    if recipe.qat.epochs:
        raise UsageError("an extractor is not trained: training needs the classifier's answers", hint=hint)
    if recipe.quantize.pareto:
        raise UsageError("an extractor has no accuracy to sweep sizes against", hint="leave out --pareto")
    if parse_scheme(recipe.quantize.scheme).is_mixed and recipe.quantize.budget_kb is None:
        raise UsageError(
            "bits per layer are chosen by what a classifier may lose, and an extractor has no answers to lose",
            hint="say how large it may be: --budget-kb KB",
        )


def _make_run(
    request: CompressRequest,
    model: tuple[HubModel, FeatureCut],
    data: tuple[str, Source, Source],
    folder: Path,
    watch: Watch,
) -> Compressed:
    """Make the files in a folder, measure them, and put the report together."""
    config = request.recipe.quantize
    (hub, cut), (data_name, calibration, test) = model, data
    unreadable = UnreadableLog()
    with tempfile.TemporaryDirectory(prefix="edgekit-") as beside:
        job = QuantizeJob(
            recipe=request.recipe,
            hub=hub,
            calibration=calibration,
            test=test,
            data=data_name,
            work_dir=Path(beside),
            unreadable=unreadable,
        )
        made = quantize(job, watch)
    hub = made.hub
    with watch.clock.stage("export"):
        compute = made.section.compute if made.section else "int8"
        artifacts = export(hub, made.model, folder, msgspec.structs.replace(config, compute=compute))
        artifacts[FLOAT_TFLITE] = write_tflite(hub.graph, folder / FLOAT_TFLITE, hub.card)
    with watch.clock.stage("pack"):
        packed = pack_file(folder / MODEL_TFLITE, folder / MODEL_EKZ)
    with watch.clock.stage("verify"):
        subject = make_subject(hub, folder, test, made.model.scheme)
        found = verify_features(subject, cut, folder / FLOAT_TFLITE, test, request.recipe.verify, watch.progress)
    with watch.clock.stage("latency"):
        paths = [artifact.path for artifact in artifacts.values()]
        latency = measure_latency(paths, watch.progress) if request.measure_latency else []
    facts = RunFacts(
        artifacts=artifacts,
        ekz_bytes=packed.ekz_bytes,
        latency=tuple(latency),
        stages=tuple(watch.clock.rows),
        seed=config.seed,
        command=request.command,
    )
    verification, section = found.verification, found.section
    report = summarize(hub, made.model, verification, test, facts)
    dataset = msgspec.structs.replace(report.dataset, labelled=bool(section.precision), class_names=test.class_names)
    return Compressed(
        run_dir=folder,
        report=msgspec.structs.replace(report, dataset=dataset, features=section, bits=made.section),
        passed=verification.passed,
        unreadable=(*unreadable.reasons, *verification.unreadable),
        num_unreadable=unreadable.num_pictures + verification.num_unreadable,
    )
