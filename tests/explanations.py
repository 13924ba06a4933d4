"""Explanations as `edgekit explain` makes them, from made-up maps."""

from __future__ import annotations

import numpy as np

from edgekit.core.explanation import (
    Answered,
    ChannelResponse,
    Explanation,
    GradCam,
    LayerResponses,
    Occlusion,
    PictureExplanation,
    PictureMaps,
)
from evaluations import about

SIZE = 32


def occlusion(seed: int, strength: float = 0.5) -> Occlusion:
    """A map with one bright place, and some noise."""
    drops = np.random.default_rng(seed).normal(0, 0.02, (8, 8))
    drops[2:4, 5:7] += strength
    rows = tuple(tuple(round(float(drop), 6) for drop in line) for line in drops)
    return Occlusion(window=6, stride=4, drops=rows, largest_drop=max(map(max, rows)), row=12, column=22)


def answered(name: str, other: str, probability: float = 0.9) -> Answered:
    return Answered(probability=probability, top=((name, probability), (other, 1 - probability)))


def layer_responses() -> tuple[LayerResponses, ...]:
    channels = tuple(
        ChannelResponse(channel=3 * index, response=4.0 - index, row=2, column=3, box=(4, 6, 12, 14))
        for index in range(3)
    )
    return (
        LayerResponses(layer="features.0.0", op="Conv", shape=(16, 32, 32), num_responding=12, channels=channels),
        LayerResponses(layer="features.9.0", op="DepthwiseConv", shape=(8, 4, 4), num_responding=0, channels=()),
    )


def build_explanation(
    *, names: tuple[str, str] = ("cat", "dog"), given: str = "runs/mine", file: bool = True, num_pictures: int = 2
) -> Explanation:
    """Pictures of a float model; with the file that was made from it, unless `file` is False."""
    name, other = names
    picture = PictureExplanation(
        file=f"pictures/{name}.png",
        width=SIZE,
        height=SIZE,
        label=0,
        label_name=name,
        is_chosen=False,
        float_answer=answered(name, other),
        file_answer=answered(name, other, 0.8) if file else None,
        float_occlusion=occlusion(0),
        file_occlusion=occlusion(1, 0.4) if file else None,
        occlusion_correlation=0.93 if file else None,
        grad_cam=GradCam(layer="features.9.2", values=((0.0, 1.5), (0.25, 0.0))),
        layers=layer_responses(),
    )
    return Explanation(
        given=given,
        float_model=about(given),
        file=about(given) if file else None,
        input_shape=(SIZE, SIZE, 3),
        gradient="guided",
        pictures=(picture,) * num_pictures,
        notes=(),
        environment={"numpy": "2.4.6"},
        command=f"edgekit explain pictures/{name}.png --model {given}",
        created="2025-01-31T12:05:09+00:00",
    )


def build_maps(explanation: Explanation) -> tuple[PictureMaps, ...]:
    """Images that go with it."""
    rng = np.random.default_rng(0)
    shape = explanation.input_shape
    has_gradients = explanation.gradient is not None
    return tuple(
        PictureMaps(
            picture=rng.integers(0, 256, shape, np.uint8),
            guided=rng.normal(size=shape).astype(np.float32) if has_gradients else None,
            deconvolution=rng.normal(size=shape).astype(np.float32) if has_gradients else None,
            channels=tuple(
                tuple(rng.normal(size=shape).astype(np.float32) for _ in layer.channels) for layer in picture.layers
            ),
        )
        for picture in explanation.pictures
    )
