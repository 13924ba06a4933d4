"""One transaction of SQLite, whole or not at all."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator


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
