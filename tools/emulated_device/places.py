"""Where images are kept, and how long it took."""

from __future__ import annotations

import os
import time
from pathlib import Path


def default_folder() -> Path:
    """$EDGEKIT_EMULATED_DIR, or a folder in the user's cache."""
    chosen = os.environ.get("EDGEKIT_EMULATED_DIR")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else cache / "edgekit-emulated"


class Stopwatch:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, name: str) -> None:
        """Note the seconds since the last lap."""
        now = time.monotonic()
        self.laps[name] = round(now - self._since, 1)
        self._since = now
