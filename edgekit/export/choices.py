"""What a user leaves open: which pictures, which labels, and names that hold from any folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.errors import DataError, UnknownNameError, UsageError
from edgekit.core.layout import RECIPE
from edgekit.core.recipe import DataSection, ModelSection
from edgekit.core.recipe_files import load_recipe
from edgekit.data.aliases import read_aliases
from edgekit.data.dataset import DATASETS, Source
from edgekit.data.opening import find_dataset
from edgekit.export.hub import HubModel, HubRequest
from edgekit.models.weights import PACKAGE_VARIANT, embedded_names

EMBEDDED_DATASET = "fashion_mnist_mini"


def hub_request(model: ModelSection) -> HubRequest:
    """What to load for a recipe's model."""
    return HubRequest(
        model=model.name,
        width=model.width,
        input_size=model.input_size,
        untrained=model.untrained,
        squeeze_excite=model.squeeze_excite,
    )


def choose_data(model: ModelSection, data: str | None, hub: HubModel) -> str:
    """The pictures to use when none are named: the embedded ones for what they stand for, else the training set's.

    Args:
        model: The model, as the user named it.
        data: Dataset or folder that the user named; None for none.
        hub: The model, loaded.

    Raises:
        UsageError: No pictures are named, and the model's own are unknown or not at hand.
    """
    if data is not None:
        return data
    if hub.dataset in {None, "fashion_mnist"} and hub.torch_logits is not None:
        return EMBEDDED_DATASET
    recipe_path = Path(model.name).expanduser() / RECIPE
    trained_on = load_recipe(recipe_path).data.name if recipe_path.is_file() else hub.dataset
    hint = "give its pictures: --data NAME or FOLDER"
    if trained_on is None:
        raise UsageError(f"{model.name} does not say what it was trained on", hint=hint)
    try:
        find_dataset(trained_on)
    except (UnknownNameError, DataError) as error:
        raise UsageError(
            f"{model.name} was trained on {trained_on!r}, which is not to be found here", hint=hint
        ) from error
    return trained_on


def with_labels(hub: HubModel, source: Source) -> HubModel:
    """Give a model that carries no labels those of its pictures, where they fit."""
    num_classes = hub.graph.shapes[hub.graph.output][-1]
    if hub.card.labels or not hub.trained or len(source.class_names) != num_classes:
        return hub
    card = msgspec.structs.replace(hub.card, labels=source.class_names)
    return msgspec.structs.replace(hub, card=card)


def resolve_model(model: ModelSection) -> ModelSection:
    """The same model, named so that it is found from any folder: paths are made absolute, names stay names."""
    if not (model.untrained or model.name in embedded_names() or model.name == PACKAGE_VARIANT):
        return msgspec.structs.replace(model, name=_absolute(model.name))
    return model


def resolve_data(data: DataSection) -> DataSection:
    """As `resolve_model`, of the pictures."""
    if data.name in DATASETS.names or data.name in read_aliases():
        return data
    return msgspec.structs.replace(data, name=_absolute(data.name))


def _absolute(name_or_path: str) -> str:
    path = Path(name_or_path).expanduser()
    return str(path.resolve()) if path.exists() else name_or_path
