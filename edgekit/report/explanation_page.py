"""An explanation as one HTML file, in the look of the run's report: no request to anywhere, everything escaped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import jinja2
import msgspec
import numpy as np

from edgekit.core.explanation import Explanation, LayerResponses, PictureExplanation, PictureMaps
from edgekit.report import explanation as words
from edgekit.report.overlays import Map, gradient_png, heat_png, patch_png, picture_png
from edgekit.report.pictures import picture_size
from edgekit.report.templating import build_environment, content_hash, read_source

_GUIDED = (
    ("Guided backpropagation, float", "pixels that drive what speaks for the class"),
    ("Deconvolution, float", "the class projected back to pixels"),
)
_PLAIN = (("Gradient, float", "which way each pixel moves the class"),)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One image with its caption.

    Args:
        title: Above the caption.
        caption: One line.
        png_base64: The image.
    """

    title: str
    caption: str
    png_base64: str


class ChannelFigure(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel responds to: the part of the picture, and its deconvolution; blank where nothing comes back."""

    channel: int
    is_blank: bool
    response: float
    patch_base64: str
    deconvolved_base64: str


class LayerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The channels of a layer."""

    about: LayerResponses
    channels: tuple[ChannelFigure, ...]


class PictureSection(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one picture."""

    about: PictureExplanation
    sides: tuple[words.SideOfPicture, ...]
    figures: tuple[Figure, ...]
    layers: tuple[LayerFigures, ...]


def render_explanation_html(explanation: Explanation, maps: Sequence[PictureMaps]) -> str:
    """Draw the page. Names in it may hold any characters."""
    environment = _environment()
    javascript = read_source(environment, "report.js")
    return environment.get_template("explain.html.j2").render(
        report=explanation,
        css=read_source(environment, "report.css") + read_source(environment, "explain.css"),
        javascript=javascript,
        script_hash=content_hash(javascript),
        sides=words.sides(explanation),
        sections=[
            _section(explanation, picture, images) for picture, images in zip(explanation.pictures, maps, strict=True)
        ],
    )


@cache
def _environment() -> jinja2.Environment:
    return build_environment(words=words, picture_size=picture_size)


def _section(explanation: Explanation, picture: PictureExplanation, maps: PictureMaps) -> PictureSection:
    return PictureSection(
        about=picture,
        sides=words.sides_of(picture, explanation),
        figures=(
            *_seen_and_covered(explanation, picture, maps),
            *_gradients(explanation, picture, maps),
        ),
        layers=tuple(
            LayerFigures(
                about=layer,
                channels=tuple(
                    ChannelFigure(
                        channel=one.channel,
                        is_blank=not image.any(),
                        response=one.response,
                        patch_base64=patch_png(maps.picture, one.box),
                        deconvolved_base64=gradient_png(image, one.box),
                    )
                    for one, image in zip(layer.channels, images, strict=True)
                ),
            )
            for layer, images in zip(picture.layers, maps.channels, strict=True)
        ),
    )


def _seen_and_covered(explanation: Explanation, picture: PictureExplanation, maps: PictureMaps) -> list[Figure]:
    """The picture, and the occlusion map of each model, drawn to one scale."""
    height, width, _ = explanation.input_shape
    caption = f"as the model sees it, {width}x{height}"
    largest = words.strongest_heat(picture)
    return [
        Figure(title="The picture", caption=caption, png_base64=picture_png(maps.picture)),
        *(
            Figure(
                title=f"Occlusion, {side.title}",
                caption=words.drop_sentence(side),
                png_base64=heat_png(maps.picture, _map(side.occlusion.drops), largest),
            )
            for side in words.sides_of(picture, explanation)
        ),
    ]


def _gradients(explanation: Explanation, picture: PictureExplanation, maps: PictureMaps) -> list[Figure]:
    """Grad-CAM, guided backpropagation and deconvolution of the float model."""
    figures: list[Figure] = []
    cam = picture.grad_cam
    if cam is not None:
        values = _map(cam.values)
        low, high = float(values.min()), float(values.max())
        # A sure answer has maps that speak for it everywhere: from zero on, the picture would be warm all over.
        image = heat_png(maps.picture, values - low, 0.0 if words.is_flat(cam) else high - low, gamma=1.0)
        figures.append(Figure(title="Grad-CAM, float", caption=words.cam_caption(cam), png_base64=image))
    kinds = _PLAIN if explanation.gradient == "plain" else _GUIDED
    for (title, caption), image in zip(kinds, (maps.guided, maps.deconvolution), strict=False):
        if image is not None:
            figures.append(Figure(title=title, caption=caption, png_base64=gradient_png(image)))
    return figures


def _map(rows: tuple[tuple[float, ...], ...]) -> Map:
    return np.array(rows, np.float64)
