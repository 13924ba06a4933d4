"""Files that edgekit makes, and the card that travels inside them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.storage import write_bytes

FileFormat: TypeAlias = Literal["onnx", "tflite"]
ModelKind: TypeAlias = Literal["classifier", "features"]

CARD_KEY = "edgekit.card"
"""Key of the JSON card in ONNX `metadata_props`, and (with .json) its file name in the TFLite metadata archive."""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a program needs besides the file to answer in words. Travels inside .onnx and .tflite.

    Args:
        model: Variant name, e.g. "mobilenet_v2_w0.5".
        scheme: Scheme id; "float" for a float file.
        labels: Class names in output order.
        preprocess: Picture to input.
        kind: What the outputs are: scores of classes, or features to compare pictures by. Left out of the file for
            classifiers, whose files stay as they were.
    """

    model: str
    scheme: str
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    kind: ModelKind = "classifier"


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One written model file.

    Args:
        path: Where it lies.
        format: "onnx" or "tflite".
        scheme: Scheme id; "float" for a float file.
        size_bytes: Size on disk.
        sha256: Of the file, lower-case hex.
    """

    path: Path
    format: FileFormat
    scheme: str
    size_bytes: int
    sha256: str

    @classmethod
    def write(cls, path: Path, content: bytes, format: FileFormat, scheme: str) -> Artifact:
        """Write a file in one piece, or not at all, and describe it. Raises `OutputError` as `write_bytes` does."""
        write_bytes(path, content)
        return cls(
            path=path,
            format=format,
            scheme=scheme,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
