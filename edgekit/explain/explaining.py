"""The whole of `edgekit explain`: open the model, look at every picture, put the document together."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch

from edgekit.core.environment import date_of_now, describe_environment
from edgekit.core.errors import UsageError
from edgekit.core.explanation import (
    Answered,
    Explanation,
    GradCam,
    LayerResponses,
    PictureExplanation,
    PictureMaps,
)
from edgekit.core.progress import Progress, Silent
from edgekit.explain.channels import measure_layer
from edgekit.explain.classes import class_name
from edgekit.explain.gradients import FloatImage, deconvolution, grad_cam, guided_backpropagation
from edgekit.explain.occlusion import correlate, measure_occlusion, probabilities
from edgekit.explain.study import ExplainRequest, Study, plan_study
from edgekit.explain.subject import FloatModel, Subject, open_subject
from edgekit.runtime.preprocess import Picture, fit_picture, normalize, read_picture
from edgekit.verify.contenders import Contender

_NUM_ANSWERS = 3


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: the document, and the images of each of its pictures."""

    explanation: Explanation
    maps: tuple[PictureMaps, ...]


def explain(request: ExplainRequest, progress: Progress | None = None) -> Explained:
    """Say what a model looks at in pictures.

    Raises:
        UsageError: No picture given, no such class or layer, a window that does not fit.
        DataError: A picture that cannot be read.
        EdgekitError: As `open_subject` raises it.
    """
    if not request.pictures:
        raise UsageError("no picture given", hint="name one or more picture files")
    pictures = [(path, read_picture(path)) for path in request.pictures]
    subject = open_subject(request.model, num_threads=request.num_threads)
    study = plan_study(request, subject)
    progress = progress or Silent()
    models = [model for model in (subject.float_model, subject.file) if model is not None]
    steps = len(models) * study.occlusion.num_windows + len(study.layers)
    progress.begin("explain", len(pictures) * steps)
    looks = [_look_at(path, picture, subject, study, progress) for path, picture in pictures]
    progress.end()
    float_model, spec = subject.float_model, subject.main.spec
    explanation = Explanation(
        given=request.model,
        float_model=None if float_model is None else float_model.about,
        file=None if subject.file is None else subject.file.about,
        input_shape=(*spec.input_size, spec.num_channels),
        gradient=_gradient_kind(float_model),
        pictures=tuple(explained for explained, _ in looks),
        notes=study.notes,
        environment=describe_environment(),
        command=request.command,
        created=date_of_now(),
    )
    return Explained(explanation=explanation, maps=tuple(maps for _, maps in looks))


def _gradient_kind(model: FloatModel | None) -> str | None:
    if model is None or model.network is None:
        return None
    return "guided" if model.network.num_rectifiers else "plain"


def _look_at(
    path: Path, picture: Picture, subject: Subject, study: Study, progress: Progress
) -> tuple[PictureExplanation, PictureMaps]:
    main, model, file = subject.main, subject.float_model, subject.file
    fitted = fit_picture(picture, main.spec)
    label = study.label
    if label is None:
        label = int(probabilities(main.predict(fitted[np.newaxis]))[0].argmax())
    float_occlusion, file_occlusion = (
        None if one is None else measure_occlusion(one.predict, fitted, one.spec, label, study.occlusion, progress)
        for one in (model, file)
    )
    correlation = None
    if float_occlusion is not None and file_occlusion is not None:
        correlation = correlate(float_occlusion, file_occlusion)
    seen = _see(model, fitted, label, study, progress)
    explained = PictureExplanation(
        file=str(path),
        width=picture.shape[1],
        height=picture.shape[0],
        label=label,
        label_name=class_name(main.labels, label),
        is_chosen=study.label is not None,
        float_answer=_answer(model, fitted, label),
        file_answer=_answer(file, fitted, label),
        float_occlusion=float_occlusion,
        file_occlusion=file_occlusion,
        occlusion_correlation=correlation,
        grad_cam=seen.grad_cam,
        layers=seen.layers,
    )
    maps = PictureMaps(picture=fitted, guided=seen.guided, deconvolution=seen.deconvolution, channels=seen.channels)
    return explained, maps


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the gradients of the float model show; nothing without one."""

    grad_cam: GradCam | None = None
    layers: tuple[LayerResponses, ...] = ()
    guided: FloatImage | None = None
    deconvolution: FloatImage | None = None
    channels: tuple[tuple[FloatImage, ...], ...] = ()


def _see(model: FloatModel | None, fitted: Picture, label: int, study: Study, progress: Progress) -> _Seen:
    if model is None or model.network is None:
        return _Seen()
    network = model.network
    x = torch.from_numpy(normalize(fitted[np.newaxis], model.spec))
    looked: list[tuple[LayerResponses, tuple[FloatImage, ...]]] = []
    for node in study.layers:
        looked.append(measure_layer(network, node, x, study.num_channels))
        progress.advance()
    cam = None
    if study.maps is not None:
        values = grad_cam(network, x, label, study.maps)
        layer = model.graph.producers()[study.maps.activation].name
        cam = GradCam(layer=layer, values=tuple(tuple(float(value) for value in row) for row in values))
    return _Seen(
        grad_cam=cam,
        layers=tuple(responses for responses, _ in looked),
        guided=guided_backpropagation(network, x, label),
        deconvolution=deconvolution(network, x, label),
        channels=tuple(images for _, images in looked),
    )


def _answer(model: FloatModel | Contender | None, fitted: Picture, label: int) -> Answered | None:
    if model is None:
        return None
    found = probabilities(model.predict(fitted[np.newaxis]))[0]
    order = np.argsort(-found, kind="stable")[:_NUM_ANSWERS].tolist()
    return Answered(
        probability=float(found[label]),
        top=tuple((class_name(model.labels, index), float(found[index])) for index in order),
    )
