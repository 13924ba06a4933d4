"""Gradients that are images: guided backpropagation, deconvolution and Grad-CAM, all by captum.

Captum is imported where it is used: it brings plots with it, and nothing else needs it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekit.core.graph import TOKEN_RANK, Graph
from edgekit.explain.maps import Maps
from edgekit.explain.rectified import RectifiedNetwork

FloatImage = npt.NDArray[np.float32]


def guided_backpropagation(network: RectifiedNetwork, x: Tensor, label: int) -> FloatImage:
    """Gradient of a class's logit that passes rectifiers only where it, and what they gave, is positive.

    Springenberg et al. 2015, arXiv:1412.6806, section 3.4.

    Args:
        network: The float network.
        x: One normalized picture [1, c, h, w].
        label: Class.

    Returns:
        float32 [h, w, c].
    """
    from captum.attr import GuidedBackprop

    with _quiet():
        return _image(GuidedBackprop(network).attribute(_asking(x), target=label))


def deconvolution(network: RectifiedNetwork, x: Tensor, label: int) -> FloatImage:
    """Gradient of a class's logit that passes rectifiers where it is positive itself, whatever they gave.

    Zeiler and Fergus 2014, arXiv:1311.2901, section 2.1. Arguments and result as `guided_backpropagation`.
    """
    from captum.attr import Deconvolution

    with _quiet():
        return _image(Deconvolution(network).attribute(_asking(x), target=label))


def deconvolve_channel(network: RectifiedNetwork, x: Tensor, activation: str, position: tuple[int, ...]) -> FloatImage:
    """Deconvolution of one value of an activation: what in the picture it responds to.

    Args:
        network: The float network.
        x: One normalized picture [1, c, h, w].
        activation: Name in the graph.
        position: (channel, row, column), (token, channel), or (unit,).

    Returns:
        float32 [h, w, c].
    """
    from captum.attr import NeuronDeconvolution

    with _quiet():
        neuron = NeuronDeconvolution(network, network.module_of(activation))
        return _image(neuron.attribute(_asking(x), position))


def grad_cam(network: RectifiedNetwork, x: Tensor, label: int, maps: Maps) -> FloatImage:
    """Feature maps, weighted by the mean gradient of a class's logit, added up and rectified.

    Selvaraju et al. 2017, arXiv:1610.02391, eqs. 1 and 2. Tokens of patches are laid out as maps, as Gildenblat's
    pytorch-grad-cam does for Vision Transformers; those that stand for no place are left out of both equations.

    Args:
        network: The float network.
        x: One normalized picture [1, c, h, w].
        label: Class.
        maps: What is weighed (`last_maps`).

    Returns:
        float32 [h', w'], the size of the maps, at least 0.
    """
    from captum.attr import LayerGradCam

    cam = LayerGradCam(network, network.module_of_maps(maps))
    values = cam.attribute(_asking(x), target=label, relu_attributions=True)
    if not isinstance(values, Tensor):
        raise TypeError(f"captum gave {type(values).__name__} for one layer, expected a tensor")
    return values[0, 0].detach().numpy().astype(np.float32)


def has_positions(graph: Graph, name: str) -> bool:
    """Whether an activation is a map [n, c, h, w] with more than one position, or several tokens [n, t, c]."""
    shape = graph.shapes[name]
    return shape[1] > 1 if len(shape) == TOKEN_RANK else len(shape) == 4 and shape[2] * shape[3] > 1


def _asking(x: Tensor) -> Tensor:
    """A copy that asks for its gradient: weights do not, and a layer's is known only on the way to one that does."""
    return x.detach().clone().requires_grad_()


def _image(gradient: object) -> FloatImage:
    if not isinstance(gradient, Tensor):
        raise TypeError(f"captum gave {type(gradient).__name__} for one picture, expected a tensor")
    return np.ascontiguousarray(gradient[0].detach().permute(1, 2, 0).numpy().astype(np.float32))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without captum's remark, at every call, that it sets hooks."""
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU", category=UserWarning)
        yield
