"""Whether what the camera sees still looks like what the model was made for.

Four running statistics, each forgetting with a half-life of its own: the classes that are answered, against those that
the bundle was made with; how sure the answers are; how bright and how sharp the pictures are. Classes and confidence
count every answer; the pictures are measured twice a second, small, which costs less than a thousandth of a core.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import cast

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.agent.telemetry.sample_store import SampleStore
from edgekit.core.device_status import DriftStatus
from edgekit.core.frame import Answer, ColorOrder, Frame

_SMALL_SIDE = 120
"""Short side of what is measured, pixels: about what a classifier sees, so finer blur than this does not matter."""
_RESCALE_AT = 2.0**60
_PSEUDO_COUNT = 0.5


class DriftConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When something has drifted.

    Args:
        max_psi: Population stability index of the classes above which they have drifted; 0.25 is the usual bound.
        min_answers: Answers before classes and confidence are judged.
        low_confidence: Running mean below which the answers are too unsure.
        dark: Mean brightness (0..255) below which the picture is too dark.
        bright: Mean brightness above which it is too bright.
        blurred: Variance of the Laplacian below which it is blurred, or shows nothing. The least sharp of 200 ImageNet
            pictures has 200; blurred by a Gaussian of 8 pixels at 640x480, half of them are below 12.
        margin: Share of its bound by which a value must be better again before its flag is taken down.
        class_half_life_s: After this time an answer counts half among the classes.
        confidence_half_life_s: The same for confidence.
        picture_half_life_s: The same for brightness and sharpness.
        picture_interval_s: Time between two pictures that are measured.
        min_pictures: Measured pictures before they are judged.
    """

    max_psi: float = 0.25
    min_answers: int = 500
    low_confidence: float = 0.5
    dark: float = 30.0
    bright: float = 225.0
    blurred: float = 30.0
    margin: float = 0.1
    class_half_life_s: float = 3600.0
    confidence_half_life_s: float = 600.0
    picture_half_life_s: float = 60.0
    picture_interval_s: float = 0.5
    min_pictures: int = 20


class DriftWatch:
    """Watches answers and pictures. The inference loop offers, another thread asks for the status.

    Args:
        baseline: Share of each class among the answers that the bundle was made with, in output order; None without.
        config: None for the defaults.
        labels: Class names in output order: tells the class of an answer that is "unknown".
        store: Where pictures are kept for a human to label; None to keep none.
    """

    def __init__(
        self,
        baseline: tuple[float, ...] | None,
        config: DriftConfig | None = None,
        *,
        labels: tuple[str, ...] = (),
        store: SampleStore | None = None,
    ) -> None:
        self._config = config or DriftConfig()
        self._baseline = None if baseline is None else np.array(baseline, np.float64)
        self._indices = {label: index for index, label in enumerate(labels)}
        self._store = store
        self._lock = threading.Lock()
        self._waiting: deque[Answer] = deque()
        self._classes = DecayingCounts(len(baseline or ()), self._config.class_half_life_s)
        self._confidence = DecayingMean(self._config.confidence_half_life_s)
        self._brightness = DecayingMean(self._config.picture_half_life_s)
        self._sharpness = DecayingMean(self._config.picture_half_life_s)
        self._picture_due_ns = 0
        self._flags: tuple[str, ...] = ()

    def offer(self, frame: Frame, answer: Answer) -> None:
        """Count an answer, and now and then measure its picture."""
        self._waiting.append(answer)
        if answer.answered_ns >= self._picture_due_ns:
            now_s = answer.answered_ns / 1e9
            looks = measure_picture(frame.picture, frame.color_order)
            with self._lock:
                self._count()
                self._picture_due_ns = answer.answered_ns + round(self._config.picture_interval_s * 1e9)
                self._brightness.add(looks[0], now_s)
                self._sharpness.add(looks[1], now_s)
                self._flags = self._judge()
        if self._store is not None:
            self._store.offer(frame, answer, self._flags)

    def _count(self) -> None:
        """Count the answers that wait; the lock is held. Together they cost less than one by one."""
        while self._waiting:
            answer = self._waiting.popleft()
            index = answer.index
            if index is None and answer.top:
                index = self._indices.get(answer.top[0][0])
            now_s = answer.answered_ns / 1e9
            self._confidence.add(answer.confidence, now_s)
            if index is not None:
                self._classes.add(index, now_s)

    def status(self) -> DriftStatus:
        """The statistics now."""
        with self._lock:
            self._count()
            status = DriftStatus(
                n=round(self._confidence.weight),
                psi=self._psi(),
                mean_confidence=self._confidence.mean,
                brightness=self._brightness.mean,
                sharpness=self._sharpness.mean,
                flags=self._flags,
            )
        if self._store is None:
            return status
        kept = self._store.state()
        return msgspec.structs.replace(
            status, num_samples=kept.num_samples, samples_bytes=kept.size_bytes, detail=kept.detail
        )

    def _psi(self) -> float | None:
        if self._baseline is None or self._classes.weight < self._config.min_answers:
            return None
        return stability_index(self._classes.counts(), self._baseline)

    def _judge(self) -> tuple[str, ...]:
        """Which flags stand now. A flag that stands falls only when its value is better than its bound by a margin."""
        config = self._config
        psi = self._psi()
        bound = max(config.max_psi, index_noise(len(self._classes.counts()), self._classes.weight))
        drifted = {
            "classes": psi is not None and psi > bound * self._slack("classes", better=-1),
            "confidence": self._confidence.weight >= config.min_answers
            and self._confidence.mean < config.low_confidence * self._slack("confidence", better=1),
        }
        if self._brightness.weight >= config.min_pictures:
            brightness = self._brightness.mean
            is_dark = brightness < config.dark * self._slack("brightness", better=1)
            drifted["brightness"] = is_dark or brightness > config.bright * self._slack("brightness", better=-1)
            # In the dark there are no edges: that is no blur.
            drifted["blur"] = not is_dark and self._sharpness.mean < config.blurred * self._slack("blur", better=1)
        return tuple(name for name, has_drifted in drifted.items() if has_drifted)

    def _slack(self, flag: str, *, better: int) -> float:
        return 1.0 + better * self._config.margin if flag in self._flags else 1.0


class DecayingMean:
    """A mean in which a value counts half after every half-life. No value at all is a mean of 0."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._sum = 0.0
        self._at_s = -math.inf
        self.weight = 0.0

    def add(self, value: float, now_s: float) -> None:
        """Take in one value. A clock that runs backwards forgets nothing."""
        if math.isfinite(value):
            kept = 2.0 ** (-max(0.0, now_s - self._at_s) / self._half_life_s)
            self._sum = self._sum * kept + value
            self.weight = self.weight * kept + 1.0
            self._at_s = max(self._at_s, now_s)

    @property
    def mean(self) -> float:
        """The mean."""
        return self._sum / self.weight if self.weight > 0 else 0.0


class DecayingCounts:
    """Counts per class in which an answer counts half after every half-life.

    New answers weigh ever more instead of old ones ever less, so counting one costs the same for 2 classes and 1,000.
    """

    def __init__(self, num_classes: int, half_life_s: float) -> None:
        self._counts = [0.0] * num_classes
        self._half_life_s = half_life_s
        self._started_s: float | None = None
        self._unit = 1.0
        self._sum = 0.0

    def add(self, index: int, now_s: float) -> None:
        """Count one answer; an index of no class is passed over."""
        if not 0 <= index < len(self._counts):
            return
        if self._started_s is None:
            self._started_s = now_s
        exponent = (now_s - self._started_s) / self._half_life_s
        if exponent > 1000:  # nothing came for so long that all of it is forgotten
            self._counts, self._sum = [0.0] * len(self._counts), 0.0
            self._started_s, exponent = now_s, 0.0
        self._unit = max(self._unit, 2.0**exponent)  # where the clock runs backwards, nothing is forgotten
        self._counts[index] += self._unit
        self._sum += self._unit
        if self._unit > _RESCALE_AT:
            self._counts = [count / self._unit for count in self._counts]
            self._sum /= self._unit
            self._started_s, self._unit = now_s, 1.0

    @property
    def weight(self) -> float:
        """Answers that are left, old ones counted in part."""
        return self._sum / self._unit

    def counts(self) -> npt.NDArray[np.float64]:
        """Per class, float64 [classes]."""
        return np.array(self._counts, np.float64) / self._unit


def stability_index(counts: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64]) -> float:
    """Population stability index: the sum over classes of (now - before) * log(now / before).

    Half an answer is added to every class on both sides (the prior of Jeffreys), so that classes that were never seen
    cost something and not everything, and those that neither side knows cost nothing.

    Args:
        counts: Answers per class now, float64 [classes].
        baseline: Share or count of each class before, float64 [classes].

    >>> round(stability_index(np.array([80.0, 20.0]), np.array([0.5, 0.5])), 3)
    0.406
    """
    n, total = float(counts.sum()), float(baseline.sum())
    if n <= 0 or total <= 0:
        return 0.0
    before = baseline / total * n + _PSEUDO_COUNT
    now = counts + _PSEUDO_COUNT
    shares = n + _PSEUDO_COUNT * len(counts)
    return float(((now - before) * np.log(now / before)).sum() / shares)


def index_noise(num_classes: int, n: float) -> float:
    """What the index reaches by chance alone: its mean and three standard deviations for n answers of the baseline.

    Times n it is distributed as chi-square with `num_classes` - 1 degrees of freedom (Yurdakul 2018, "Statistical
    properties of population stability index"): with 1,000 classes, 500 answers reach 2.3 without any drift.

    >>> round(index_noise(10, 500), 3), round(index_noise(1000, 500), 1)
    (0.043, 2.3)
    """
    freedom = max(0, num_classes - 1)
    return (freedom + 3.0 * math.sqrt(2.0 * freedom)) / n if n > 0 else math.inf


def measure_picture(picture: npt.NDArray[np.uint8], color_order: ColorOrder) -> tuple[float, float]:
    """Brightness (mean gray, 0..255) and sharpness (variance of the Laplacian, Pech-Pacheco et al. 2000) of a picture.

    Both are taken on a gray version whose short side is 120 pixels. Of a large picture only as many pixels are touched
    as leave a filter two by two of them: a tenth of a millisecond, whatever its size.

    Args:
        picture: uint8 [height, width, 3 or 1].
        color_order: Of its channels.
    """
    coarse = cv2.resize(picture, _fitted(picture.shape, 2 * _SMALL_SIDE), interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(coarse, _fitted(coarse.shape, _SMALL_SIDE), interpolation=cv2.INTER_AREA)
    if color_order != "gray":
        small = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY if color_order == "rgb" else cv2.COLOR_BGR2GRAY)
    edges = cast("npt.NDArray[np.int16]", cv2.Laplacian(small, cv2.CV_16S))
    return float(small.mean()), float(edges.var())


def _fitted(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Width and height with a short side of at most `side` pixels."""
    scale = min(1.0, side / max(1, min(shape[:2])))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
