"""Drift: what is flagged, what is not, and when a flag comes down."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.telemetry.drift import (
    DecayingCounts,
    DecayingMean,
    DriftConfig,
    DriftWatch,
    index_noise,
    measure_picture,
    stability_index,
)
from edgekit.core.frame import Answer, Frame

MakeAnswer = Callable[..., Answer]
MakeFrame = Callable[..., Frame]
EVEN = (0.25, 0.25, 0.25, 0.25)
FPS = 10


class Camera:
    """Offers answers at a steady pace, on and on."""

    def __init__(self, watch: DriftWatch, make_frame: MakeFrame, make_answer: MakeAnswer) -> None:
        self.watch, self.make_answer = watch, make_answer
        self.frame = make_frame()
        self.num_offered = 0

    def offer(self, num_answers: int, classes: tuple[int | None, ...] = (0, 1, 2, 3), confidence: float = 0.9) -> None:
        for _ in range(num_answers):
            index = classes[self.num_offered % len(classes)]
            answered_s = self.num_offered / FPS
            self.watch.offer(self.frame, self.make_answer(index=index, confidence=confidence, answered_s=answered_s))
            self.num_offered += 1


@pytest.fixture
def watch() -> DriftWatch:
    return DriftWatch(EVEN, labels=("class 0", "class 1", "class 2", "class 3"))


@pytest.fixture
def camera(watch: DriftWatch, make_frame: MakeFrame, make_answer: MakeAnswer) -> Camera:
    return Camera(watch, make_frame, make_answer)


def test_nothing_is_flagged_while_all_is_as_it_was(watch: DriftWatch, camera: Camera) -> None:
    camera.offer(2000)

    status = watch.status()
    assert status.flags == ()
    assert status.psi == pytest.approx(0.0, abs=1e-3)
    assert status.n == pytest.approx(2000, rel=0.2)
    assert status.mean_confidence == pytest.approx(0.9)
    assert status.brightness == pytest.approx(128, abs=3)


def test_too_few_answers_are_not_judged(watch: DriftWatch, camera: Camera) -> None:
    camera.offer(499, classes=(3,), confidence=0.1)

    assert watch.status().psi is None
    assert watch.status().flags == ()


def test_other_classes_are_flagged_and_the_flag_comes_down_with_a_margin(watch: DriftWatch, camera: Camera) -> None:
    camera.offer(1000)
    camera.offer(3000, classes=(3,))
    assert "classes" in watch.status().flags
    assert (watch.status().psi or 0) > 0.25

    seen: set[tuple[bool, bool]] = set()
    for _ in range(400):
        camera.offer(100)
        status = watch.status()
        seen.add(("classes" in status.flags, (status.psi or 0) > 0.25))
        if not status.flags:
            break
    assert watch.status().flags == ()
    assert (True, False) in seen  # between the bound and the margin below it, the flag still stood
    assert (False, True) not in seen


def test_without_a_baseline_classes_are_not_judged(make_frame: MakeFrame, make_answer: MakeAnswer) -> None:
    watch = DriftWatch(None)
    Camera(watch, make_frame, make_answer).offer(2000, classes=(3,))

    assert watch.status().psi is None
    assert watch.status().flags == ()


def test_unsure_answers_are_flagged(watch: DriftWatch, camera: Camera) -> None:
    camera.offer(1000, confidence=0.3)

    assert watch.status().flags == ("confidence",)
    assert watch.status().mean_confidence == pytest.approx(0.3)


def test_unknown_answers_count_with_the_class_that_was_likeliest(
    make_frame: MakeFrame, make_answer: MakeAnswer
) -> None:
    watch = DriftWatch(EVEN, labels=("class 0", "class 1", "class 2", "cat"))
    frame = make_frame()
    for number in range(2000):
        watch.offer(frame, make_answer(index=None, label="cat", confidence=0.9, answered_s=number / FPS))

    assert watch.status().flags == ("classes",)


@pytest.mark.parametrize(
    ("shade", "noise", "flags"),
    [(8, 8, ("brightness",)), (250, 40, ("brightness",)), (128, 0, ("blur",)), (0, 0, ("brightness",))],
)
def test_covered_dazzled_and_blurred_cameras_are_flagged(
    watch: DriftWatch, camera: Camera, make_frame: MakeFrame, shade: int, noise: int, flags: tuple[str, ...]
) -> None:
    camera.frame = make_frame(shade, noise=noise)
    camera.offer(30 * FPS)
    assert watch.status().flags == flags

    camera.frame = make_frame()
    camera.offer(600 * FPS)
    assert watch.status().flags == ()


def test_pictures_are_measured_twice_a_second_however_many_come(
    monkeypatch: pytest.MonkeyPatch, camera: Camera
) -> None:
    measured: list[int] = []
    monkeypatch.setattr(
        "edgekit.agent.telemetry.drift.measure_picture", lambda *_: (measured.append(1), (128.0, 99.0))[1]
    )
    camera.offer(100 * FPS)

    assert len(measured) == 200


@pytest.mark.parametrize("answered_s", [0.0, 1e9])
def test_clock_that_jumps_breaks_nothing(
    watch: DriftWatch, camera: Camera, make_frame: MakeFrame, make_answer: MakeAnswer, answered_s: float
) -> None:
    camera.offer(1000)
    watch.offer(make_frame(), make_answer(answered_s=answered_s, index=1))
    camera.offer(600)

    status = watch.status()
    assert math.isfinite(status.mean_confidence)
    assert status.psi is None or math.isfinite(status.psi)


def test_confidence_that_is_no_number_is_passed_over(
    watch: DriftWatch, make_frame: MakeFrame, make_answer: MakeAnswer
) -> None:
    watch.offer(make_frame(), make_answer(confidence=math.nan))
    watch.offer(make_frame(), make_answer(confidence=0.8, index=77))

    assert watch.status().mean_confidence == 0.8


counts = st.lists(st.floats(0, 1e6), min_size=2, max_size=50)


@given(counts, st.randoms())
def test_stability_index_is_never_negative_and_zero_for_the_same(before: list[float], draw: object) -> None:
    del draw
    baseline = np.array(before)

    assert stability_index(baseline, baseline) == pytest.approx(0.0, abs=1e-9)
    assert stability_index(baseline[::-1].copy(), baseline) >= 0.0
    assert stability_index(np.zeros(len(before)), baseline) == 0.0


def test_stability_index_is_its_definition_for_many_answers() -> None:
    now, before = np.array([60.0, 30.0, 10.0]), np.array([0.5, 0.3, 0.2])
    share = now / now.sum()
    expected = float(((share - before) * np.log(share / before)).sum())

    assert stability_index(now * 1e6, before) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_answers_of_the_baseline_itself_stay_below_the_noise(num_classes: int) -> None:
    draw = np.random.default_rng(3)
    baseline = draw.dirichlet(np.full(num_classes, 5.0))
    for n in (500, 5000):
        indices = [stability_index(draw.multinomial(n, baseline).astype(float), baseline) for _ in range(200)]
        assert np.mean(np.array(indices) > max(0.25, index_noise(num_classes, n))) <= 0.02


def test_decaying_mean_halves_with_its_half_life() -> None:
    mean = DecayingMean(10.0)
    mean.add(1.0, 0.0)
    mean.add(0.0, 10.0)

    assert mean.weight == pytest.approx(1.5)
    assert mean.mean == pytest.approx(1 / 3)
    assert DecayingMean(10.0).mean == 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 500)), min_size=1, max_size=60))
def test_decaying_counts_are_what_forgetting_step_by_step_gives(steps: list[tuple[int, float]]) -> None:
    half_life_s, now_s = 7.0, 1000.0
    counted, expected = DecayingCounts(4, half_life_s), np.zeros(4)
    for index, wait_s in steps:
        now_s += wait_s
        expected *= 0.5 ** (wait_s / half_life_s)
        expected[index] += 1
        counted.add(index, now_s)

    assert counted.counts() == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert counted.weight == pytest.approx(float(expected.sum()), rel=1e-6)


def test_classes_that_do_not_exist_are_not_counted() -> None:
    counted = DecayingCounts(2, 10.0)
    counted.add(2, 0.0)
    counted.add(-1, 0.0)

    assert counted.weight == 0.0


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (119, 121), (480, 640), (1080, 1920)])
def test_pictures_of_any_size_are_measured(size: tuple[int, int]) -> None:
    gray = np.full((*size, 1), 77, np.uint8)

    assert measure_picture(gray, "gray") == (77.0, 0.0)
    assert measure_picture(np.repeat(gray, 3, axis=2), "rgb") == pytest.approx((77.0, 0.0), abs=0.5)


def test_blur_lowers_sharpness_and_color_order_matters() -> None:
    draw = np.random.default_rng(1)
    sharp = cv2.resize(draw.integers(0, 256, (60, 80, 3), np.uint8), (640, 480), interpolation=cv2.INTER_NEAREST)
    blurred = [cv2.GaussianBlur(sharp, (0, 0), sigma).astype(np.uint8) for sigma in (1, 4, 16)]
    values = [measure_picture(picture, "bgr")[1] for picture in blurred]

    assert values == sorted(values, reverse=True)
    assert values[0] > 100 * values[2]
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    assert measure_picture(red, "rgb")[0] == pytest.approx(76, abs=1)
    assert measure_picture(red, "bgr")[0] == pytest.approx(29, abs=1)


def test_config_refuses_unknown_keys() -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError, match="max_psy"):
        msgspec.convert({"max_psy": 1.0}, DriftConfig)
