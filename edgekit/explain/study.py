"""Decided before anything is looked at: where pictures are covered, which layers, which class, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.errors import UsageError
from edgekit.core.graph import Node
from edgekit.explain.channels import NUM_CHANNELS, choose_layers
from edgekit.explain.classes import find_class
from edgekit.explain.maps import Maps, last_maps
from edgekit.explain.occlusion import OcclusionPlan, plan_occlusion
from edgekit.explain.rectified import RectifiedNetwork
from edgekit.explain.subject import Subject


class ExplainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to explain, and how.

    Args:
        pictures: Picture files.
        model: What `open_subject` takes.
        label: Class by name or number; None for the answer to each picture.
        layers: Layers to look at, by name; empty for four, evenly spread.
        num_channels: Most channels of each layer.
        window: Side of the square that covers the picture, pixels; None for a fifth of the input.
        stride: Most pixels from one square to the next; None for a third of the window.
        num_threads: Threads of the runtime.
        command: For the report.
    """

    pictures: tuple[Path, ...]
    model: str
    label: str | None = None
    layers: tuple[str, ...] = ()
    num_channels: int = NUM_CHANNELS
    window: int | None = None
    stride: int | None = None
    num_threads: int = 2
    command: str = ""


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at in every picture.

    Args:
        occlusion: Where it is covered.
        layers: Of the float model; empty without gradients.
        num_channels: Most channels of each.
        maps: What Grad-CAM weighs; None for no Grad-CAM.
        label: Class; None for the answer.
        notes: What is missing, and why; one sentence each.
    """

    occlusion: OcclusionPlan
    layers: tuple[Node, ...]
    num_channels: int
    maps: Maps | None
    label: int | None
    notes: tuple[str, ...]


def plan_study(request: ExplainRequest, subject: Subject) -> Study:
    """Decide what to look at.

    Raises:
        UsageError: No such class or layer, a window that does not fit, or layers of a model that shows none.
    """
    main, model = subject.main, subject.float_model
    network = None if model is None else model.network
    label = None if request.label is None else find_class(request.label, main.labels, subject.num_classes)
    if request.layers and network is None:
        raise UsageError(f"{request.model} shows no layers to look at: {subject.notes[0]}", hint="leave --layer out")
    maps = None if network is None else last_maps(network.graph)
    return Study(
        occlusion=plan_occlusion(main.spec.input_size, request.window, request.stride),
        layers=() if network is None else choose_layers(network.graph, request.layers),
        num_channels=request.num_channels,
        maps=maps,
        label=label,
        notes=(*subject.notes, *(() if network is None else _remarks(network, maps))),
    )


def _remarks(network: RectifiedNetwork, maps: Maps | None) -> list[str]:
    """What the network's kind does to the images."""
    said: list[str] = []
    if not network.num_rectifiers:
        said.append(
            "The network has no rectifier (ReLU), which guided backpropagation and deconvolution change: both images "
            "show its plain gradient."
        )
    elif network.smooth_ops:
        said.append(
            f"Guided backpropagation and deconvolution change how the gradient passes rectifiers (ReLU, ReLU6). Other "
            f"activations of this network ({', '.join(network.smooth_ops)}) keep their ordinary gradient."
        )
    if maps is None:
        said.append(
            "The network ends neither in feature maps nor in tokens of patches, which Grad-CAM needs: there is none."
        )
    elif maps.grid is not None:
        rows, columns = maps.grid
        said.append(
            f"Grad-CAM weighs the tokens that the last attention is given, laid out as {rows}x{columns} patches. In a "
            "transformer every token has seen all others, so a patch may light up for what it was told."
        )
    return said
