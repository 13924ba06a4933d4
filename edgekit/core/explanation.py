"""The content of `explain.json`, versioned: what a model looks at in pictures, in numbers.

`edgekit.explain` computes it, `edgekit.report` draws it. The images that only the page shows are in `PictureMaps`,
beside the document: a program that reads the numbers need not read megabytes of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.evaluation import EvaluatedModel

EXPLANATION_VERSION = 1


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What one model says of one picture.

    Args:
        probability: Of the class that is explained.
        top: The best answers and their probabilities, the best first; at most three.
    """

    probability: float
    top: tuple[tuple[str, float], ...]


class Occlusion(msgspec.Struct, frozen=True, kw_only=True):
    """How far the probability of a class falls when a gray square covers the picture (Zeiler and Fergus 2014, 4.2).

    Args:
        window: Side of the square in pixels of the model's input.
        stride: Largest distance of two neighbouring squares' centres, pixels.
        drops: Row by row, probability of the whole picture minus that of the covered one, -1..1. The squares' centres
            are spread evenly over the picture; at its border a square is cut off.
        largest_drop: The largest of them.
        row: Centre of the square with the largest drop, pixels from the top of the model's input.
        column: The same from the left.
    """

    window: int
    stride: int
    drops: tuple[tuple[float, ...], ...]
    largest_drop: float
    row: int
    column: int


class GradCam(msgspec.Struct, frozen=True, kw_only=True):
    """Where the last feature maps speak for a class (Selvaraju et al. 2017, eqs. 1 and 2).

    Args:
        layer: The operator whose maps were weighed.
        values: Row by row; at least 0, in units of the class's logit times the map's.
    """

    layer: str
    values: tuple[tuple[float, ...], ...]


class ChannelResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The strongest response of one channel.

    Args:
        channel: Its index.
        response: What the layer computes there, before its activation.
        row: Where in the layer's map, or which token; 0 in a layer without either.
        column: Where in the layer's map; 0 in a layer without maps.
        box: Top, left, bottom, right: the part of the model's input that it responds to, as its deconvolution shows.
    """

    channel: int
    response: float
    row: int
    column: int
    box: tuple[int, int, int, int]


class LayerResponses(msgspec.Struct, frozen=True, kw_only=True):
    """The channels of a layer that respond most to a picture.

    Args:
        layer: Its name.
        op: "Conv", "DepthwiseConv" or "Gemm".
        shape: Of its output, without the batch, channels first.
        num_responding: Channels that are above 0 anywhere.
        channels: The strongest, the strongest first.
    """

    layer: str
    op: str
    shape: tuple[int, ...]
    num_responding: int
    channels: tuple[ChannelResponse, ...]


class PictureExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one picture.

    Args:
        file: The picture's path as it was given.
        width: Of the file's picture, pixels.
        height: The same.
        label: Index of the class that is explained.
        label_name: Its name.
        is_chosen: Whether the user named it; otherwise it is the answer of the exported file, or of the float model
            where there is no file.
        float_answer: What the float model says; None without one.
        file_answer: What the exported file says; None without one.
        float_occlusion: Of the float model; None without one.
        file_occlusion: Of the exported file; None without one.
        occlusion_correlation: Pearson correlation of the two maps, -1..1; None where there are not two, or one is flat.
        grad_cam: Of the float model; None where there is none.
        layers: Of the float model; empty where there is none.
    """

    file: str
    width: int
    height: int
    label: int
    label_name: str
    is_chosen: bool
    float_answer: Answered | None
    file_answer: Answered | None
    float_occlusion: Occlusion | None
    file_occlusion: Occlusion | None
    occlusion_correlation: float | None
    grad_cam: GradCam | None
    layers: tuple[LayerResponses, ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `edgekit explain` found. See docs/explain.md for the schema.

    Args:
        given: The model as the user named it.
        float_model: The float model; None when only a file is known.
        file: The exported file; None when only a float model is known.
        input_shape: Height, width and channels that the model sees.
        gradient: What the two gradient images are: "guided" where rectifiers were found, "plain" where there is none,
            None without a float model.
        pictures: In the order they were given.
        notes: What is missing, and why; one sentence each.
        environment: Versions, processor.
        command: The command that was given.
        created: ISO 8601 time, with its zone.
        version: Of this schema.
    """

    given: str
    float_model: EvaluatedModel | None
    file: EvaluatedModel | None
    input_shape: tuple[int, int, int]
    gradient: str | None
    pictures: tuple[PictureExplanation, ...]
    notes: tuple[str, ...]
    environment: Mapping[str, str]
    command: str
    created: str
    version: int = EXPLANATION_VERSION


class PictureMaps(msgspec.Struct, frozen=True, kw_only=True):
    """The images of one picture, all in the size of the model's input, [height, width, channels].

    Args:
        picture: uint8, as the model sees it.
        guided: Guided backpropagation of the class's logit, float32; None without a float model.
        deconvolution: Deconvolution of it, float32; None without a float model.
        channels: For each of the explanation's layers, the deconvolution of each of its channels, float32.
    """

    picture: npt.NDArray[np.uint8]
    guided: npt.NDArray[np.float32] | None
    deconvolution: npt.NDArray[np.float32] | None
    channels: tuple[tuple[npt.NDArray[np.float32], ...], ...]
