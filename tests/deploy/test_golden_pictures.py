"""Golden pictures are those that two runtimes answer alike, and clearly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.bundle.golden import GoldenSet, check_answers, margins
from edgekit.core.errors import BarNotMetError
from edgekit.deploy.golden_pictures import Judged, choose, num_that_fit


def judged(judge: list[list[float]], model: list[list[float]] | None = None, step: float = 0.0) -> Judged:
    answers = np.array(judge, np.float32)
    return Judged(
        pictures=np.zeros((len(answers), 4, 4, 1), np.uint8),
        judge=answers,
        model=answers if model is None else np.array(model, np.float32),
        step=step,
    )


def test_clearest_of_each_class_come_first() -> None:
    chosen = choose(judged([[9, 0, 0], [8, 0, 0], [0, 5, 0], [0, 6, 0], [0, 0, 1]]), 4)

    assert chosen.indices == (0, 3, 4, 1)


def test_pictures_on_which_the_files_disagree_are_left_out() -> None:
    chosen = choose(judged([[9, 0], [0, 8], [7, 0]], [[0, 9], [0, 8], [7, 0]]), 3)

    assert chosen.indices == (1, 2)


def test_pictures_with_answers_that_are_not_finite_are_left_out() -> None:
    chosen = choose(judged([[9, 0], [0, 8], [7, 0]], [[np.nan, 0], [0, 8], [7, 0]]), 3)

    assert chosen.indices == (1, 2)


def test_tolerance_leaves_room_for_other_processors() -> None:
    assert choose(judged([[9, 0], [0, 8]], [[9, 0.5], [0, 8]]), 2).tolerance == pytest.approx(1.0, rel=0.01)
    assert choose(judged([[9, 0], [0, 8]], step=0.125), 2).tolerance == pytest.approx(2.0, rel=0.01)
    assert choose(judged([[9, 0], [0, 8]]), 2).tolerance == pytest.approx(0.009, rel=0.01)


def test_close_answers_are_left_out() -> None:
    chosen = choose(judged([[9, 8.9], [9, 0], [0, 8], [1, 0]], step=0.125), 4)

    assert chosen.indices == (1, 2)


def test_clearest_are_taken_where_nothing_is_clear() -> None:
    chosen = choose(judged([[1.0, 0], [0, 1.2], [0, 0.1]], step=0.25), 2)

    assert chosen.indices == (1, 0)
    assert chosen.tolerance == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize(
    ("judge", "model", "reason"),
    [
        ([[1, 0], [2, 0]], [[0, 1], [0, 2]], "name different classes"),
        ([[1, 1], [2, 2]], [[1, 1], [2, 2]], "not more than"),
    ],
)
def test_model_without_clear_answers_is_a_missed_bar(
    judge: list[list[float]], model: list[list[float]], reason: str
) -> None:
    with pytest.raises(BarNotMetError, match=f"no golden picture among 2 candidates: .*{reason}"):
        choose(judged(judge, model, step=0.5), 2)


@given(
    seed=st.integers(0, 10_000),
    num=st.integers(1, 40),
    classes=st.integers(2, 6),
    noise=st.floats(0, 1.5),
    step=st.sampled_from([0.0, 0.1, 0.4]),
)
def test_chosen_answers_pass_the_check_that_boards_make(
    seed: int, num: int, classes: int, noise: float, step: float
) -> None:
    generator = np.random.default_rng(seed)
    judge = (generator.standard_normal((num, classes)) * 4).astype(np.float32)
    model = (judge + generator.uniform(-noise, noise, judge.shape)).astype(np.float32)
    both = Judged(pictures=np.zeros((num, 2, 2, 1), np.uint8), judge=judge, model=model, step=step)
    try:
        chosen = choose(both, 8)
    except BarNotMetError:
        return
    picked = list(chosen.indices)
    golden = GoldenSet(
        pictures=both.pictures[picked],
        logits=judge[picked],
        labels=tuple(map(str, range(classes))),
        tolerance=chosen.tolerance,
    )
    assert len(set(picked)) == len(picked) <= 8
    assert margins(judge[picked]).min() > 2 * np.abs(judge[picked] - model[picked]).max()
    check_answers(golden, model[picked])


@pytest.mark.parametrize(
    ("picture_bytes", "wanted", "expected"),
    [(784, 8, 8), (784, 1, 1), (224 * 224 * 3, 8, 3), (10**6, 8, 2), (10**6, 1, 1)],
)
def test_large_pictures_are_fewer(picture_bytes: int, wanted: int, expected: int) -> None:
    assert num_that_fit(picture_bytes, wanted) == expected
