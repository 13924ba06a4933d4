"""A model as a feature extractor: cut, quantized, exported, verified and reported like a classifier.

    load -> cut the classifier off -> calibrate -> quantize -> lower twice (and float twice) -> pack -> verify
      -> measure latency -> report

What it does with the files of a run is `edgekit.pipeline`'s; its own are the cut, and what features are judged by.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from edgekit.core.errors import UsageError
from edgekit.core.layout import FLOAT_TFLITE
from edgekit.core.progress import Progress, Silent
from edgekit.core.recipe import Recipe
from edgekit.core.stages import StageClock, Tell, Watch
from edgekit.core.storage import staged_folder
from edgekit.export.features import as_extractor
from edgekit.lowbit.quantizing import check_recipe
from edgekit.lowbit.request import QuantizeJob
from edgekit.pipeline import Compressed, CompressRequest, Opened, conclude, make_files, open_run
from edgekit.quantize.schemes import parse_scheme
from edgekit.report.files import JSON_NAME, write_report
from edgekit.shrink.request import is_asked
from edgekit.verify.features import verify_features
from edgekit.verify.subject import make_subject


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
    watch = Watch(clock=StageClock(), progress=progress or Silent(), tell=tell or (lambda _: None))
    check_recipe(request.recipe)
    _check_features(request.recipe)
    opened = open_run(request.recipe, watch)
    run_name = f"{opened.hub.card.model}-{Path(opened.data).name}-features-{opened.recipe.quantize.scheme}"
    run_dir = request.out_dir or Path("runs") / run_name
    with staged_folder(run_dir, last=JSON_NAME) as staging:
        made = _make_run(request, opened, staging, watch)
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


def _make_run(request: CompressRequest, opened: Opened, folder: Path, watch: Watch) -> Compressed:
    """Make the files in a folder, measure them, and put the report together."""
    recipe, test = opened.recipe, opened.test
    extractor, cut = as_extractor(opened.hub)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as beside:
        job = QuantizeJob(
            recipe=recipe,
            hub=extractor,
            calibration=opened.calibration,
            test=test,
            data=opened.data,
            work_dir=Path(beside),
        )
        files = make_files(job, folder, watch)
    with watch.clock.stage("verify"):
        subject = make_subject(files.made.hub, folder, test, files.made.model.scheme)
        found = verify_features(subject, cut, folder / FLOAT_TFLITE, test, recipe.verify, watch.progress)
    made = conclude(request, opened, files, found.verification, watch)
    labelled = bool(found.section.precision)
    dataset = msgspec.structs.replace(made.report.dataset, labelled=labelled, class_names=test.class_names)
    report = msgspec.structs.replace(made.report, dataset=dataset, features=found.section)
    return msgspec.structs.replace(made, report=report)
