"""The SQLite file under the outbox: one connection, one thread, one transaction for each change.

Why WAL with synchronous=FULL for what is added: a power cut then loses no record that was reported as stored, and no
sequence number is given twice (a receiver would take the second record for a copy of the first and drop it). It costs
one fsync for each batch added: one in ten seconds. Removals are made with synchronous=NORMAL, without an fsync: what a
power cut may undo is a removal, and the record that comes back has its old number, so the receiver drops it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import zlib
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, cast

from edgekit.agent.mqtt.clock import Moment
from edgekit.agent.mqtt.records import MAX_SEQUENCE, PRIORITIES, Draft, Record
from edgekit.core.transactions import is_damage, transaction

StorageTrouble: TypeAlias = Literal["corrupt", "full", "read_only", "busy", "failed"]

_VERSION = 1
_PAGE_BYTES = 4096
_MIN_JOURNAL_BYTES = 128 * 1024
_JOURNAL_SHARE = 16

_TABLES = """
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY,
    priority INTEGER NOT NULL,
    kind TEXT NOT NULL,
    unix_s REAL NOT NULL,
    boot_s REAL NOT NULL,
    boot_id TEXT NOT NULL,
    crc32 INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX by_priority ON records (priority);
CREATE TABLE numbering (only INTEGER PRIMARY KEY CHECK (only = 1), last INTEGER NOT NULL);
"""

_TROUBLES: tuple[tuple[str, StorageTrouble], ...] = (
    ("disk is full", "full"),
    ("readonly", "read_only"),
    ("locked", "busy"),
)
_ERRNO_TROUBLES: dict[int, StorageTrouble] = {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EROFS: "read_only"}


class StorageError(Exception):
    """The file cannot be used now.

    Args:
        trouble: What kind.
        detail: For people.
    """

    def __init__(self, trouble: StorageTrouble, detail: str) -> None:
        super().__init__(detail)
        self.trouble: StorageTrouble = trouble
        self.detail = detail


def name_trouble(error: Exception) -> StorageTrouble:
    """What kind of trouble an exception of SQLite or of the system tells of.

    >>> name_trouble(sqlite3.OperationalError("database or disk is full"))
    'full'
    """
    if is_damage(error):
        return "corrupt"
    text = str(error).lower()
    for words, trouble in _TROUBLES:
        if words in text:
            return trouble
    return _ERRNO_TROUBLES.get(error.errno or 0, "failed") if isinstance(error, OSError) else "failed"


class Database:
    """Records on disk, in the order of their numbers. Every method raises `StorageError` and changes nothing then.

    Args:
        path: The file; its folder is made.
        max_bytes: Of the file and its journal together.
        first_sequence: Where the numbering of a new file begins.
    """

    def __init__(self, path: Path, *, max_bytes: int, first_sequence: int) -> None:
        self._path = path
        journal_bytes = max(_MIN_JOURNAL_BYTES, max_bytes // _JOURNAL_SHARE)
        self._max_pages = (max_bytes - journal_bytes) // _PAGE_BYTES
        with _told():
            path.parent.mkdir(parents=True, exist_ok=True)
            was_torn = _has_bytes(_beside(path, "-wal"))  # a clean end leaves no journal
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0.5, check_same_thread=False)
        try:
            with _told():
                self._prepare(journal_bytes, first_sequence, was_torn=was_torn)
        except StorageError:
            self._connection.close()
            raise

    def _prepare(self, journal_bytes: int, first_sequence: int, *, was_torn: bool) -> None:
        run = self._connection.execute
        run(f"PRAGMA page_size = {_PAGE_BYTES}")
        run("PRAGMA locking_mode = EXCLUSIVE")  # nobody else has business here; saves the shared-memory file
        run("PRAGMA journal_mode = WAL")
        run(f"PRAGMA wal_autocheckpoint = {journal_bytes // 2 // _PAGE_BYTES}")
        run(f"PRAGMA journal_size_limit = {journal_bytes // 2}")
        run("PRAGMA synchronous = FULL")
        if was_torn and self._number("PRAGMA quick_check(1)", text="ok") is None:
            raise StorageError("corrupt", f"{self._path} is damaged")
        version = self._number("PRAGMA user_version")
        if version == 0 and self._number("SELECT count(*) FROM sqlite_master") == 0:
            with transaction(self._connection):
                for statement in _TABLES.split(";"):
                    run(statement)
                run("INSERT INTO numbering VALUES (1, ?)", (first_sequence - 1,))
                run(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise StorageError("corrupt", f"{self._path} has version {version}, expected {_VERSION}")
        with transaction(self._connection):  # shows now whether it can be written at all
            run("UPDATE numbering SET last = max(last, (SELECT coalesce(max(sequence), 0) FROM records))")
        self._last = self._number("SELECT last FROM numbering") or 0
        self.num_records = self._number("SELECT count(*) FROM records") or 0
        if not 0 <= self._last <= MAX_SEQUENCE:
            raise StorageError("corrupt", f"{self._path} has a last number of {self._last}")

    @property
    def last_sequence(self) -> int:
        """The highest number ever given."""
        return self._last

    @property
    def used_bytes(self) -> int:
        """What the records take on disk: pages in use, those of an empty file and the journal not counted."""
        with _told():
            return max(0, self._used_pages() - _EMPTY_PAGES) * _PAGE_BYTES

    def insert(self, records: Sequence[Record], in_flight: Collection[int]) -> int:
        """Store records, durably, and make room for them where that must be.

        Args:
            records: With numbers that no record here has.
            in_flight: Numbers that must not be dropped: the broker may have them already.

        Returns:
            How many records were dropped: the oldest of the lowest priority, the new ones included.
        """
        with _told(), transaction(self._connection):
            num_dropped = 0
            for record in records:
                self._insert(record)
                num_dropped += self._make_room(in_flight)
            last = max([self._last, *(record.sequence for record in records)])
            self._connection.execute("UPDATE numbering SET last = ?", (last,))
        self._last = last
        self.num_records += len(records) - num_dropped
        return num_dropped

    def read(self, after: int, limit: int) -> tuple[list[Record], list[int]]:
        """Records in the order of their numbers, from the one after `after` on, and the numbers of damaged ones."""
        with _told():
            rows = cast(
                "list[tuple[int, str, float, float, str, int, bytes]]",
                self._connection.execute(
                    "SELECT sequence, kind, unix_s, boot_s, boot_id, crc32, payload FROM records"
                    " WHERE sequence > ? ORDER BY sequence LIMIT ?",
                    (after, limit),
                ).fetchall(),
            )
        read = [(row[0], _to_record(row)) for row in rows]
        return [record for _, record in read if record is not None], [number for number, record in read if not record]

    def remove(self, sequences: Collection[int]) -> None:
        """Forget records. Not synced: see the module."""
        with _told():
            self._connection.execute("PRAGMA synchronous = NORMAL")
            try:
                with transaction(self._connection):
                    removed = self._connection.executemany(
                        "DELETE FROM records WHERE sequence = ?", [(number,) for number in sequences]
                    )
            finally:
                self._connection.execute("PRAGMA synchronous = FULL")
        self.num_records -= max(0, removed.rowcount)

    def close(self) -> None:
        """Close; the journal is merged into the file. Idempotent."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _insert(self, record: Record) -> None:
        made = record.made
        self._connection.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.sequence,
                record.priority,
                record.kind,
                made.unix_s,
                made.boot_s,
                made.boot_id,
                zlib.crc32(record.payload),
                record.payload,
            ),
        )

    def _make_room(self, in_flight: Collection[int]) -> int:
        num_dropped = 0
        while self._used_pages() > self._max_pages:
            rows = cast(
                "list[tuple[int]]",
                self._connection.execute(
                    "SELECT sequence FROM records ORDER BY priority, sequence LIMIT ?", (len(in_flight) + 1,)
                ).fetchall(),
            )
            oldest = next((number for (number,) in rows if number not in in_flight), None)
            if oldest is None:
                break
            self._connection.execute("DELETE FROM records WHERE sequence = ?", (oldest,))
            num_dropped += 1
        return num_dropped

    def _used_pages(self) -> int:
        return (self._number("PRAGMA page_count") or 0) - (self._number("PRAGMA freelist_count") or 0)

    def _number(self, query: str, *, text: str | None = None) -> int | None:
        """The one number that a query answers with; with `text`, 1 when it answers with that text."""
        row = cast("tuple[object, ...] | None", self._connection.execute(query).fetchone())
        value = None if row is None else row[0]
        if text is not None:
            return 1 if value == text else None
        if not isinstance(value, int):
            raise StorageError("corrupt", f"{self._path}: {query} answers {value!r}")
        return value


_EMPTY_PAGES = 4
"""Of a file without records: header and schema, two tables, one index."""


def number_drafts(drafts: Sequence[Draft], last: int) -> list[Record]:
    """Give drafts the numbers after `last`."""
    return [
        Record(sequence=number, kind=draft.kind, made=draft.made, payload=draft.payload)
        for number, draft in enumerate(drafts, last + 1)
    ]


def move_aside(path: Path) -> Path:
    """Rename a damaged file, and its journal, so that it can be looked at; an earlier one is replaced.

    Raises:
        StorageError: It cannot be renamed.
    """
    aside = path.with_name(path.name + ".damaged")
    with _told():
        for suffix in ("-wal", "-shm"):
            if _beside(path, suffix).exists():
                _beside(path, suffix).replace(_beside(aside, suffix))
        if path.exists():
            path.replace(aside)
    return aside


def read_last_sequence(path: Path) -> int:
    """The highest number that a damaged file still tells of; 0 when it tells nothing."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.5)) as file:
            row = cast("tuple[object] | None", file.execute("SELECT last FROM numbering").fetchone())
    except (sqlite3.Error, ValueError):
        return 0
    last = row[0] if row else 0
    return last if isinstance(last, int) and 0 <= last < MAX_SEQUENCE // 2 else 0


def _to_record(row: tuple[int, str, float, float, str, int, bytes]) -> Record | None:
    """A record, or None when a byte of it is not what was written."""
    sequence, kind, unix_s, boot_s, boot_id, crc32, payload = row
    if not isinstance(payload, bytes) or zlib.crc32(payload) != crc32 or kind not in PRIORITIES:  # pyright: ignore[reportUnnecessaryIsInstance]
        return None
    try:
        made = Moment(unix_s=float(unix_s), boot_s=float(boot_s), boot_id=str(boot_id))
    except ValueError:
        return None
    return Record(sequence=sequence, kind=kind, made=made, payload=payload)


def is_read_only(path: Path) -> bool:
    """Whether the file system that a path lies on, or would lie on, is mounted read-only."""
    try:
        place = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), Path("/"))
        return bool(os.statvfs(place).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _has_bytes(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@contextlib.contextmanager
def _told() -> Generator[None, None, None]:
    """Turn what SQLite and the system raise into `StorageError`."""
    try:
        yield
    except (sqlite3.Error, OSError, OverflowError) as error:
        raise StorageError(name_trouble(error), str(error)) from error
    except UnicodeDecodeError as error:  # damaged text
        raise StorageError("corrupt", str(error)) from error
