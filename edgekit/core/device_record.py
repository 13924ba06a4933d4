"""What an agent has recorded: one snapshot a line, in files that may have lost their end with the power."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.device_status import STATUS_VERSION, DeviceStatus
from edgekit.core.errors import IntegrityError, UsageError

RECORD_NAME = "record.jsonl"
"""The file that is written to, within the agent's state folder; `record.1.jsonl` is the one before, and so on."""
_MAX_LINE_BYTES = 1 << 20


class _VersionOnly(msgspec.Struct, frozen=True):
    version: int = STATUS_VERSION


class DeviceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All snapshots that could be read.

    Args:
        statuses: In the order they were written.
        num_damaged: Lines that are no snapshot.
        num_newer: Lines of a newer edgekit, which this one cannot read.
    """

    statuses: tuple[DeviceStatus, ...]
    num_damaged: int
    num_newer: int


def rotated_path(folder: Path, age: int) -> Path:
    """File of a record: 0 for the one that is written to, 1 for the one before.

    >>> rotated_path(Path("state"), 1).name
    'record.1.jsonl'
    """
    return folder / (RECORD_NAME if age == 0 else f"record.{age}.jsonl")


def record_paths(path: Path) -> tuple[Path, ...]:
    """The files of a record, oldest first: of a folder all that it holds, otherwise the file itself."""
    if not path.is_dir():
        return (path,)
    ages = range(1, 100)
    older = [rotated_path(path, age) for age in ages if rotated_path(path, age).is_file()]
    newest = rotated_path(path, 0)
    return (*reversed(older), *((newest,) if newest.is_file() else ()))


def read_record(path: Path) -> DeviceRecord:
    """Read what an agent recorded. Damaged lines are left out and counted; that the last one is torn is no damage.

    Args:
        path: A record file, or the agent's state folder.

    Raises:
        UsageError: There is no record, or it cannot be read.
        IntegrityError: Not one line of it is a snapshot.
    """
    paths = record_paths(path)
    if not paths:
        raise UsageError(f"no record in {path}: expected {RECORD_NAME}", hint="name the agent's state folder")
    statuses: list[DeviceStatus] = []
    num_damaged = num_newer = 0
    for file in paths:
        try:
            *lines, torn = file.read_bytes().split(b"\n")
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
        found = [decode_line(line) for line in lines if line.strip(b"\0 \r")]
        found += [status for status in (decode_line(torn),) if isinstance(status, DeviceStatus)]
        statuses += [status for status in found if isinstance(status, DeviceStatus)]
        num_newer += found.count("newer")
        num_damaged += found.count("damaged")
    if not statuses:
        held = f"{num_newer} lines of a newer edgekit" if num_newer else f"{num_damaged} damaged lines"
        raise IntegrityError(f"{path} holds no snapshot of an agent: {held}", hint="upgrade, or name another record")
    return DeviceRecord(statuses=tuple(statuses), num_damaged=num_damaged, num_newer=num_newer)


def decode_line(line: bytes) -> DeviceStatus | str:
    """One line of a record: the snapshot, or "newer", or "damaged"."""
    if len(line) > _MAX_LINE_BYTES:
        return "damaged"
    try:
        if msgspec.json.decode(line, type=_VersionOnly).version > STATUS_VERSION:
            return "newer"
        return msgspec.json.decode(line, type=DeviceStatus)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "damaged"
