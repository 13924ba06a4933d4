"""What a board tells through files: temperature, throttling, power. Whatever cannot be read is not known.

A sensor may be missing, switched off (a read fails, or says -256 degrees), or talk nonsense. None of that may end the
agent, and none of it may look like a measurement: such a value is left out, and without any the fact is None.
"""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from edgekit.core.board import FactSources
from edgekit.core.device_status import PowerRail, ThrottleStatus

_PLAUSIBLE_C = (-40.0, 150.0)
_MAX_RAIL_V = 60.0
_MAX_RAIL_A = 50.0
_VCGENCMD = "usr/bin/vcgencmd"
_VCGENCMD_TIMEOUT_S = 2.0
_WORD_BITS = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
"""Bits 0 to 3 of `get_throttled`: now. The same from bit 16 on: since boot."""
_OCCURRED_SHIFT = 16
_EVENT_NAMES = {"oc1": "under_voltage", "oc2": "throttled", "oc3": "over_current"}
"""Jetson Orin: low voltage, average over-current, peaks of current. The last come by the thousand at full load without
lowering the clock, so they are told as something that has occurred, not as a board that is slowed down."""


def read_line(path: Path) -> str | None:
    """First line of a small file, stripped; None when it cannot be read or is no text."""
    try:
        with path.open("rb") as stream:
            return stream.readline(256).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def read_number(path: Path) -> float | None:
    """The number in a file; None when there is none.

    Some drivers put the unit behind it ("32760 ma").
    """
    words = (read_line(path) or "").split()
    try:
        number = float(words[0]) if words else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def find(folder: Path, pattern: str) -> list[Path]:
    """Existing paths that match, sorted by their numbers (device10 after device2); none where it cannot be looked."""
    try:
        return sorted(folder.glob(pattern), key=lambda path: _by_number(str(path)))
    except OSError:
        return []


class Sensors:
    """The sensors of one board. Each call reads the files anew.

    Args:
        sources: Where they are, from the board's file.
        root: What is put before every path; "/" but in tests.
    """

    def __init__(self, sources: FactSources, root: Path = Path("/")) -> None:
        self._sources = sources
        self._root = root
        self._events: dict[str, float] = {}

    def temperature_c(self) -> float | None:
        """The hottest plausible temperature, degrees Celsius; None without any."""
        readings = [*self._zone_temperatures(), *self._chip_temperatures()]
        low, high = _PLAUSIBLE_C
        return max((value for value in readings if low < value < high), default=None)

    def throttle(self) -> ThrottleStatus | None:
        """What slows the processor down; None where nothing tells. Jetson's events count from one call to the next."""
        found = [self._firmware_word(), self._throttling_devices(), self._events_since_last()]
        known = [status for status in found if status is not None]
        if not known:
            return None
        names = sorted({name for status in known for name in status.has_occurred})
        return ThrottleStatus(
            under_voltage=any(status.under_voltage for status in known),
            frequency_capped=any(status.frequency_capped for status in known),
            throttled=any(status.throttled for status in known),
            soft_temperature_limit=any(status.soft_temperature_limit for status in known),
            has_occurred=tuple(names),
        )

    def power_rails(self) -> tuple[PowerRail, ...]:
        """Every rail that is measured, in the order of the monitors and their channels."""
        folders = [folder for pattern in self._sources.power_monitors for folder in self._find(pattern)]
        found = [rail for folder in folders for rail in (*_hwmon_rails(folder), *_iio_rails(folder))]
        return tuple(rail for rail in found if 0 <= rail.volts <= _MAX_RAIL_V and 0 <= rail.amperes <= _MAX_RAIL_A)

    def _find(self, pattern: str) -> list[Path]:
        return find(self._root, pattern.lstrip("/"))

    def _named(self, pattern: str, name_file: str, wanted: tuple[str, ...]) -> Iterator[Path]:
        """Folders whose `name_file` holds a wanted name."""
        for folder in self._find(pattern) if wanted else ():
            name = read_line(folder / name_file)
            if name is not None and any(fnmatchcase(name, one) for one in wanted):
                yield folder

    def _zone_temperatures(self) -> Iterator[float]:
        for zone in self._named("sys/class/thermal/thermal_zone*", "type", self._sources.thermal_zones):
            yield from _thousandths([zone / "temp"])

    def _chip_temperatures(self) -> Iterator[float]:
        for chip in self._named("sys/class/hwmon/hwmon*", "name", self._sources.hwmon_temperatures):
            yield from _thousandths(find(chip, "temp*_input"))

    def _firmware_word(self) -> ThrottleStatus | None:
        for pattern in self._sources.throttled_words:
            for path in self._find(pattern):
                word = parse_word(read_line(path))
                if word is not None:
                    return decode_word(word)
        word = self._ask_vcgencmd() if self._sources.vcgencmd else None
        if word is not None:
            return decode_word(word)
        alarms = [
            read_number(chip / "in0_lcrit_alarm")
            for chip in self._named("sys/class/hwmon/hwmon*", "name", self._sources.low_voltage_alarms)
        ]
        known = [alarm for alarm in alarms if alarm is not None]
        return ThrottleStatus(under_voltage=any(alarm != 0 for alarm in known)) if known else None

    def _ask_vcgencmd(self) -> int | None:
        program = self._root / _VCGENCMD
        if not program.is_file():
            return None
        try:
            done = subprocess.run(
                [program, "get_throttled"], capture_output=True, text=True, check=True, timeout=_VCGENCMD_TIMEOUT_S
            )
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            return None
        return parse_word(done.stdout.strip().removeprefix("throttled="))

    def _throttling_devices(self) -> ThrottleStatus | None:
        devices = self._named("sys/class/thermal/cooling_device*", "type", self._sources.throttling_devices)
        states = [state for device in devices if (state := read_number(device / "cur_state")) is not None]
        return ThrottleStatus(throttled=any(state > 0 for state in states)) if states else None

    def _events_since_last(self) -> ThrottleStatus | None:
        counts: dict[str, float] = {}
        for chip in self._named("sys/class/hwmon/hwmon*", "name", self._sources.event_counters):
            for path in find(chip, "oc*_event_cnt"):
                count = read_number(path)
                if count is not None:
                    counts[path.name.partition("_")[0]] = count
        if not counts:
            return None
        before, self._events = self._events, counts
        now = {_EVENT_NAMES.get(name) for name, count in counts.items() if count > before.get(name, count)}
        occurred = {_EVENT_NAMES.get(name, name) for name, count in counts.items() if count > 0}
        return ThrottleStatus(
            under_voltage="under_voltage" in now, throttled="throttled" in now, has_occurred=tuple(sorted(occurred))
        )


def parse_word(text: str | None) -> int | None:
    """The firmware's word, hexadecimal with or without 0x; None when it is none.

    >>> parse_word("50005"), parse_word("0x0"), parse_word("error=1"), parse_word("-1")
    (327685, 0, None, None)
    """
    if text is None or re.fullmatch("(0x)?[0-9a-fA-F]{1,8}", text) is None:
        return None
    return int(text, 16)


def decode_word(word: int) -> ThrottleStatus:
    """The bits of `get_throttled` by name (Raspberry Pi documentation, "vcgencmd").

    >>> decode_word(0x50005).has_occurred
    ('under_voltage', 'throttled')
    """
    now = {name: bool(word >> bit & 1) for bit, name in enumerate(_WORD_BITS)}
    occurred = tuple(name for bit, name in enumerate(_WORD_BITS) if word >> (bit + _OCCURRED_SHIFT) & 1)
    return ThrottleStatus(**now, has_occurred=occurred)


def _thousandths(paths: Iterable[Path]) -> Iterator[float]:
    for path in paths:
        value = read_number(path)
        if value is not None:
            yield value / 1e3


def _hwmon_rails(monitor: Path) -> Iterator[PowerRail]:
    """Channels of the INA3221 in the kernel since 5.10 (JetPack 5 and 6), in mV and mA.

    A rail is what has a label and a current; channels that are not connected, and the sums that the driver adds, are
    none.
    """
    for label_path in find(monitor, "hwmon/hwmon*/in*_label"):
        channel = label_path.name.removeprefix("in").removesuffix("_label")
        label = read_line(label_path) or ""
        if not label or label == "NC" or "sum of" in label:
            continue
        yield from _rail(
            label, label_path.with_name(f"in{channel}_input"), label_path.with_name(f"curr{channel}_input")
        )


def _iio_rails(monitor: Path) -> Iterator[PowerRail]:
    """Channels of the INA3221 as JetPack 4 shows it, in mV and mA."""
    for name_path in find(monitor, "iio*device*/rail_name_*"):
        channel = name_path.name.removeprefix("rail_name_")
        voltage_path = name_path.with_name(f"in_voltage{channel}_input")
        yield from _rail(read_line(name_path) or "", voltage_path, name_path.with_name(f"in_current{channel}_input"))


def _rail(name: str, voltage_path: Path, current_path: Path) -> Iterator[PowerRail]:
    millivolts, milliamperes = read_number(voltage_path), read_number(current_path)
    if name and millivolts is not None and milliamperes is not None:
        volts, amperes = millivolts / 1e3, milliamperes / 1e3
        yield PowerRail(name=name, volts=volts, amperes=amperes, watts=volts * amperes)


def _by_number(name: str) -> list[tuple[int, str]]:
    parts = re.split("([0-9]+)", name)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)]
