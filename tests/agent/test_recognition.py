"""From a model's raw answer to probabilities, the quick way and the plain one."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_fakes import SPEC, BrightnessModel
from edgekit.agent.recognition import Recognizer
from edgekit.runtime.classify import Classifier, softmax
from edgekit.runtime.tensor import TensorSpec


class QuantizedModel(BrightnessModel):
    """A model with an output on a grid.

    Args:
        output: Its output.
    """

    def __init__(self, output: TensorSpec) -> None:
        super().__init__()
        self.output = output


@given(
    elements=st.lists(st.integers(0, 255), min_size=3, max_size=3),
    scale=st.floats(1e-4, 10.0),
    zero_point=st.integers(-128, 255),
    dtype=st.sampled_from(("int8", "uint8")),
)
def test_quantized_answer_has_the_probabilities_of_its_real_values(
    elements: list[int], scale: float, zero_point: int, dtype: Literal["int8", "uint8"]
) -> None:
    output = TensorSpec(name="output", shape=(1, 3), dtype=dtype, scale=scale, zero_point=zero_point)
    recognizer = Recognizer(Classifier(QuantizedModel(output), SPEC, ("a", "b", "c")))
    answer = np.array([elements], np.uint8).view(dtype)

    probabilities = recognizer.to_probabilities(answer)

    assert probabilities.shape == (3,)
    assert (probabilities == softmax(output.dequantize(answer)[0].astype(np.float64))).all()


@pytest.mark.parametrize(("dtype", "zero_point"), [("uint8", 0), ("int8", -128)])
def test_foreign_model_that_ends_in_a_softmax_is_taken_at_its_word(
    dtype: Literal["int8", "uint8"], zero_point: int
) -> None:
    output = TensorSpec(name="output", shape=(1, 3), dtype=dtype, scale=1 / 256, zero_point=zero_point)
    model = QuantizedModel(output)
    model.card = None  # pyright: ignore[reportAttributeAccessIssue] - a foreign file has none
    recognizer = Recognizer(Classifier(model, SPEC, ("a", "b", "c")))
    answer = (np.array([[64, 128, 64]]) + zero_point).astype(dtype)

    assert recognizer.to_probabilities(answer).tolist() == [0.25, 0.5, 0.25]
