"""What follows from an explanation, in words: the headline, what to mind, the captions. Pure."""

from __future__ import annotations

from pathlib import PurePath

import msgspec

from edgekit.core.evaluation import EvaluatedModel
from edgekit.core.explanation import Answered, Explanation, GradCam, Occlusion, PictureExplanation
from edgekit.report.formatting import format_number, format_percent, plural, printable

SAME_PLACES, OTHER_PLACES = 0.8, 0.5
"""Correlations of two occlusion maps from which on they are called alike, and below which they are called different."""
_NO_DROP = 0.01
_FLAT = 0.1
"""Share of its largest value that a map must vary by to be drawn."""
_FULL_HEAT = 0.1
"""Smallest change of a probability that is drawn at full strength."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the models that were looked at.

    Args:
        title: "float", or the file's name.
        about: What it is.
    """

    title: str
    about: EvaluatedModel


class SideOfPicture(msgspec.Struct, frozen=True, kw_only=True):
    """What one model has to say of one picture."""

    title: str
    answer: Answered
    occlusion: Occlusion


def sides(explanation: Explanation) -> tuple[Side, ...]:
    """The float model and the file, those that are known."""
    known: list[Side] = []
    if explanation.float_model is not None:
        known.append(Side(title="float", about=explanation.float_model))
    if explanation.file is not None:
        known.append(Side(title=explanation.file.file or "file", about=explanation.file))
    return tuple(known)


def sides_of(picture: PictureExplanation, explanation: Explanation) -> tuple[SideOfPicture, ...]:
    """The same for one picture."""
    answers = (picture.float_answer, picture.file_answer)
    occlusions = (picture.float_occlusion, picture.file_occlusion)
    known = [
        (answer, occlusion)
        for answer, occlusion in zip(answers, occlusions, strict=True)
        if answer is not None and occlusion is not None
    ]
    return tuple(
        SideOfPicture(title=side.title, answer=answer, occlusion=occlusion)
        for side, (answer, occlusion) in zip(sides(explanation), known, strict=True)
    )


def headline(explanation: Explanation) -> str:
    """The one sentence: whether the file still looks where the float model looks, or what this is."""
    count = plural(len(explanation.pictures), "picture")
    if explanation.file is None or explanation.float_model is None:
        return f"What {printable(explanation.given)} looks at in {count}"
    known = [one.occlusion_correlation for one in explanation.pictures if one.occlusion_correlation is not None]
    if not known:
        return f"Float model and file cannot be compared on {count}: covering parts changes nothing in one of them"
    mean = sum(known) / len(known)
    places = "the same" if mean >= SAME_PLACES else "partly other" if mean >= OTHER_PLACES else "other"
    alike = format_correlation(mean)
    return f"The file's answers hang on {places} parts of {count} as the float model's: correlation {alike}"


def remarks(explanation: Explanation) -> list[str]:
    """What to mind: what is missing, and pictures on which float model and file answer differently."""
    said = list(explanation.notes)
    for one in explanation.pictures:
        if one.float_answer is None or one.file_answer is None:
            continue
        before, after = one.float_answer.top[0][0], one.file_answer.top[0][0]
        if before != after:
            said.append(
                f"{picture_name(one)}: the float model answers {before}, the file {after}. Explained on both is "
                f"{one.label_name}."
            )
    return said


def picture_name(picture: PictureExplanation) -> str:
    """File name of a picture."""
    return PurePath(picture.file).name


def picture_sentence(picture: PictureExplanation, explanation: Explanation) -> str:
    """Which class is explained, and why that one."""
    height, width, _ = explanation.input_shape
    who = "the file" if explanation.file is not None else "the model"
    why = "the class that was asked for" if picture.is_chosen else f"the answer of {who}"
    sentence = f"Explained is {picture.label_name}, {why}."
    if picture.width < width or picture.height < height:
        sentence += (
            f" The picture has {picture.width}x{picture.height} pixels and was enlarged: the model sees "
            f"{width}x{height}."
        )
    return sentence


def drop_sentence(side: SideOfPicture) -> str:
    """How far the probability falls at most, and with what."""
    occlusion, whole = side.occlusion, side.answer.probability
    if occlusion.largest_drop < _NO_DROP:
        return (
            f"No square of {occlusion.window} pixels takes more than 1 point from the {format_percent(whole, 1)}: "
            f"the class is seen in several places, or not at all."
        )
    left = format_percent(whole - occlusion.largest_drop, 1)
    return f"Falls from {format_percent(whole, 1)} to {left} where it hurts most"


def is_flat(cam: GradCam) -> bool:
    """Whether a map is next to the same everywhere: drawing what differs would show places where there are none."""
    values = [value for row in cam.values for value in row]
    return max(values) - min(values) <= _FLAT * max(values)


def cam_caption(cam: GradCam) -> str:
    """What the map is of, and between which values it is drawn."""
    values = [value for row in cam.values for value in row]
    low, high = min(values), max(values)
    caption = f"{len(cam.values[0])}x{len(cam.values)} maps of {cam.layer}"
    if high <= 0:
        return f"{caption}: nothing in them speaks for the class"
    if is_flat(cam):
        return f"{caption}: they speak for the class everywhere alike"
    if round(100 * low / high):
        caption += f": they speak for the class everywhere, at least {format_percent(low / high, 0)} of the most"
    return caption


def strongest_heat(picture: PictureExplanation) -> float:
    """What both maps of a picture are drawn relative to, so that they compare by eye and faint ones stay faint."""
    occlusions = (picture.float_occlusion, picture.file_occlusion)
    changes = [abs(drop) for one in occlusions if one is not None for row in one.drops for drop in row]
    return max(_FULL_HEAT, *changes)


def format_correlation(value: float | None) -> str:
    """A correlation with two decimals; one below 1 is never rounded up to it.

    >>> format_correlation(0.9987), format_correlation(1.0), format_correlation(0.5)
    ('0.99', '1.00', '0.50')
    """
    return format_number(min(value, 0.99) if value is not None and value < 1 else value)


def summary_rows(explanation: Explanation) -> list[tuple[str, ...]]:
    """For each picture: name, class, and for each model its probability and the largest drop; then the correlation."""
    rows: list[tuple[str, ...]] = []
    for one in explanation.pictures:
        numbers = [
            number
            for side in sides_of(one, explanation)
            for number in (
                format_percent(side.answer.probability, 1),
                format_percent(side.occlusion.largest_drop, 1).removesuffix(" %"),
            )
        ]
        row = (picture_name(one), one.label_name, *numbers)
        has_both = one.float_occlusion is not None and one.file_occlusion is not None
        rows.append((*row, format_correlation(one.occlusion_correlation)) if has_both else row)
    return rows
