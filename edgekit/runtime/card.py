"""The card that edgekit puts into model files: how a program reads it back without any runtime's help."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import msgspec

from edgekit.core.artifact import CARD_KEY, ModelCard
from edgekit.core.errors import IntegrityError, UsageError

CARD_FILE_NAME = f"{CARD_KEY}.json"

MAX_CARD_BYTES = 4 * 1024 * 1024
"""A card of 22,000 long class names is about 1 MiB; anything above is no card."""


def read_tflite_card(path: Path) -> ModelCard | None:
    """Read the card from the zip archive that is appended to a .tflite file; None when there is none.

    Raises:
        IntegrityError: There is a card, but it is damaged.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if CARD_FILE_NAME not in archive.namelist():
                return None
            declared = archive.getinfo(CARD_FILE_NAME).file_size
            if declared > MAX_CARD_BYTES:
                raise IntegrityError(f"{path}: card of {declared} bytes, at most {MAX_CARD_BYTES}")
            content = archive.read(CARD_FILE_NAME)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        raise IntegrityError(
            f"{path}: the metadata archive is damaged: {error}", hint="write the file again"
        ) from error
    return parse_card(content, path)


def parse_card(content: bytes | str, path: Path) -> ModelCard:
    """Parse a card's JSON; `path` is for the message.

    Raises:
        IntegrityError: No valid JSON, a missing or mistyped field, or mean and std that do not fit the channels.
    """
    try:
        card = msgspec.json.decode(content, type=ModelCard)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path}: the card {CARD_KEY!r} is damaged: {error}", hint="export again") from error
    spec = card.preprocess
    if not len(spec.mean) == len(spec.std) == spec.num_channels or min(spec.input_size) < 1:
        raise IntegrityError(
            f"{path}: the card's preprocessing is impossible: input {spec.input_size}, {spec.num_channels} channels, "
            f"{len(spec.mean)} means, {len(spec.std)} stds",
            hint="export again",
        )
    return card


def require_classifier(card: ModelCard | None, path: Path) -> None:
    """Refuse a feature extractor where classes are wanted; a foreign file (no card) passes.

    Raises:
        UsageError: The file gives features.
    """
    if card is not None and card.kind == "features":
        raise UsageError(
            f"{path} gives features of {card.model}, not classes: `edgekit embed` made it",
            hint="name the model itself here; `edgekit search` takes this file",
        )


def require_extractor(card: ModelCard | None, path: Path) -> ModelCard:
    """The card of a feature extractor.

    Raises:
        UsageError: The file gives classes, or does not say what it gives.
    """
    if card is not None and card.kind == "features":
        return card
    what = "carries no edgekit card" if card is None else f"is a classifier: it gives {card.model}'s classes"
    raise UsageError(
        f"{path} {what}, and searching needs features",
        hint="make a feature extractor of the model: edgekit embed MODEL --out DIR",
    )
