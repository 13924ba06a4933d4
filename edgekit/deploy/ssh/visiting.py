"""Short visits to a board that is set up: what runs there, its journal, back to the release before."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable

import msgspec

from edgekit.core.address import Address
from edgekit.core.board import list_boards, load_board
from edgekit.core.errors import BarNotMetError, BoardError
from edgekit.deploy.ssh.facts import BoardFound
from edgekit.deploy.ssh.host_keys import HostKey
from edgekit.deploy.ssh.installing import Verdict
from edgekit.deploy.ssh.layout import UNIT, Layout
from edgekit.deploy.ssh.planning import find_board
from edgekit.deploy.ssh.session import Login, Session, connect
from edgekit.deploy.ssh.shell import BoardShell, gather
from edgekit.deploy.ssh.status import Running, read_running

_JOURNAL = 'exec journalctl --no-pager -u "$1" -n "$2" $3'


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A board that was visited.

    Args:
        board: Board id.
        found: What it told about itself.
        running: What runs there.
        host_key: The key that it showed.
    """

    board: str
    found: BoardFound
    running: Running
    host_key: HostKey


async def look(address: Address, login: Login, layout: Layout) -> Seen:
    """Visit a board and change nothing. Raises BoardError as `connect` and `gather`."""
    async with _visit(address, login) as session:
        shell = await gather(session, layout)
        running = await read_running(session, shell.found)
    board = find_board(shell.found, tuple(load_board(name) for name in list_boards()))
    return Seen(board=board.name, found=shell.found, running=running, host_key=session.host_key)


async def roll_back(address: Address, login: Login, layout: Layout, reason: str) -> Verdict:
    """Go back to the release before, there.

    Raises:
        BoardError: It cannot be reached, or its installer failed.
        BarNotMetError: There is nothing to go back to.
    """
    async with _visit(address, login) as session:
        shell = await gather(session, layout)
        if shell.found.environment is None:
            raise BoardError(f"{address} has no edgekit", hint=f"edgekit flash {address} RUN puts it there")
        words = (layout.edgekit, "agent", "rollback", "--state", layout.state, "--reason", reason, "--json")
        ran = await shell.service(*words)
    try:
        return msgspec.json.decode(ran.out, type=Verdict)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        said = [line.removeprefix("error: ") for line in ran.err.splitlines() if line.startswith("error: ")]
        what = f"{address}: {said[-1] if said else ran.complaint}"
        raise (BoardError(what) if ran.code == 3 else BarNotMetError(what)) from error


async def read_journal(
    address: Address, login: Login, layout: Layout, num_lines: int, follow: Callable[[str], None] | None
) -> str:
    """The last lines of the agent's journal.

    Args:
        address: Where the board is.
        login: How to get in.
        layout: Where things lie there.
        num_lines: How many.
        follow: Gets these and all that come, line by line, until it is interrupted; None not to wait for more.

    Returns:
        The lines; "" when they were followed.

    Raises:
        BoardError: It cannot be reached, or there is no journal for this user.
    """
    async with _visit(address, login) as session:
        shell = await gather(session, layout)
        if follow is None:
            return await shell.must("reading the journal", _JOURNAL, UNIT, str(num_lines), "")
        async with _followed(shell, num_lines) as lines:
            async for line in lines:
                follow(line.rstrip("\n"))
    return ""


@contextlib.asynccontextmanager
async def _visit(address: Address, login: Login) -> AsyncGenerator[Session, None]:
    session = await connect(address, login)
    try:
        yield session
    finally:
        await session.close()


@contextlib.asynccontextmanager
async def _followed(shell: BoardShell, num_lines: int) -> AsyncGenerator[AsyncGenerator[str, None], None]:
    async with shell.start_root(_JOURNAL, UNIT, str(num_lines), "--follow") as process:

        async def lines() -> AsyncGenerator[str, None]:
            while line := await process.stdout.readline():
                yield line

        yield lines()
