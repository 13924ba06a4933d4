"""Frame to probabilities in three timed steps: what the loop does with every frame, as lean as it can be."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError
from edgekit.core.frame import Frame
from edgekit.runtime.classify import Classifier, is_softmaxed, softmax
from edgekit.runtime.interpreter import RawArray
from edgekit.runtime.preprocess import fit_picture, to_input
from edgekit.runtime.tensor import TensorSpec

Probabilities: TypeAlias = npt.NDArray[np.float64]

_FEW = 10


class Recognizer:
    """A classifier taken apart, so that each step can be timed.

    Args:
        classifier: The loaded model. Not thread-safe: one thread at a time.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._interpreter = classifier.interpreter
        self._spec = classifier.spec
        # what only a foreign file may do: answer with probabilities
        self._may_be_softmaxed = classifier.interpreter.card is None
        self._real_values = _tabulate(classifier.interpreter.output)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in output order."""
        return self.classifier.labels

    @property
    def min_picture_size(self) -> tuple[int, int]:
        """(height, width) of the smallest picture that the model can use without enlarging anything."""
        height, width = self._spec.input_size
        return (int(np.ceil(height / self._spec.crop_fraction)), int(np.ceil(width / self._spec.crop_fraction)))

    def prepare(self, frame: Frame) -> RawArray:
        """Crop, resize, normalize and quantize: the model's input, [1, ...]. Raises as `fit_picture`, `to_input`."""
        fitted = fit_picture(frame.picture, self._spec, color_order=frame.color_order)
        return to_input(fitted[np.newaxis], self._spec, self._interpreter.input)

    def infer(self, batch: RawArray) -> RawArray:
        """Run the model: [1, ...] in its output's type. Raises as `Interpreter.run`."""
        return self._interpreter.run(batch)

    def to_probabilities(self, answer: RawArray) -> Probabilities:
        """Probability of each class, float64 [classes].

        Raises:
            GraphError: The answer is not finite.
        """
        output = self._interpreter.output
        if self._real_values is not None:
            logits = self._real_values.take(np.frombuffer(np.ascontiguousarray(answer), np.uint8))
        else:
            logits = np.ravel(output.dequantize(answer)).astype(np.float64)
            if not np.isfinite(logits.sum()):
                raise GraphError(f"{self._interpreter.file_path} answered with NaN or infinity")
        if self._may_be_softmaxed and is_softmaxed(logits, output):
            return logits
        return softmax(logits)


def _tabulate(output: TensorSpec) -> npt.NDArray[np.float64] | None:
    """Real value of each of the 256 bytes that an element of the output can be, all finite; None if not quantized."""
    if output.scale is None or output.dtype not in {"int8", "uint8"}:
        return None
    return output.dequantize(np.frombuffer(bytes(range(256)), output.dtype)).astype(np.float64)


def best_classes(probabilities: Probabilities, top_k: int) -> tuple[int, ...]:
    """Indices of the k most likely classes, best first; of equally likely ones the first in output order.

    >>> best_classes(np.array([0.1, 0.6, 0.3]), 2)
    (1, 2)
    """
    if top_k > _FEW:
        return tuple(int(index) for index in np.argsort(-probabilities, kind="stable")[:top_k])
    # a few look-ups of the largest cost a tenth of sorting a thousand classes
    left = np.array(probabilities)
    best: list[int] = []
    for _ in range(min(top_k, left.size)):
        index = int(left.argmax())
        best.append(index)
        left[index] = -np.inf
    return tuple(best)
