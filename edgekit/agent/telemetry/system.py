"""The board, once a second: processor, memory, temperature, throttling, power."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from edgekit.agent.telemetry.processes import ProcessMeter
from edgekit.agent.telemetry.sensors import Sensors
from edgekit.core.board import Board
from edgekit.core.device_status import SystemStatus

_PSS_INTERVAL_S = 10.0


class SystemReader:
    """Reads the board's facts from where its file says they are. One thread at a time.

    Args:
        board: The board, with the places of its facts.
        pids: The processes whose processor time and memory count, asked for at every reading.
        root: What is put before every path; "/" but in tests.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        board: Board,
        pids: Callable[[], tuple[int, ...]] = lambda: (os.getpid(),),
        *,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._pids = pids
        self._clock = clock
        self._sensors = Sensors(board.facts.facts, root)
        self._meter = ProcessMeter(root / "proc")
        self._pss_mib: float | None = None
        self._pss_due_s = clock()
        self._meter.read(pids(), self._clock())

    def read(self) -> SystemStatus:
        """Read everything. What cannot be read is None, never an error."""
        now_s = self._clock()
        pids = self._pids()
        cpu_percent = self._meter.read(pids, now_s)
        if now_s >= self._pss_due_s:
            self._pss_mib = self._meter.pss_mib(pids)
            self._pss_due_s = now_s + _PSS_INTERVAL_S
        return SystemStatus(
            board=self._board.name,
            cpu_percent=cpu_percent,
            rss_mib=self._meter.rss_mib,
            pss_mib=self._pss_mib,
            temperature_c=self._sensors.temperature_c(),
            throttle=self._sensors.throttle(),
            power_rails=self._sensors.power_rails(),
        )
