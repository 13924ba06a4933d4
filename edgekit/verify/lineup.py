"""Who is compared in robustness: the float model before compression, the file after it, and another beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edgekit.bundle.reading import is_bundle
from edgekit.core.errors import (
    CheckpointError,
    GraphError,
    IntegrityError,
    MissingDependencyError,
    UnsupportedOpError,
    UsageError,
)
from edgekit.core.graph import Graph
from edgekit.core.layout import FLOAT_ONNX, MODEL_EKZ, MODEL_ONNX, MODEL_TFLITE, RECIPE
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import Recipe
from edgekit.core.recipe_files import load_recipe
from edgekit.export.choices import hub_request
from edgekit.export.hub import HubModel, HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.perturb.gradient import LossGradient
from edgekit.perturb.torch_gradient import make_loss_gradient
from edgekit.quantize.network import GraphNetwork
from edgekit.verify.contenders import FILE_SUFFIXES, Contender, open_contender

FLOAT = "float"
"""Scheme id of a model that is not quantized."""


class LineupRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to be compared.

    Args:
        model: What `open_contender` takes.
        vs: Others beside it.
        float_model: The model before compression; None to find it (a run's own origin, or `vs`).
        num_threads: Threads of the runtime.
    """

    model: str
    vs: tuple[str, ...] = ()
    float_model: str | None = None
    num_threads: int = 2


class Lineup(msgspec.Struct, frozen=True, kw_only=True):
    """Models that take the same pictures, the one that the others are compared with first.

    Args:
        contenders: The float model where there is one, then the others.
        gradient_of: Of the first one's loss; None where it has no gradient.
        notes: Which model is the float one, and what there is none for, one sentence each.
    """

    contenders: tuple[Contender, ...]
    gradient_of: LossGradient | None
    notes: tuple[str, ...]


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is open, with its float graph where one is at hand."""

    contender: Contender
    graph: Graph | None = None

    @property
    def is_float(self) -> bool:
        """Whether it is not quantized."""
        return self.contender.about.scheme == FLOAT


def open_lineup(request: LineupRequest) -> Lineup:
    """Open the models, and put the one before compression first.

    That is the one of `float_model`; else the model itself where it is float; else the origin of its run (its
    `float.onnx`, where the origin is gone); else the first of `vs` where it is float. Where there is none, the model
    itself comes first, and nothing follows a gradient.

    Raises:
        UsageError: Models that want their pictures in other sizes, or as `open_contender` raises it.
        EdgekitError: As `open_contender` and `load_hub` raise it.
    """
    main = _open(request.model, request.num_threads)
    beside = [_open(name, request.num_threads, main.contender.spec) for name in request.vs]
    notes: list[str] = []
    if request.float_model is not None:
        first: _Entry | None = _open(request.float_model, request.num_threads, main.contender.spec)
    elif main.is_float:
        first = None
    else:
        first = _open_origin(request, main, notes)
        if first is None and beside and beside[0].is_float:
            first, beside = beside[0], beside[1:]
    entries = [*([] if first is None else [first]), main, *beside]
    _check_alike([entry.contender for entry in entries])
    return Lineup(
        contenders=tuple(entry.contender for entry in entries),
        gradient_of=_find_gradient(entries[0], notes),
        notes=tuple(notes),
    )


def _open(name: str, num_threads: int, fallback_spec: PreprocessSpec | None = None) -> _Entry:
    """Open what a user names. Float weights are run as ONNX, which says what torch says, and sooner."""
    path = Path(name).expanduser()
    is_file = path.suffix.lower() in FILE_SUFFIXES and not path.is_dir()
    if is_bundle(path) or (is_file and path.suffix.lower() != ".onnx") or (path / MODEL_TFLITE).is_file():
        return _Entry(contender=open_contender(name, num_threads=num_threads))
    if is_file and fallback_spec is None:
        contender = open_contender(name, num_threads=num_threads)
        graph = load_hub(HubRequest(model=name)).graph if contender.about.scheme == FLOAT else None
        return _Entry(contender=contender, graph=graph)
    if is_file and _is_quantized(name, num_threads):
        return _Entry(contender=open_contender(name, num_threads=num_threads))
    return _open_hub(name, load_hub(HubRequest(model=name, fallback_spec=fallback_spec)), num_threads)


def _is_quantized(name: str, num_threads: int) -> bool:
    try:
        return open_contender(name, num_threads=num_threads).about.scheme != FLOAT
    except UsageError:
        return False  # somebody's file without a card


def _open_hub(name: str, hub: HubModel, num_threads: int) -> _Entry:
    if not hub.trained:
        raise UsageError(f"{name} has random weights: nothing to be robust", hint="name trained weights")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        written = write_onnx(hub.graph, Path(folder) / FLOAT_ONNX, hub.card)
        contender = open_contender(str(written.path), num_threads=num_threads)
    about = msgspec.structs.replace(contender.about, given=name, file=None, size_bytes=None, sha256=None)
    return _Entry(contender=msgspec.structs.replace(contender, about=about), graph=hub.graph)


def _open_origin(request: LineupRequest, main: _Entry, notes: list[str]) -> _Entry | None:
    """The float model that a run of compress started from; None where the model is in no run."""
    run_dir = _find_run(Path(request.model).expanduser())
    if run_dir is None:
        return None
    recipe = load_recipe(run_dir / RECIPE)
    spec, stand_in = main.contender.spec, str(run_dir / FLOAT_ONNX)
    is_foreign = Path(recipe.model.name).suffix.lower() == ".onnx"
    if is_foreign and not _is_shrunk(recipe):  # the user's file may have changed since
        notes.append(f"The float model is the run's {FLOAT_ONNX}.")
        return _open(stand_in, request.num_threads, spec)
    try:
        wanted = msgspec.structs.replace(hub_request(recipe.model), fallback_spec=spec)
        origin = _open_hub(recipe.model.name, load_hub(wanted), request.num_threads)
    except (CheckpointError, IntegrityError, UsageError, MissingDependencyError, GraphError) as error:
        what = "the model after pruning and sharing" if _is_shrunk(recipe) else "what was compressed"
        notes.append(
            f"The run's origin cannot be loaded ({error.message}), so its {FLOAT_ONNX}, {what}, is the float model."
        )
        return _open(stand_in, request.num_threads, spec)
    notes.append(f"The float model is the run's origin, {recipe.model.name}.")
    return origin


def _find_run(path: Path) -> Path | None:
    """The run folder that a path names, or in which the file it names is one of the run's."""
    if path.is_dir():
        folder = path
    elif path.name in {MODEL_TFLITE, MODEL_ONNX, MODEL_EKZ}:
        folder = path.parent
    else:
        return None
    return folder if (folder / RECIPE).is_file() and (folder / FLOAT_ONNX).is_file() else None


def _is_shrunk(recipe: Recipe) -> bool:
    return recipe.prune.channels > 0 or recipe.prune.makes_zeros or recipe.share.is_asked


def _check_alike(contenders: Sequence[Contender]) -> None:
    """Changed pictures are shown to all models as they are, so all must take the same."""
    first = contenders[0]
    for other in contenders[1:]:
        for what, one, two in (
            ("pictures of", first.spec.input_size, other.spec.input_size),
            ("channels", first.spec.num_channels, other.spec.num_channels),
            ("a crop of", first.spec.crop_fraction, other.spec.crop_fraction),
            ("resizing by", first.spec.interpolation, other.spec.interpolation),
            ("classes", first.num_classes, other.num_classes),
        ):
            if one != two:
                raise UsageError(
                    f"{first.about.given} wants {what} {one}, {other.about.given} {two}: "
                    "they cannot be shown the same pictures",
                    hint="compare models with the same preprocessing and classes",
                )


def _find_gradient(first: _Entry, notes: list[str]) -> LossGradient | None:
    """The gradient of a float graph's loss; None, and a note, without one."""
    given = first.contender.about.given
    if not first.is_float:
        notes.append(
            f"No float model is at hand, so nothing follows a gradient, and {given} is what others are compared with: "
            "name the model before compression by --float."
        )
        return None
    if first.graph is None:
        notes.append(
            f"{given} can be run but not differentiated, so nothing follows a gradient: name float weights or an .onnx "
            "file by --float."
        )
        return None
    spec = first.contender.spec
    gradient_of = make_loss_gradient(GraphNetwork(first.graph).eval(), spec)
    try:
        gradient_of(np.zeros((1, *spec.input_size, spec.num_channels), np.float32), np.zeros(1, np.int64))
    except UnsupportedOpError as error:
        notes.append(f"{given} cannot be differentiated ({error.message}), so nothing follows a gradient.")
        return None
    return gradient_of
