"""Transactions of SQLite, whole or not at all, and which of its errors tell of a damaged file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator

# What SQLite says is the same in every version; its numbers reach Python only from 3.11 on.
_DAMAGE = (
    "malformed",
    "not a database",
    "no such table",
    "no such column",
    "has no column",
    "unsupported file format",
    "could not decode",
)


def is_damage(error: Exception) -> bool:
    """Whether an error of SQLite means that the file holds nonsense, and not that it is locked, full or out of reach.

    >>> is_damage(sqlite3.DatabaseError("file is not a database")), is_damage(sqlite3.OperationalError("disk is full"))
    (True, False)
    """
    words = str(error).lower()
    return any(each in words for each in _DAMAGE)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None, None, None]:
    """Begin a transaction that may write, and commit it, or roll it back when something is raised.

    Args:
        connection: In autocommit mode (`isolation_level=None`), outside a transaction.

    Raises:
        sqlite3.Error: As its statements, or the commit.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
            connection.execute("ROLLBACK")
        raise
