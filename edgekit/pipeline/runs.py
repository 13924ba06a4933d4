"""What else is done with models and run folders: verify one again, export in float, train."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.artifact import Artifact
from edgekit.core.errors import CheckpointError, IntegrityError, MissingDependencyError, UnknownNameError, UsageError
from edgekit.core.history import EpochRow
from edgekit.core.progress import Progress, Silent
from edgekit.core.recipe import ModelSection, Recipe, load_recipe
from edgekit.data.dataset import Source
from edgekit.data.opening import open_source
from edgekit.export.hub import HubModel, HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.pipeline.choices import hub_request, labels_fit, resolve_data, with_labels
from edgekit.pipeline.layout import CURVES, FLOAT_ONNX, MODEL_ONNX, MODEL_TFLITE, RECIPE
from edgekit.report.curves import draw_curves
from edgekit.train.run import TrainedRun, train
from edgekit.verify.verification import Subject, Verification, verify


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
        labels_fit=labels_fit(hub, source),
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


def train_run(
    recipe: Recipe, run_dir: Path, *, resume: bool = False, progress: Progress | None = None, command: str = ""
) -> TrainedRun:
    """Train by a recipe into a run folder, drawing the curves after every epoch. Errors as `train.run.train`."""

    def draw(history: list[EpochRow], folder: Path) -> None:
        draw_curves(history, folder / CURVES)

    recipe = msgspec.structs.replace(recipe, data=resolve_data(recipe.data))
    return train(recipe, run_dir, resume=resume, progress=progress or Silent(), command=command, on_epoch=draw)
