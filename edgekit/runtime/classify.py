"""One picture in, an answer in words out: what `edgekit classify` and the board run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError, IntegrityError, UsageError
from edgekit.core.prediction import Prediction
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.runtime.card import require_classifier
from edgekit.runtime.interpreter import Interpreter, load_interpreter
from edgekit.runtime.predict import predict_logits
from edgekit.runtime.preprocess import Picture, fit_picture
from edgekit.runtime.tensor import TensorSpec


class Classifier:
    """A model file with everything that turns its output into words.

    Args:
        interpreter: The loaded file.
        spec: How it wants its pictures.
        labels: Class names in output order; empty for "class 0", "class 1", ...

    Raises:
        UsageError: The number of labels is not the number of outputs, or the file gives features.
    """

    def __init__(self, interpreter: Interpreter, spec: PreprocessSpec, labels: tuple[str, ...]) -> None:
        require_classifier(interpreter.card, interpreter.file_path)
        self.interpreter = interpreter
        self.spec = spec
        self.num_classes = int(np.prod(interpreter.output.shape[1:]))
        if labels and len(labels) != self.num_classes:
            raise UsageError(f"{interpreter.file_path.name} has {self.num_classes} classes, got {len(labels)} labels")
        self.labels = labels or tuple(f"class {index}" for index in range(self.num_classes))

    @classmethod
    def open(
        cls, path: Path, *, num_threads: int = 1, labels: Path | None = None, spec: PreprocessSpec | None = None
    ) -> Classifier:
        """Load a model file.

        edgekit's own files carry labels and preprocessing. A foreign file needs neither when its input is quantized
        (`derive_spec`); its classes are then called "class 281". A foreign float file needs `spec`.

        Args:
            path: .tflite or .onnx file.
            num_threads: Threads of the runtime.
            labels: Text file with one class name per line, in output order; None for the file's own.
            spec: Preprocessing; None for the file's own.

        Raises:
            UsageError: The labels' number is wrong or they cannot be read, a foreign float file without `spec`, or a
                feature extractor.
            IntegrityError, GraphError, MissingDependencyError: As `load_interpreter`.
        """
        interpreter = load_interpreter(path, num_threads=num_threads)
        card = interpreter.card
        names = () if labels is None else read_labels(labels)
        if card is not None:
            _check_card_fits(interpreter, card.preprocess)
            return cls(interpreter, spec or card.preprocess, names or card.labels)
        return cls(interpreter, spec or derive_spec(interpreter.input, path), names)

    def classify(self, picture: Picture, top_k: int = 5) -> Prediction:
        """Answer for one picture.

        Args:
            picture: uint8 [height, width, 3 (RGB) or 1 (gray)], any size.
            top_k: How many classes to list; all of them when there are fewer.

        Returns:
            The answer; of equally likely classes the first in output order comes first.

        Raises:
            DataError: `picture` is no picture.
            UsageError: `top_k` is below 1.
            GraphError: The model's answer is not finite.
        """
        if top_k < 1:
            raise UsageError(f"top_k is {top_k}, expected at least 1")
        probabilities = self.probabilities(picture)
        order = [int(index) for index in np.argsort(-probabilities, kind="stable")[:top_k]]
        top = tuple((self.labels[index], float(probabilities[index])) for index in order)
        return Prediction(label=top[0][0], index=order[0], confidence=top[0][1], top=top)

    def probabilities(self, picture: Picture) -> npt.NDArray[np.float64]:
        """Probability of each class for one picture, float64 [classes]. Raises as `classify`."""
        fitted = fit_picture(picture, self.spec)
        logits = predict_logits(self.interpreter, fitted[np.newaxis], self.spec)[0].astype(np.float64)
        if not bool(np.isfinite(logits).all()):
            raise GraphError(f"{self.interpreter.file_path} answered with NaN or infinity")
        if self.interpreter.card is None and is_softmaxed(logits, self.interpreter.output):
            return logits
        return softmax(logits)


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities along the last axis, without overflow.

    >>> softmax(np.array([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def is_softmaxed(values: npt.NDArray[np.float64], output: TensorSpec) -> bool:
    """Whether a foreign file's answers are probabilities already.

    A quantized softmax has the one grid that TFLite prescribes for it, 0 to 255/256; float answers are taken for
    probabilities when none is negative and they add up to 1. (edgekit's own files always answer with logits.)
    """
    if output.scale is not None:
        return output.scale == 1 / 256 and output.zero_point == (-128 if output.dtype == "int8" else 0)
    return bool((values >= 0).all()) and abs(float(values.sum()) - 1) < 1e-3


def derive_spec(tensor: TensorSpec, path: Path) -> PreprocessSpec:
    """Preprocessing of a foreign file, read off its quantized input.

    By convention such a file takes pixels as they are (uint8), or minus 128 (int8), and its grid says which real
    values they stand for: `scale * (pixel - zero_point)` is `(pixel / 255 - mean) / std` with mean = zero_point / 255
    and std = 1 / (255 * scale). The centred square is used whole.

    Raises:
        UsageError: The input is float or has no grid, so nothing tells how it was trained.
        GraphError: The input takes no pictures.
    """
    height, width, channels = tensor.image_shape
    if tensor.dtype == "uint8" and tensor.scale is None:
        mean, std = 0.0, 1 / 255  # pixels as they are, as `to_input` passes them
    elif tensor.scale is None or tensor.zero_point is None:
        raise UsageError(
            f"{path.name} has no edgekit card and a {tensor.dtype} input, so nothing says how it wants its pictures",
            hint="give its labels and preprocessing (mean, std, crop), or export it again with edgekit compress",
        )
    else:
        zero_pixel = tensor.zero_point + (128 if tensor.dtype == "int8" else 0)
        mean, std = zero_pixel / 255, 1 / (255 * tensor.scale)
    return PreprocessSpec(
        input_size=(height, width), num_channels=channels, mean=(mean,) * channels, std=(std,) * channels
    )


def read_labels(path: Path) -> tuple[str, ...]:
    """Read class names, one per line; blank lines at the end do not count.

    Raises:
        UsageError: No such file, not UTF-8, or no line in it.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except OSError as error:
        raise UsageError(f"cannot read labels {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"labels {path} are not UTF-8 text: {error}") from error
    if not lines:
        raise UsageError(f"labels {path} are empty", hint="one class name per line, in the order of the outputs")
    return tuple(line.strip() for line in lines)


def _check_card_fits(interpreter: Interpreter, spec: PreprocessSpec) -> None:
    expected = (*spec.input_size, spec.num_channels)
    if interpreter.input.image_shape != expected:
        raise IntegrityError(
            f"{interpreter.file_path}: its card says input {list(expected)}, the model takes "
            f"{list(interpreter.input.image_shape)} [height, width, channels]",
            hint="export the file again",
        )
