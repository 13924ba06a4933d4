"""Pictures to logits: preprocessing and inference in one step, as evaluation and calibration need it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.core.preprocessing import PreprocessSpec
from edgekit.runtime.interpreter import Interpreter
from edgekit.runtime.preprocess import Picture, to_input


def predict_logits(
    interpreter: Interpreter, pictures: Picture, spec: PreprocessSpec, *, batch_size: int = 32
) -> npt.NDArray[np.float32]:
    """Answers of a model file, dequantized.

    Args:
        interpreter: The loaded file.
        pictures: uint8 [n, height, width, channels], fitted to `spec.input_size`.
        spec: How the model wants them.
        batch_size: Pictures that are preprocessed and run at once; bounds memory, changes no answer.

    Returns:
        float32 [n, classes]: logits (or whatever the file's last layer makes).

    Raises:
        UsageError, DataError, GraphError: As `to_input` and `Interpreter.run`.
    """
    parts: list[npt.NDArray[np.float32]] = []
    for start in range(0, pictures.shape[0], batch_size):
        batch = to_input(pictures[start : start + batch_size], spec, interpreter.input)
        answers = interpreter.output.dequantize(interpreter.run(batch))
        parts.append(np.reshape(answers, (answers.shape[0], -1)))
    if not parts:
        return np.empty((0, interpreter.output.shape[-1]), np.float32)
    return np.concatenate(parts)
