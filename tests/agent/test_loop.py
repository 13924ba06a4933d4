from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from agent_fakes import LABELS, BrightnessModel, ScriptedSource, brightness_classifier, gray_frame
from edgekit.agent.loop import InferenceLoop, LoopSettings, Pace
from edgekit.agent.recognition import Recognizer, best_classes
from edgekit.agent.smoothing import SmoothingSettings
from edgekit.core.errors import GraphError, UsageError
from edgekit.core.frame import UNKNOWN_LABEL, Answer, Frame


class Listener:
    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def offer(self, frame: Frame, answer: Answer) -> None:
        assert frame.sequence == answer.sequence
        self.answers.append(answer)


def run_loop(source: ScriptedSource, settings: LoopSettings | None = None) -> tuple[InferenceLoop, Sequence[Answer]]:
    listener = Listener()
    loop = InferenceLoop(source, Recognizer(brightness_classifier()), settings or LoopSettings(), [listener])
    loop.run(threading.Event())
    return loop, listener.answers


def test_loop_answers_every_frame_it_is_given_with_its_times() -> None:
    frames = [gray_frame(level, sequence=number) for number, level in enumerate((0, 128, 255))]
    loop, answers = run_loop(ScriptedSource(frames))
    assert [answer.label for answer in answers] == list(LABELS)
    assert [answer.sequence for answer in answers] == [0, 1, 2]
    assert loop.num_answers == 3
    for answer in answers:
        stages = (answer.capture_age_ms, answer.preprocess_ms, answer.inference_ms, answer.post_ms)
        assert min(stages) >= 0
        assert answer.end_to_end_ms == pytest.approx(sum(stages), abs=1e-6)
        assert len(answer.top) == 3
        assert answer.top[0][0] == answer.label


def test_loop_goes_on_while_no_frame_comes_and_ends_with_the_source() -> None:
    _, answers = run_loop(ScriptedSource([None, gray_frame(0), None, None, gray_frame(255)]))
    assert [answer.label for answer in answers] == ["dark", "bright"]


def test_loop_stops_after_max_frames() -> None:
    _, answers = run_loop(ScriptedSource([gray_frame(0)] * 10), LoopSettings(max_frames=4))
    assert len(answers) == 4


def test_loop_stops_when_told_to() -> None:
    stop = threading.Event()
    source = ScriptedSource([gray_frame(0)], stop)
    InferenceLoop(source, Recognizer(brightness_classifier()), LoopSettings(), []).run(stop)
    assert stop.is_set()


def test_loop_tells_when_it_wants_the_next_frame() -> None:
    source = ScriptedSource([gray_frame(0)] * 3)
    before = time.monotonic_ns()
    run_loop(source)
    assert len(source.wanted) == 3
    assert min(source.wanted) >= before


def test_loop_smooths_and_says_unknown_below_the_threshold() -> None:
    settings = LoopSettings(smoothing=SmoothingSettings(votes=2, window=2))
    _, answers = run_loop(ScriptedSource([gray_frame(level) for level in (0, 0, 255, 255)]), settings)
    assert [answer.label for answer in answers] == [UNKNOWN_LABEL, "dark", UNKNOWN_LABEL, "bright"]
    # what this frame alone looks like is told all the same
    assert answers[2].top[0][0] == "bright"


def test_loop_forgets_what_it_saw_before_the_camera_was_lost() -> None:
    class LosingSource(ScriptedSource):
        def take(self, timeout_s: float) -> Frame | None:
            frame = super().take(timeout_s)
            if frame is None and self.camera.state != "ended":
                self.lose()
            return frame

    frames = [gray_frame(0, captured_ns=1), None, gray_frame(255, captured_ns=2)]
    settings = LoopSettings(smoothing=SmoothingSettings(half_life_s=3600.0))
    _, with_loss = run_loop(LosingSource(frames), settings)
    _, without = run_loop(ScriptedSource(frames), settings)
    assert [answer.label for answer in with_loss] == ["dark", "bright"]
    assert [answer.label for answer in without] == ["dark", "dark"]


def test_loop_ends_with_an_error_when_the_model_answers_nan() -> None:
    recognizer = Recognizer(brightness_classifier((float("nan"), 0.0, 0.0)))
    loop = InferenceLoop(ScriptedSource([gray_frame(0)]), recognizer, LoopSettings(), [])
    with pytest.raises(GraphError, match="NaN"):
        loop.run(threading.Event())


def test_loop_beats_also_while_no_frame_comes() -> None:
    beats: list[int] = []
    loop = InferenceLoop(
        ScriptedSource([None] * 5), Recognizer(brightness_classifier()), LoopSettings(), [], lambda: beats.append(1)
    )
    loop.run(threading.Event())
    assert len(beats) >= 5


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (LoopSettings(top_k=0), "top_k"),
        (LoopSettings(max_fps=0.0), "max_fps"),
        (LoopSettings(max_fps=float("nan")), "max_fps"),
        (LoopSettings(max_frames=0), "max_frames"),
        (LoopSettings(smoothing=SmoothingSettings(threshold=2.0)), "threshold"),
    ],
)
def test_settings_out_of_range_are_refused(settings: LoopSettings, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        InferenceLoop(ScriptedSource([]), Recognizer(brightness_classifier()), settings, [])


def test_pace_without_a_rate_wants_a_frame_when_the_quickest_of_the_last_would_be_done() -> None:
    pace = Pace(None)
    assert pace.next_wanted(1000) == 1000
    for duration_ns in (500, 300, 400):
        pace.finish(duration_ns)
    assert pace.next_wanted(1000) == 1300
    assert pace.delay_s(1000) == 0


def test_pace_with_a_rate_keeps_the_grid_and_drops_ticks_that_were_missed() -> None:
    pace = Pace(10.0)  # ticks of 100 ms
    milliseconds = 1_000_000
    assert pace.next_wanted(5 * milliseconds) == 100 * milliseconds
    assert pace.delay_s(40 * milliseconds) == pytest.approx(0.060)
    assert pace.next_wanted(110 * milliseconds) == 200 * milliseconds  # 10 ms late: the grid stays
    assert pace.next_wanted(950 * milliseconds) == 1050 * milliseconds  # seven ticks late: a new grid


def test_recognizer_sees_the_colors_of_a_camera_as_the_model_was_trained_on_them() -> None:
    model = BrightnessModel()
    classifier = brightness_classifier()
    classifier.interpreter = model
    picture = np.zeros((24, 24, 3), np.uint8)
    picture[..., 0] = 255  # blue, as OpenCV's cameras order it
    frame = Frame(picture=picture, color_order="bgr", sequence=0, captured_ns=0, time_source="arrival")
    Recognizer(classifier).infer(Recognizer(classifier).prepare(frame))
    assert model.seen[0][0, 4, 4].tolist() == [0.0, 0.0, 1.0]


@given(
    npst.arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])),
    st.integers(1, 50),
)
def test_best_classes_are_those_of_a_full_stable_sort(probabilities: np.ndarray, top_k: int) -> None:
    expected = np.argsort(-probabilities, kind="stable")[:top_k]
    assert best_classes(probabilities, top_k) == tuple(expected)
