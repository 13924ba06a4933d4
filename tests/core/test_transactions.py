from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from edgekit.core.transactions import transaction


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        opened.execute("CREATE TABLE numbers (n INTEGER)")
        yield opened


def count(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM numbers").fetchone()[0]


def test_transaction_keeps_what_was_written_when_it_ends_well(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        connection.execute("INSERT INTO numbers VALUES (1)")
        assert connection.in_transaction
    assert count(connection) == 1
    assert not connection.in_transaction


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_transaction_leaves_nothing_when_something_is_raised(
    connection: sqlite3.Connection, error: type[BaseException]
) -> None:
    def write_and_break_off() -> None:
        with transaction(connection):
            connection.execute("INSERT INTO numbers VALUES (1)")
            raise error

    with pytest.raises(error):
        write_and_break_off()
    assert count(connection) == 0
    assert not connection.in_transaction


def test_transaction_raises_the_statements_own_error(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="nowhere"), transaction(connection):
        connection.execute("INSERT INTO nowhere VALUES (1)")
    assert not connection.in_transaction
