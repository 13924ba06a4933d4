"""A feature extractor that `edgekit embed` made: pictures in, unit vectors out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from edgekit.core.errors import GraphError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.retrieval.nearest import Vectors, to_unit
from edgekit.runtime.card import require_extractor
from edgekit.runtime.interpreter import Interpreter, load_interpreter
from edgekit.runtime.predict import predict_logits
from edgekit.runtime.preprocess import Picture, fit_picture

_BLOCK_BYTES = 1 << 20


class Extractor:
    """A loaded extractor. Not thread-safe: one thread at a time.

    Attributes:
        path: Its file.
        spec: How it wants its pictures.
        num_features: Length of a vector.
        digest: SHA-256 of the file: vectors of two files are never compared.
    """

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self.path = interpreter.file_path
        self.spec: PreprocessSpec = require_extractor(interpreter.card, self.path).preprocess
        self.num_features = int(np.prod(interpreter.output.shape[1:]))
        self.digest = _digest(self.path)

    @classmethod
    def open(cls, path: Path, *, num_threads: int = 1) -> Extractor:
        """Load a file of `edgekit embed`.

        Args:
            path: .tflite, .onnx or .ekz file.
            num_threads: Threads of the runtime.

        Raises:
            UsageError: A classifier, or a file without a card.
            IntegrityError, GraphError, MissingDependencyError: As `load_interpreter`.
        """
        return cls(load_interpreter(path, num_threads=num_threads))

    def fit(self, picture: Picture) -> Picture:
        """A picture of any size, cropped and resized to what the extractor takes. Raises `DataError` if it is none."""
        return fit_picture(picture, self.spec)

    def describe(self, pictures: Picture) -> Vectors:
        """Unit vectors of fitted pictures.

        Args:
            pictures: uint8 [n, height, width, channels], as `fit` makes them.

        Returns:
            float32 [n, features]; zeros where the network sees nothing at all.

        Raises:
            GraphError: Features that are not finite.
        """
        try:
            return to_unit(predict_logits(self._interpreter, pictures, self.spec))
        except GraphError as error:
            raise GraphError(f"{self.path}: {error.message}", hint=error.hint) from error


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.digest()
