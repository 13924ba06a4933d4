"""Records that wait for the broker: on disk, and in memory while the disk does not take them.

One thread owns an outbox. Nothing here raises because of the disk: a full, read-only or damaged one is a named state,
and the agent lives on.

Sequence numbers rise for ever. A new numbering (new file, damaged file, disk out of reach) begins at the wall clock in
milliseconds: above every number of an earlier one, as fewer than 1,000 records are made in a second, unless the clock
was set back in between.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from edgekit.agent.mqtt.clock import Clock
from edgekit.agent.mqtt.database import (
    Database,
    StorageError,
    StorageTrouble,
    is_read_only,
    move_aside,
    number_drafts,
    read_last_sequence,
)
from edgekit.agent.mqtt.records import MAX_PAYLOAD_BYTES, MAX_SEQUENCE, Draft, Record
from edgekit.core.device_status import OutboxState

MAX_MEMORY_RECORDS = 2000
MAX_MEMORY_BYTES = 4 * 1024 * 1024
"""What is kept in memory while the disk takes nothing."""

_RETRY_S = 30.0
_STATES: dict[StorageTrouble, OutboxState] = {
    "full": "disk_full",
    "read_only": "read_only",
    "busy": "unwritable",
    "failed": "unwritable",
    "corrupt": "unwritable",
}
_WORDS: dict[OutboxState, str] = {
    "disk_full": "the disk is full",
    "read_only": "the disk is read-only",
    "unwritable": "the outbox cannot be written",
}


class Outbox:
    """A queue of records that outlives the process.

    Args:
        path: SQLite file.
        max_bytes: On disk, journal included.
        clock: Where the numbering of a new file gets its beginning.
        retry_s: Seconds between two attempts to use the disk again.
        monotonic: For these seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        clock: Clock,
        retry_s: float = _RETRY_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._retry_s = retry_s
        self._monotonic = monotonic
        self._database: Database | None = None
        self._memory: dict[int, Record] = {}
        self._memory_bytes = 0
        self._in_flight: set[int] = set()
        self._unremoved: set[int] = set()  # acknowledged, but the disk does not let go of them
        self._taken = 0  # every number up to here is in flight, acknowledged or dropped
        self._last = 0
        self._trouble: StorageTrouble | None = None
        self._trouble_detail = ""
        self._aside: Path | None = None
        self._retry_at = 0.0
        self.num_dropped = 0
        self._open()

    @property
    def num_pending(self) -> int:
        """Records that the broker has not acknowledged."""
        stored = 0 if self._database is None else self._database.num_records
        return max(0, stored - len(self._unremoved)) + len(self._memory)

    @property
    def pending_bytes(self) -> int:
        """What they take on disk and in memory."""
        try:
            stored = 0 if self._database is None else self._database.used_bytes
        except StorageError:
            stored = 0
        return stored + self._memory_bytes

    @property
    def num_in_flight(self) -> int:
        """Records taken, and neither acknowledged nor released."""
        return len(self._in_flight)

    @property
    def num_in_memory(self) -> int:
        """Records that would be lost if the process ended now."""
        return len(self._memory)

    @property
    def state(self) -> OutboxState:
        """Where records go now."""
        if self._trouble is not None:
            return _STATES[self._trouble]
        return "stored" if self._aside is None else "renewed"

    @property
    def detail(self) -> str:
        """Why it is not as it should be; "" when it is."""
        parts: list[str] = []
        if self._trouble is not None:
            parts.append(f"records in memory only: {_WORDS[self.state]} ({self._trouble_detail})")
        if self._aside is not None:
            parts.append(f"the outbox was damaged and begun anew; the damaged one is {self._aside}")
        return "; ".join(parts)

    def append(self, drafts: Sequence[Draft]) -> None:
        """Number and keep drafts; when this returns they are on disk, or the state says that they are not."""
        fitting = [draft for draft in drafts if len(draft.payload) <= MAX_PAYLOAD_BYTES]
        self.num_dropped += len(drafts) - len(fitting)
        if not fitting:
            return
        try:
            if self._store(fitting):
                return
        except StorageError as error:
            self._on_trouble(error)
        try:
            if self._store(fitting):  # a new file may have taken the place of a damaged one
                return
        except StorageError as error:
            self._begin_trouble(error)
        self._remember(fitting)

    def take(self, limit: int) -> list[Record]:
        """The next records in the order of their numbers; in flight until acknowledged or released."""
        records: list[Record] = []
        while len(records) < limit:
            batch = self._read(limit - len(records))
            if not batch:
                break
            self._taken = batch[-1].sequence
            records += [r for r in batch if r.sequence not in self._unremoved and r.sequence not in self._in_flight]
        self._in_flight.update(record.sequence for record in records)
        return records

    def acknowledge(self, sequences: Collection[int]) -> None:
        """The broker has them: forget them."""
        known = self._in_flight.intersection(sequences)
        self._in_flight -= known
        self._remove(known)

    def discard(self, sequences: Collection[int]) -> None:
        """No broker will ever take them: forget them, and count them as dropped."""
        if not sequences:
            return
        self.num_dropped += len(sequences)
        self._in_flight.difference_update(sequences)
        self._remove(set(sequences))

    def release(self) -> None:
        """The connection is gone: whatever was in flight is taken again."""
        if self._in_flight:
            self._taken = min(self._in_flight) - 1
            self._in_flight.clear()

    def retry(self, *, now: bool = False) -> None:
        """Try the disk again, when it is time to, and move to it what is in memory."""
        if self._trouble is None or (self._monotonic() < self._retry_at and not now):
            return
        self._retry_at = self._monotonic() + self._retry_s
        if self._database is None:
            self._open()
            self._taken = 0  # what lies in the file again was never acknowledged
        if self._database is None:
            return
        try:
            self._database.remove(self._unremoved)
            self._unremoved.clear()
            self.num_dropped += self._database.insert(list(self._memory.values()), self._in_flight)
        except StorageError as error:
            self._on_trouble(error)
            return
        self._memory.clear()
        self._memory_bytes = 0
        self._last = max(self._last, self._database.last_sequence)
        self._trouble = None

    def close(self) -> None:
        """Move to disk what can be moved, and close the file. Idempotent."""
        self.retry(now=True)
        if self._database is not None:
            self._database.close()
            self._database = None

    # ------------------------------------------------------------------------------------------------------- disk

    def _open(self) -> None:
        """Open the file; a damaged one is moved aside and begun anew."""
        try:
            self._database = self._make_database()
        except StorageError as error:
            if error.trouble == "corrupt" and self._set_aside():
                self._open_new()
            else:
                self._begin_trouble(error)
        else:
            self._on_opened(self._database)

    def _open_new(self) -> None:
        try:
            self._database = self._make_database()
        except StorageError as error:
            self._begin_trouble(error)
        else:
            self._on_opened(self._database)

    def _on_opened(self, database: Database) -> None:
        self._last = max(self._last, database.last_sequence)
        if not self._memory:
            self._trouble = None

    def _make_database(self) -> Database:
        first = max(self._last + 1, self._clock_sequence())
        return Database(self._path, max_bytes=self._max_bytes, first_sequence=first)

    def _set_aside(self) -> bool:
        """Move the damaged file away. False when that cannot be done."""
        if self._database is not None:
            self.num_dropped += max(0, self._database.num_records - len(self._unremoved))
            self._database.close()
            self._database = None
        self._unremoved.clear()
        self._in_flight.intersection_update(self._memory)
        self._last = max(self._last, read_last_sequence(self._path))
        try:
            self._aside = move_aside(self._path)
        except StorageError:
            return False
        return True

    def _on_trouble(self, error: StorageError) -> None:
        """Go on without the disk, or with a new file."""
        if error.trouble == "corrupt":
            if self._set_aside():
                self._open()
            else:
                self._begin_trouble(error)
            return
        self._begin_trouble(error)
        if self._trouble == "failed" and self._database is not None:  # what SQLite thinks of the file is void
            self._database.close()
            self._database = None

    def _begin_trouble(self, error: StorageError) -> None:
        if self._trouble is None:
            self._last = max(self._last, self._clock_sequence() - 1)
        trouble = error.trouble
        if trouble == "failed" and is_read_only(self._path):
            trouble = "read_only"
        self._trouble = trouble
        self._trouble_detail = error.detail
        self._retry_at = self._monotonic() + self._retry_s

    def _clock_sequence(self) -> int:
        return min(max(1, int(self._clock.now().unix_s * 1000)), MAX_SEQUENCE // 2)

    def _store(self, drafts: Sequence[Draft]) -> bool:
        """Write drafts to disk. False while the disk takes nothing."""
        if self._trouble is not None or self._database is None:
            return False
        records = number_drafts(drafts, self._last)
        self.num_dropped += self._database.insert(records, self._in_flight)
        self._last = records[-1].sequence
        return True

    def _read(self, limit: int) -> list[Record]:
        if self._database is not None:
            try:
                records, damaged = self._database.read(self._taken, limit)
            except StorageError as error:
                self._on_trouble(error)
            else:
                self.discard(damaged)
                if records:
                    return records
                if damaged:
                    self._taken = damaged[-1]
                    return self._read(limit)
        return [record for number, record in self._memory.items() if number > self._taken][:limit]

    def _remove(self, sequences: set[int]) -> None:
        for number in sequences.intersection(self._memory):
            self._memory_bytes -= len(self._memory.pop(number).payload)
            sequences = sequences - {number}
        if not sequences or self._database is None:
            return
        try:
            self._database.remove(sequences)
        except StorageError as error:
            self._unremoved |= sequences
            self._on_trouble(error)

    # ----------------------------------------------------------------------------------------------------- memory

    def _remember(self, drafts: Sequence[Draft]) -> None:
        for record in number_drafts(drafts, self._last):
            self._memory[record.sequence] = record
            self._memory_bytes += len(record.payload)
            self._last = record.sequence
        while len(self._memory) > MAX_MEMORY_RECORDS or self._memory_bytes > MAX_MEMORY_BYTES:
            free = [record for number, record in self._memory.items() if number not in self._in_flight]
            with contextlib.suppress(ValueError):
                oldest = min(free, key=lambda record: (record.priority, record.sequence))
                self._memory_bytes -= len(self._memory.pop(oldest.sequence).payload)
                self.num_dropped += 1
                continue
            break
