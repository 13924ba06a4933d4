"""The recipes that ship with edgekit, found by what they train."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.layout import RECIPE
from edgekit.core.resources import find_resource_dir
from edgekit.models.weights import embedded_card, embedded_names
from edgekit.models.zoo import model_name


def find_recipe(model: str, data: str, width: float | None = None) -> Path | None:
    """The shipped recipe for a model and dataset, e.g. recipes/mobilenet_v2_w0.5-fashion_mnist-*.toml; None if none."""
    if model in embedded_names():
        options = embedded_card(model).options
        model, width = model_name(options), None
    stem = model if width is None else f"{model}_w{width:g}"
    return next(iter(sorted(find_resource_dir("recipes").glob(f"{stem}-{data}-*.toml"))), None)


def recipe_of(model: str) -> Path | None:
    """The recipe that trained a model: the run folder's own, or the shipped one of embedded weights; None if unknown.

    Args:
        model: Alias, run folder, checkpoint, or anything else that names a model.
    """
    if model in embedded_names():
        return find_recipe(model, embedded_card(model).dataset)
    path = Path(model).expanduser()
    folder = path if path.is_dir() else path.parent
    own = folder / RECIPE
    return own if path.exists() and own.is_file() else None
