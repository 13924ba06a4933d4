"""Commands on a board as root, or as the service's user, however root is reached there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from edgekit.core.errors import BoardError
from edgekit.deploy.ssh.facts import FACTS_SCRIPT, BoardFound, Privilege, parse_facts
from edgekit.deploy.ssh.layout import Layout
from edgekit.deploy.ssh.session import COMMAND_S, Ran, RemoteProgram, Session

LOCK_TAKEN = 75
"""What `flock` ends with when somebody else has the lock (EX_TEMPFAIL of sysexits.h)."""

_HEARTBEAT_S = 10.0
_GOODBYE_S = 5.0
_LOCK_SILENCE_S = 60
"""After so much silence a board gives the lock back: whoever held it is gone, however it went."""

# As root at once where that costs no password: one command tells everything.
_PROBE = """
script=$1; shift
if [ "$(id -u)" = 0 ]; then exec sh -c "$script" facts "$@" root; fi
if ! command -v sudo >/dev/null; then exec sh -c "$script" facts "$@" none; fi
if sudo -n true 2>/dev/null; then exec sudo -n sh -c "$script" facts "$@" free; fi
exec sh -c "$script" facts "$@" locked
"""

_SEARCH = 'PATH="$PATH:/usr/sbin:/sbin"'
# $1: user, $2: home; then the program. `runuser` asks PAM, which a minimal system may not have set up for it.
_AS_SERVICE = """
user=$1 HOME=$2
export HOME
cd /
shift 2
if [ "$(id -un)" = "$user" ]; then exec "$@"; fi
if ! command -v setpriv >/dev/null; then exec runuser -u "$user" -- "$@"; fi
exec setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups -- "$@"
"""

# Holds the lock as long as somebody writes a byte now and then.
_HOLD = """
printf '%s\\n' "$2" >"$1.holder"
echo held
while [ "$(timeout "$3" head -c 1 | wc -c)" -eq 1 ]; do :; done
rm -f "$1.holder"
"""


class BoardShell:
    """A board on which root can do things.

    Args:
        session: Connection.
        layout: Where things lie there.
        found: What it told about itself.
    """

    def __init__(self, session: Session, layout: Layout, found: BoardFound) -> None:
        self.session = session
        self.layout = layout
        self.found = found

    @property
    def where(self) -> str:
        """For messages."""
        return str(self.session.address)

    async def root(self, script: str, *arguments: str, given: str = "", timeout_s: float = COMMAND_S) -> Ran:
        """Run a shell script as root, with `$1` and so on. Raises BoardError when the connection breaks."""
        words = ("sh", "-c", f"{_SEARCH}; {script}", "edgekit-flash", *arguments)
        return await _as_root(self.session, self.found.privilege, words, given=given, timeout_s=timeout_s)

    async def service(self, *words: str, timeout_s: float = COMMAND_S) -> Ran:
        """Run a program as the service's user. Raises BoardError when the connection breaks."""
        return await self.root(_AS_SERVICE, self.layout.user, self.layout.state, *words, timeout_s=timeout_s)

    async def must(self, what: str, script: str, *arguments: str, given: str = "", timeout_s: float = COMMAND_S) -> str:
        """Run a shell script as root that has to succeed, and return what it printed.

        Raises:
            BoardError: It did not: says what was to be done, and what the board said.
        """
        ran = await self.root(script, *arguments, given=given, timeout_s=timeout_s)
        if ran.code != 0:
            raise BoardError(f"{self.where}: {what} failed: {ran.complaint or f'exit code {ran.code}'}")
        return ran.out

    @contextlib.asynccontextmanager
    async def start_root(self, script: str, *arguments: str) -> AsyncGenerator[RemoteProgram, None]:
        """Run a shell script as root that talks, as long as the block lasts. Raises BoardError as `root`."""
        inner = ("sh", "-c", f"{_SEARCH}; {script}", "edgekit-flash", *arguments)
        words, password = _root_words(self.session, self.found.privilege, inner)
        async with self.session.start(words) as process:
            if password:
                process.stdin.write(password)
            yield process

    @contextlib.asynccontextmanager
    async def lock(self, holder: str) -> AsyncGenerator[None, None]:
        """Be the only one who flashes this board. The board frees the lock by itself when we are gone.

        Args:
            holder: Who we are, for the others.

        Raises:
            BoardError: Somebody else does; says who.
        """
        script = f'mkdir -p "$(dirname "$1")"; exec flock -n -E {LOCK_TAKEN} "$1" sh -c "$2" hold "$1" "$3" "$4"'
        arguments = (self.layout.lock, _HOLD, holder, str(_LOCK_SILENCE_S))
        async with self.start_root(script, *arguments) as process:
            if (await process.stdout.readline()).strip() != "held":
                await process.wait_closed()
                who = (await self.root('cat "$1.holder" 2>/dev/null', self.layout.lock)).out.strip()
                complaint = "" if process.exit_status == LOCK_TAKEN else f" ({process.exit_status})"
                raise BoardError(
                    f"{self.where} is being flashed by {who or 'somebody else'}{complaint}",
                    hint=f"wait for it; a lost connection frees the board after {_LOCK_SILENCE_S} s",
                )
            beating = asyncio.create_task(_beat(process))
            try:
                yield
            finally:
                beating.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await beating
                await _let_go(process)


async def gather(session: Session, layout: Layout) -> BoardShell:
    """Ask a board about itself: one command; two, where sudo wants the password that let us in.

    Raises:
        BoardError: It does not tell.
    """
    script = FACTS_SCRIPT.read_text(encoding="utf-8")
    ran = await session.run(("sh", "-c", _PROBE, "probe", script, layout.prefix, layout.user))
    found = parse_facts(ran.out or ran.err)
    if found.privilege == "locked" and session.password is not None:
        words = ("sh", "-c", script, "facts", layout.prefix, layout.user, "password")
        ran = await _as_root(session, "password", words)
        if ran.code == 0:
            return BoardShell(session, layout, parse_facts(ran.out))
        # Wrong for sudo: the plan refuses, as it has no way to root.
    return BoardShell(session, layout, found)


async def _as_root(
    session: Session, privilege: Privilege, inner: Sequence[str], *, given: str = "", timeout_s: float = COMMAND_S
) -> Ran:
    words, password = _root_words(session, privilege, inner)
    return await session.run(words, given=password + given, timeout_s=timeout_s)


def _root_words(session: Session, privilege: Privilege, inner: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """How a program is run as root, and what sudo reads first; `-k`: it always does, remembered password or not."""
    if privilege == "password":
        return ("sudo", "-k", "-S", "-p", "", *inner), f"{session.password or ''}\n"
    return (tuple(inner) if privilege == "root" else ("sudo", "-n", *inner)), ""


async def _beat(process: RemoteProgram) -> None:
    """Write a byte now and then, until the board is gone or we are told to stop."""
    with contextlib.suppress(OSError):
        while True:
            process.stdin.write(".")
            await asyncio.sleep(_HEARTBEAT_S)


async def _let_go(process: RemoteProgram) -> None:
    """Let the holder end, and wait for it: whoever comes next must find the lock free."""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        process.stdin.write_eof()
        await asyncio.wait_for(process.wait_closed(), _GOODBYE_S)
