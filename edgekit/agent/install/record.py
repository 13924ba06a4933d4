"""What is remembered of installations, in one SQLite file: the job, attempts, quarantine, counters, the last events.

Journal mode TRUNCATE with synchronous=FULL: a transaction is on the disk when it returns, and a journal that a power
cut left is played back by the next open. (In journal mode DELETE, FULL does not sync the folder after the journal is
removed: a power cut just after a commit could bring the journal, and with it the old state, back.)
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import cast

import msgspec

from edgekit.agent.install.machine import QUARANTINING, TRANSITIONS, Event, Job, advance
from edgekit.agent.install.probation import MAX_DEATHS, LifeEvent, Probation, advance_life
from edgekit.core.errors import OutputError
from edgekit.core.transactions import is_damage, transaction

_VERSION = 1
_MAX_EVENTS = 200
_TABLES = """
CREATE TABLE job (only INTEGER PRIMARY KEY CHECK (only = 1), document BLOB NOT NULL);
CREATE TABLE attempts (digest TEXT PRIMARY KEY, num INTEGER NOT NULL);
CREATE TABLE quarantine (digest TEXT PRIMARY KEY, document BLOB NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, release INTEGER NOT NULL, digest TEXT NOT NULL);
CREATE TABLE events (number INTEGER PRIMARY KEY AUTOINCREMENT, document BLOB NOT NULL)
"""
_PROBATION = "CREATE TABLE probation (only INTEGER PRIMARY KEY CHECK (only = 1), document BLOB NOT NULL)"
"""Came later, to the same version: whoever does not know it reads and writes the rest as ever."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """A release that is not taken again by itself.

    Args:
        digest: Which.
        name: Of what is released.
        release: Its counter.
        reason: Why, with numbers.
        since_unix_s: When, as far as the board's clock knows.
    """

    digest: str
    name: str
    release: int
    reason: str
    since_unix_s: int


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """The highest release of a name that ever served.

    Args:
        release: Its counter.
        digest: Of its manifest.
    """

    release: int
    digest: str


class PastEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One transition.

    Args:
        unix_s: When, as far as the board's clock knows.
        event: What happened.
        state: Where it led.
        digest: To which release.
        name: Of it.
        release: Its counter.
        detail: Why.
    """

    unix_s: int
    event: str
    state: str
    digest: str | None
    name: str
    release: int
    detail: str


class DamagedRecordError(Exception):
    """The file is no record, or not any more. It may be moved aside: what serves does not depend on it."""


class Record:
    """The open record. One thread at a time; the installer's lock keeps other processes out.

    Args:
        path: The file; made when it does not exist.
        clock: Seconds since 1970.
        read_only: Only look; a file that is not there cannot be read then.

    Raises:
        DamagedRecordError: See there.
        OutputError: It cannot be read or written now.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time, read_only: bool = False) -> None:
        self._path = path
        self._clock = clock
        with _told(path):
            is_new = not path.exists()
            had_journal = _has_bytes(path.with_name(path.name + "-journal"))
            address = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
            self._connection = sqlite3.connect(
                address, uri=True, isolation_level=None, timeout=2.0, check_same_thread=False
            )
        try:
            with _told(path):
                if not read_only:
                    self._prepare(look=had_journal)
                self._check_version()
                if is_new:
                    sync_folder(path.parent)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, *, look: bool) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = TRUNCATE")
        run("PRAGMA synchronous = FULL")
        if look and self._one("PRAGMA quick_check(1)") != "ok":
            raise DamagedRecordError(f"{self._path} is damaged")
        version = self._one("PRAGMA user_version")
        if version == 0 and self._one("SELECT count(*) FROM sqlite_master") == 0:
            with transaction(self._connection):
                for statement in _TABLES.split(";"):
                    run(statement)
                run("INSERT INTO job VALUES (1, ?)", (msgspec.json.encode(Job()),))
                run(f"PRAGMA user_version = {_VERSION}")
        if not self._has_probation():
            with transaction(self._connection):
                run(_PROBATION)

    def _check_version(self) -> None:
        version = self._one("PRAGMA user_version")
        if version != _VERSION:
            raise DamagedRecordError(f"{self._path} has version {version}, expected {_VERSION}")
        self.job()

    def job(self) -> Job:
        """The job as it was last left."""
        with _told(self._path):
            return msgspec.json.decode(cast("bytes", self._one("SELECT document FROM job")), type=Job)

    def move(self, job: Job, event: Event, detail: str = "") -> Job:
        """Write a transition down, durably, with all that belongs to it; one transaction.

        Doing the same once more changes nothing: the job is found where it would be led to.

        Args:
            job: As it is before.
            event: What happens to it.
            detail: Why, for people; with numbers where there are some.

        Returns:
            The job after it.

        Raises:
            InstallStateError: The event does not belong to the state that is on the disk.
            OutputError: It could not be written; nothing has changed then.
        """
        after = advance(job, event, detail)
        with _told(self._path), transaction(self._connection):
            stored = msgspec.json.decode(cast("bytes", self._one("SELECT document FROM job")), type=Job)
            if (stored.state, stored.event, stored.digest) == (after.state, after.event, after.digest):
                return stored
            if TRANSITIONS.get((stored.state, event)) != after.state:
                advance(stored, event)  # raises, with the state that is on the disk
            if event == "finish" and stored.state == "committed":  # it serves now, on probation
                self._keep_probation(Probation(digest=after.digest or "", name=after.name, release=after.release))
            if event == "try":
                after = msgspec.structs.replace(after, num_attempts=self._count_attempt(after.digest or ""))
            self._note(after, event)
            self._connection.execute("UPDATE job SET document = ?", (msgspec.json.encode(after),))
        return after

    def adopt(self, digest: str, name: str, release: int) -> None:
        """Let the counter of a name begin with a release that serves and was not installed here; one transaction.

        Args:
            digest: Of its manifest.
            name: Of what is released.
            release: Its counter. A higher one that is known already stays.
        """
        with _told(self._path), transaction(self._connection):
            self._count(name, release, digest)
            self._log(Job(digest=digest, name=name, release=release, detail="it was there before the record"), "adopt")

    def probation(self) -> Probation | None:
        """The release that has not proved itself yet; None for none."""
        with _told(self._path):
            return self._probation()

    def live(self, digest: str, event: LifeEvent, boot: str = "") -> Probation | None:
        """Write down what happened to an agent that lives with a release; one transaction.

        Args:
            digest: Of the release.
            event: What happened.
            boot: As in `advance_life`.

        Returns:
            Its probation after that; None when it is not on probation, and nothing has changed.

        Raises:
            EdgekitError: The event does not belong to its state.
            OutputError: It could not be written; nothing has changed then.
        """
        with _told(self._path), transaction(self._connection):
            before = self._probation()
            if before is None or before.digest != digest:
                return None
            after = advance_life(before, event, boot)
            self._keep_probation(after)
            if event in ("die", "prove"):
                detail = f"death {after.num_deaths} of {MAX_DEATHS}" if event == "die" else ""
                self._log(Job(digest=digest, name=after.name, release=after.release, detail=detail), event)
        return after

    def num_attempts(self, digest: str) -> int:
        """Trials of a digest that began and did not end in good order."""
        with _told(self._path):
            return cast("int", self._one("SELECT coalesce(max(num), 0) FROM attempts WHERE digest = ?", digest))

    def counter(self, name: str) -> Counter | None:
        """The highest release of a name that served; None when none did."""
        with _told(self._path):
            row = self._connection.execute("SELECT release, digest FROM counters WHERE name = ?", (name,)).fetchone()
        return None if row is None else Counter(release=row[0], digest=row[1])

    def quarantined(self) -> tuple[Quarantined, ...]:
        """What is not taken again by itself."""
        with _told(self._path):
            rows = self._connection.execute("SELECT document FROM quarantine ORDER BY rowid").fetchall()
            return tuple(msgspec.json.decode(document, type=Quarantined) for (document,) in rows)

    def release(self, digest: str) -> None:
        """Let a digest be tried again, as if for the first time."""
        with _told(self._path), transaction(self._connection):
            self._connection.execute("DELETE FROM quarantine WHERE digest = ?", (digest,))
            self._connection.execute("DELETE FROM attempts WHERE digest = ?", (digest,))

    def events(self, limit: int = 20) -> tuple[PastEvent, ...]:
        """The last transitions, newest first."""
        with _told(self._path):
            rows = self._connection.execute(
                "SELECT document FROM events ORDER BY number DESC LIMIT ?", (limit,)
            ).fetchall()
            return tuple(msgspec.json.decode(document, type=PastEvent) for (document,) in rows)

    def close(self) -> None:
        """Close. Idempotent."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _count_attempt(self, digest: str) -> int:
        self._connection.execute(
            "INSERT INTO attempts VALUES (?, 1) ON CONFLICT (digest) DO UPDATE SET num = num + 1", (digest,)
        )
        return cast("int", self._one("SELECT num FROM attempts WHERE digest = ?", digest))

    def _note(self, job: Job, event: Event) -> None:
        """What a transition brings with it."""
        run = self._connection.execute
        now = int(self._clock())
        if event in ("abandon", "pass"):  # it ended in good order: the next one is a first one again
            run("DELETE FROM attempts WHERE digest = ?", (job.digest,))
        if event in QUARANTINING:
            kept = Quarantined(
                digest=job.digest or "", name=job.name, release=job.release, reason=job.detail, since_unix_s=now
            )
            run("INSERT OR REPLACE INTO quarantine VALUES (?, ?)", (kept.digest, msgspec.json.encode(kept)))
        if event == "pass":
            self._count(job.name, job.release, job.digest or "")
        if event == "revert":
            run("DELETE FROM probation")
        self._log(job, event)

    def _count(self, name: str, release: int, digest: str) -> None:
        self._connection.execute(
            "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET release = excluded.release, digest = excluded.digest WHERE excluded.release >= counters.release",
            (name, release, digest),
        )

    def _log(self, job: Job, event: str) -> None:
        past = PastEvent(
            unix_s=int(self._clock()),
            event=event,
            state=job.state,
            digest=job.digest,
            name=job.name,
            release=job.release,
            detail="" if event == "finish" else job.detail,  # said by the decision before it
        )
        run = self._connection.execute
        run("INSERT INTO events (document) VALUES (?)", (msgspec.json.encode(past),))
        run("DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", (_MAX_EVENTS,))

    def _has_probation(self) -> bool:
        return bool(self._one("SELECT count(*) FROM sqlite_master WHERE name = 'probation'"))

    def _probation(self) -> Probation | None:
        if not self._has_probation():  # an older record, that is only read
            return None
        document = self._one("SELECT max(document) FROM probation")
        return None if document is None else msgspec.json.decode(cast("bytes", document), type=Probation)

    def _keep_probation(self, probation: Probation) -> None:
        self._connection.execute("DELETE FROM probation")
        if not probation.is_over:
            self._connection.execute("INSERT INTO probation VALUES (1, ?)", (msgspec.json.encode(probation),))

    def _one(self, query: str, *values: object) -> object:
        row = cast("tuple[object, ...] | None", self._connection.execute(query, values).fetchone())
        return None if row is None else row[0]


def move_aside(path: Path) -> Path:
    """Rename a damaged record, and its journal, so that it can be looked at; an earlier one is replaced.

    Raises:
        OutputError: It cannot be renamed.
    """
    aside = path.with_name(path.name + ".damaged")
    with _told(path):
        for suffix in ("-journal", ""):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        sync_folder(path.parent)
    return aside


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _has_bytes(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@contextlib.contextmanager
def _told(path: Path) -> Generator[None, None, None]:
    """Turn what SQLite and the system raise into the two errors that callers know."""
    try:
        yield
    except (sqlite3.DatabaseError, OSError) as error:
        if isinstance(error, sqlite3.DatabaseError) and is_damage(error):
            raise DamagedRecordError(f"{path}: {error}") from error
        raise OutputError(f"cannot use the record {path}: {error}", hint="check free space and permissions") from error
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError) as error:
        raise DamagedRecordError(f"{path}: {error}") from error
