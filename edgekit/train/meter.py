"""Running loss, accuracy and speed of one epoch, shown now and then."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from edgekit.core.progress import Progress
from edgekit.train.augment import Mixed

REPORT_SECONDS = 0.25
"""Time between two progress reports. Each waits for the device to finish its queue, so there is not one per step."""


class EpochMeter:
    """Adds up one epoch on the device, and reads it only when something is shown.

    Args:
        progress: Where it is shown.
        device: Where the sums lie.
        num_steps_left: Steps to the end of the whole run, for the time left.
    """

    def __init__(self, progress: Progress, device: torch.device, num_steps_left: int) -> None:
        self._progress = progress
        self._num_steps_left = num_steps_left
        self._loss_sum = torch.zeros((), device=device)
        self._num_right = torch.zeros((), device=device)
        self._num_unreported = 0
        self._start = time.perf_counter()
        self._last_report = -math.inf
        self.num_seen = 0
        self.num_steps = 0
        self.is_mixed = False

    def add(self, loss: Tensor, logits: Tensor, target: Mixed) -> None:
        """Add one step: detached mean loss and logits."""
        self._loss_sum += loss * len(logits)
        self._num_right += (logits.argmax(1) == target.first).sum()
        self.num_seen += len(logits)
        self.num_steps += 1
        self._num_unreported += 1
        self.is_mixed = self.is_mixed or target.second is not target.first

    @property
    def is_due(self) -> bool:
        """Whether it is time to look."""
        return time.perf_counter() - self._last_report >= REPORT_SECONDS

    @property
    def mean_loss(self) -> float:
        """Mean over the pictures seen, as optimized; NaN before the first."""
        return float(self._loss_sum) / self.num_seen if self.num_seen else math.nan

    @property
    def top1(self) -> float | None:
        """Share of right answers, 0..1; None when targets are mixed, so that there is no one right answer."""
        return None if self.is_mixed or not self.num_seen else float(self._num_right) / self.num_seen

    @property
    def seconds(self) -> float:
        """Since the epoch began."""
        return time.perf_counter() - self._start

    def report(self) -> None:
        """Show loss, accuracy, images/s and the time to the end of the run, if there is news."""
        if not self._num_unreported:
            return
        parts = [f"loss {self.mean_loss:.3f}"]
        if self.top1 is not None:
            parts.append(f"top-1 {self.top1:.1%}")
        parts.append(f"{self.num_seen / self.seconds:,.0f} images/s")
        seconds_left = self.seconds / max(1, self.num_steps) * (self._num_steps_left - self.num_steps)
        parts.append(f"{format_seconds_left(seconds_left)} left")
        self._progress.advance(self._num_unreported, "  ".join(parts))
        self._num_unreported = 0
        self._last_report = time.perf_counter()


def format_seconds_left(seconds: float) -> str:
    """A duration in the largest fitting unit.

    >>> [format_seconds_left(value) for value in (5.2, 200, 7500)]
    ['5 s', '3 min', '2 h 05 min']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
