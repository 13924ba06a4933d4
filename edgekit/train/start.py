"""Where training starts: from trained weights instead of random ones (fine-tuning, transfer)."""

from __future__ import annotations

import msgspec
from torch import nn

from edgekit.core.errors import CheckpointError
from edgekit.models.architecture import BuildOptions
from edgekit.models.folded import fold_structure
from edgekit.models.weights import load_weights
from edgekit.models.widths import LayerWidth, resize_layers
from edgekit.models.zoo import find_architecture, model_name

HEAD = "classifier."


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What training starts with.

    Args:
        random: Names of the tensors that stayed random; empty when all were copied.
        widths: Widths of pruned layers; empty for the architecture's own.
        folded: Whether BatchNorm is folded into the convolutions.
    """

    random: tuple[str, ...] = ()
    widths: tuple[LayerWidth, ...] = ()
    folded: bool = False


def as_initialized(options: BuildOptions, name: str) -> BuildOptions:
    """A network by the conventions of the weights it starts from, which its name does not say (TensorFlow's padding).

    Args:
        options: What is asked for.
        name: Alias, run folder or checkpoint.

    Raises:
        EdgekitError: As `load_weights`.
    """
    _, card = load_weights(name)
    own = card.options
    if find_architecture(own.variant) is not find_architecture(options.variant):
        return options  # `start_from` says what does not fit
    return msgspec.structs.replace(options, padding=own.padding, activation=own.activation, batch_norm=own.batch_norm)


def start_from(module: nn.Module, options: BuildOptions, name: str) -> Start:
    """Copy trained weights into a network of the same architecture, cut and folded as they are.

    The classifier keeps its random weights when the number of classes differs; anything else must fit. Another input
    size is fine as long as it has the same stem (the tensors are the same).

    Args:
        module: The network to train; changed in place.
        options: What it is.
        name: Alias, run folder or checkpoint.

    Raises:
        CheckpointError: Weights of another architecture, width or number of channels.
        EdgekitError: As `load_weights`.
    """
    trained, card = load_weights(name)
    widths = tuple(_own_head(width, options.num_classes) for width in card.widths)
    resize_layers(module, widths)
    if card.folded:
        fold_structure(module)
    own, other = module.state_dict(), trained.state_dict()
    has_same_head = card.options.num_classes == options.num_classes

    def is_copied(key: str) -> bool:
        return has_same_head or not key.startswith(HEAD)

    # in the network's own order, so that the first misfit is the one nearest to the input
    keys = [key for key in (*own, *(key for key in other if key not in own)) if is_copied(key)]
    misfits = [key for key in keys if key not in own or key not in other or own[key].shape != other[key].shape]
    if misfits:
        raise CheckpointError(
            f"{name} is {model_name(card.options)}, whose {misfits[0]} does not fit {model_name(options)}",
            hint="start from weights of the same architecture, width and number of channels",
        )
    module.load_state_dict({**own, **{key: other[key] for key in keys}})
    random = tuple(sorted(key for key in own if not is_copied(key)))
    return Start(random=random, widths=widths, folded=card.folded)


def _own_head(width: LayerWidth, num_classes: int) -> LayerWidth:
    """The width with the outputs of a classifier of so many classes, if it is the classifier's."""
    is_head = f"{width.layer}.".startswith(HEAD)
    return msgspec.structs.replace(width, num_outputs=num_classes) if is_head else width
