"""Vectors of pictures on disk, so that a second search describes new pictures only.

A vector belongs to the content of a picture file (SHA-256) and to the extractor that made it (SHA-256 of its file):
neither a changed picture nor another model is ever given an old vector, and a picture that was moved or copied keeps
its own. A file whose size and times are unchanged is not even read again. Everything here can be made anew: a damaged
index is, and it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgekit.core.errors import OutputError, UsageError
from edgekit.core.transactions import is_damage, transaction
from edgekit.retrieval.nearest import Vectors

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

APPLICATION_ID = 0x656B_6978
"""Marks a SQLite file as an index of edgekit ("ekix"), so that nothing else is ever replaced."""
VERSION = 1
SETTLED_NS = 2_000_000_000
"""A file changed so shortly before it was read may change again without its time telling: FAT counts in 2 s."""

_TABLES = (
    "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, content BLOB)",
    "CREATE TABLE vectors (model BLOB, content BLOB, crc INTEGER, vector BLOB, PRIMARY KEY (model, content))",
)
_RECALL = """SELECT crc, vector FROM files JOIN vectors USING (content)
WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ? AND model = ?"""
_MAGIC = b"SQLite format 3\x00"
_ID_AT = 68
_PATIENCE_S = 30.0
_MEMORY = ":memory:"


class DamagedIndexError(Exception):
    """The index holds nonsense, and can be made anew."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one picture file.

    Args:
        path: Its path.
        size: Bytes.
        mtime_ns: When its content changed, before it was read.
        ctime_ns: When anything of it changed.
        content: SHA-256 of what was read.
        vector: Its unit vector, float32 [features].
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    content: bytes
    vector: Vectors


def default_index_path() -> Path | None:
    """Where the index lies when none is named: in the user's cache folder; None for a user without one."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return cache / "edgekit" / "search.sqlite3"


class FeatureIndex:
    """The vectors of one extractor. Used in a `with` statement.

    Args:
        path: File that the user named; None for the default place, or memory where that cannot be written.
        model: SHA-256 of the extractor's file.
        num_features: Length of a vector.
        clock: Nanoseconds since the epoch.

    Attributes:
        path: Where it lies; None in memory.

    Raises:
        UsageError: The file that was named is something else.
        OutputError: It cannot be read or written.
    """

    def __init__(
        self, path: Path | None, model: bytes, num_features: int, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.path = path or default_index_path()
        self._model = model
        self._num_bytes = 4 * num_features
        self._clock = clock
        self._is_named = path is not None
        self._connection = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def recall(self, entry: Entry) -> Vectors | None:
        """Vector of a file that has not changed since it was read; None when it has to be read.

        Args:
            entry: The file as it is now; of its content nothing needs to be known.
        """
        key = (_key(entry.path), entry.size, entry.mtime_ns, entry.ctime_ns, self._model)
        with self._told():
            return self._checked(self._connection.execute(_RECALL, key).fetchone())

    def recall_content(self, content: bytes) -> Vectors | None:
        """Vector of a picture with this SHA-256, wherever it was read; None when it has to be described."""
        query = "SELECT crc, vector FROM vectors WHERE model = ? AND content = ?"
        with self._told():
            return self._checked(self._connection.execute(query, (self._model, content)).fetchone())

    def remember(self, entries: Sequence[Entry]) -> None:
        """Keep what was found out, all of it or nothing."""
        if not entries:
            return
        settled = self._clock() - SETTLED_NS
        vectors = [(entry.content, entry.vector.astype("<f4").tobytes()) for entry in entries]
        files = [
            (_key(entry.path), entry.size, entry.mtime_ns, entry.ctime_ns, entry.content)
            for entry in entries
            if entry.mtime_ns < settled
        ]
        with self._told(), transaction(self._connection):
            self._connection.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)",
                [(self._model, content, zlib.crc32(vector), vector) for content, vector in vectors],
            )
            self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", files)

    def rebuild(self) -> None:
        """Begin anew: what was there is lost."""
        self._connection.close()
        self._connection = self._begin_anew()

    def _checked(self, row: tuple[int, bytes] | None) -> Vectors | None:
        """The vector of a row, if it is what was stored."""
        if row is None or len(row[1]) != self._num_bytes or zlib.crc32(row[1]) != row[0]:
            return None
        return np.frombuffer(row[1], "<f4").astype(np.float32)

    def _open(self) -> sqlite3.Connection:
        try:
            with self._told():
                return _prepared(self.path)
        except DamagedIndexError:
            if self._is_named and self.path is not None and not _is_index(self.path):
                raise UsageError(
                    f"{self.path} is no index of edgekit",
                    hint="name another file with --index, or delete this one",
                ) from None
            return self._begin_anew()
        except OutputError:
            if self._is_named:
                raise
            self.path = None  # a cache that cannot be kept is no reason not to search
            return _prepared(None)

    def _begin_anew(self) -> sqlite3.Connection:
        try:
            for suffix in ("", "-journal", "-wal", "-shm") if self.path is not None else ():
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            with self._told():
                return _prepared(self.path)
        except (OSError, DamagedIndexError) as error:
            raise OutputError(f"cannot make the index {self.path} anew: {error}", hint="delete the file") from error

    @contextlib.contextmanager
    def _told(self) -> Generator[None, None, None]:
        """Turn SQLite's errors into ours: damage that can be made good, or a file that cannot be used."""
        try:
            yield
        except sqlite3.Error as error:
            if not isinstance(error, sqlite3.OperationalError) or is_damage(error):
                raise DamagedIndexError(str(error)) from error
            raise OutputError(
                f"cannot use the index {self.path}: {error}",
                hint="check free space and permissions, or name another file with --index",
            ) from error
        except OSError as error:
            raise OutputError(
                f"cannot write the index {self.path}: {error.strerror or error}", hint="name another with --index"
            ) from error


def _key(path: str) -> bytes:
    """A path that means the same from any folder."""
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100 - `Path.absolute` leaves ".." in


def _prepared(path: Path | None) -> sqlite3.Connection:
    """A connection to an index that is ours, of this version, and can be written."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(_MEMORY if path is None else path, isolation_level=None, timeout=_PATIENCE_S)
    try:
        with transaction(connection):  # shows now whether it can be written
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if found != [APPLICATION_ID, VERSION]:
            raise DamagedIndexError(f"{path} is another database, or of another version")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_index(path: Path) -> bool:
    """Whether a file says at its beginning that it is an index of edgekit, whatever came of the rest."""
    with path.open("rb") as stream:
        head = stream.read(_ID_AT + 4)
    return head.startswith(_MAGIC) and head[_ID_AT:] == APPLICATION_ID.to_bytes(4, "big")
