"""From the probabilities of single frames to an answer that does not flicker: pure rules, no clock of their own."""

from __future__ import annotations

from collections import deque

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import UsageError
from edgekit.core.frame import UNKNOWN_LABEL


class SmoothingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How answers are smoothed and when they count.

    Args:
        threshold: Confidence below which the answer is "unknown", 0..1.
        half_life_s: Exponential smoothing of the probabilities: a frame's weight halves every so many seconds, whatever
            the frame rate; 0 for none.
        votes: k of "k of n": how many of the last `window` frames must agree on a class; 1 with a window of 1 for none.
        window: n of "k of n".

    Raises:
        UsageError: Out of range (`check`).
    """

    threshold: float = 0.5
    half_life_s: float = 0.0
    votes: int = 1
    window: int = 1

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: Says which setting, its value and its range.
        """
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold is {self.threshold}, expected 0 to 1")
        if not 0 <= self.half_life_s <= 3600:
            raise UsageError(f"half_life_s is {self.half_life_s}, expected 0 to 3600 seconds")
        if not 1 <= self.votes <= self.window <= 1000:
            raise UsageError(f"{self.votes} votes of {self.window} frames, expected 1 <= votes <= frames <= 1000")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is said after smoothing.

    Args:
        label: Class name, or "unknown".
        index: Class index; None when unknown.
        confidence: Smoothed probability of the best class, 0..1, also when it is not enough.
    """

    label: str
    index: int | None
    confidence: float


class Smoother:
    """Smooths the answers of one camera.

    Args:
        settings: Checked here. Raises UsageError.
        labels: Class names in output order.
    """

    def __init__(self, settings: SmoothingSettings, labels: tuple[str, ...]) -> None:
        settings.check()
        self._settings = settings
        self._labels = labels
        self._last_votes: deque[int | None] = deque(maxlen=settings.window)
        self._mean: npt.NDArray[np.float64] | None = None
        self._last_ns = 0

    def reset(self) -> None:
        """Forget what was seen: the camera was away, and what it shows now need not be what it showed."""
        self._last_votes.clear()
        self._mean = None

    def add(self, probabilities: npt.NDArray[np.float64], captured_ns: int) -> Verdict:
        """Take one frame's probabilities in.

        Args:
            probabilities: float64 [classes].
            captured_ns: When the frame was captured; one that is older than the last counts as taken at the same time.

        Returns:
            The best smoothed class if it reaches the threshold and, with a window, has its votes; else "unknown".
        """
        smoothed = self._blend(probabilities, captured_ns)
        best = int(smoothed.argmax())
        confidence = float(smoothed[best])
        vote = best if confidence >= self._settings.threshold else None
        self._last_votes.append(vote)
        if vote is None or self._last_votes.count(vote) < self._settings.votes:
            return Verdict(label=UNKNOWN_LABEL, index=None, confidence=confidence)
        return Verdict(label=self._labels[best], index=best, confidence=confidence)

    def _blend(self, probabilities: npt.NDArray[np.float64], captured_ns: int) -> npt.NDArray[np.float64]:
        if self._settings.half_life_s == 0:
            return probabilities
        seconds = max(0.0, (captured_ns - self._last_ns) / 1e9)
        self._last_ns = max(captured_ns, self._last_ns)
        if self._mean is None:
            mean = np.array(probabilities)
        else:
            kept = 0.5 ** (seconds / self._settings.half_life_s)
            mean = kept * self._mean + (1 - kept) * probabilities
        self._mean = mean
        return mean
