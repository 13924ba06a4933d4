from __future__ import annotations

import numpy as np

from edgekit.verify.answers import Answers
from edgekit.verify.evaluating import _shared_answers


def answers_on(*indices: int) -> Answers:
    """One logit per picture: its position in the source."""
    positions = np.array(indices, np.int64)
    return Answers(logits={"model": positions[:, np.newaxis].astype(np.float32)}, labels=None, indices=positions)


def test_only_pictures_that_both_models_answered_are_compared() -> None:
    indices, logits = _shared_answers([answers_on(0, 1, 3, 4), answers_on(0, 2, 3, 4)])

    assert indices.tolist() == [0, 3, 4]
    assert [values[:, 0].tolist() for values in logits] == [[0, 3, 4], [0, 3, 4]]


def test_one_model_keeps_all_its_pictures() -> None:
    indices, logits = _shared_answers([answers_on(0, 2, 5)])

    assert indices.tolist() == [0, 2, 5]
    assert logits[0][:, 0].tolist() == [0, 2, 5]
