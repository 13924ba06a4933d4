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
from edgekit.core.layout import FLOAT_ONNX, FLOAT_TFLITE, MODEL_ONNX, MODEL_TFLITE, RECIPE
from edgekit.core.progress import Progress, Silent
from edgekit.core.recipe import Recipe
from edgekit.core.recipe_files import dump_recipe, load_recipe
from edgekit.core.stages import StageClock, Tell, Watch
from edgekit.core.storage import staged_folder, write_text
from edgekit.data.opening import open_source
from edgekit.export.features import FeatureCut, as_extractor, read_extractor
from edgekit.export.hub import HubModel
from edgekit.lowbit.quantizing import check_recipe
from edgekit.lowbit.request import QuantizeJob
from edgekit.pipeline import (
    Compressed,
    CompressRequest,
    Opened,
    conclude,
    load_again,
    make_files,
    open_run,
    resolved_recipe,
)
from edgekit.quantize.schemes import parse_scheme
from edgekit.report.files import JSON_NAME, read_report, write_report
from edgekit.runtime.card import read_tflite_card
from edgekit.shrink.request import is_asked
from edgekit.verify.features import FeatureVerification, verify_features
from edgekit.verify.subject import make_subject

_NEEDED = (RECIPE, JSON_NAME, FLOAT_ONNX, FLOAT_TFLITE, MODEL_ONNX, MODEL_TFLITE)


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
        write_text(staging / RECIPE, dump_recipe(resolved_recipe(opened.recipe, opened.data)))
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


def is_extractor(run_dir: Path) -> bool:
    """Whether a run folder holds a feature extractor: its TFLite file says so. False where there is none.

    Raises:
        IntegrityError: The file's card is damaged.
    """
    path = run_dir / MODEL_TFLITE
    card = read_tflite_card(path) if path.is_file() else None
    return card is not None and card.kind == "features"


def verify_extractor(
    run_dir: Path, max_drop: float | None = None, progress: Progress | None = None
) -> FeatureVerification:
    """Verify the files of an extractor once more, by its own recipe, as `embed` did.

    The torch model is asked too when it can still be loaded; otherwise the float ONNX file stands for it.

    Args:
        run_dir: Folder that `embed` made.
        max_drop: Another bar than the recipe's, in points of precision at 1; None for the recipe's.
        progress: Shows how far it is.

    Raises:
        UsageError: Files are missing in the folder, or they give classes.
        EdgekitError: As the stages raise them.
    """
    missing = [name for name in _NEEDED if not (run_dir / name).is_file()]
    if missing:
        raise UsageError(
            f"{run_dir} is no whole feature extractor: {', '.join(missing)} missing", hint="edgekit embed makes one"
        )
    recipe = load_recipe(run_dir / RECIPE)
    hub, cut = _reload(recipe, run_dir)
    source = open_source(recipe.data.name, "test")
    config = recipe.verify if max_drop is None else msgspec.structs.replace(recipe.verify, max_drop=max_drop)
    subject = make_subject(hub, run_dir, source, recipe.quantize.scheme)
    return verify_features(subject, cut, run_dir / FLOAT_TFLITE, source, config, progress or Silent())


def _reload(recipe: Recipe, run_dir: Path) -> tuple[HubModel, FeatureCut]:
    """The float extractor: cut from its model again where that is at hand, else the run's float ONNX file."""
    hub = load_again(recipe.model)
    if hub is not None:
        return as_extractor(hub)
    known = read_report(run_dir).features
    return read_extractor(run_dir / FLOAT_ONNX, "" if known is None else known.layer)
