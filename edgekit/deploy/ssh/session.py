"""One SSH connection to a board: commands, files, a look at its web page. Everything of asyncssh is in this module."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from edgekit.core.address import Address
from edgekit.core.errors import BoardError, MissingDependencyError
from edgekit.deploy.ssh.host_keys import HostKey

if TYPE_CHECKING:
    import asyncssh

CONNECT_S = 15.0
KEEPALIVE_S = 10.0
"""Silence after which the board is asked whether it lives; three times unanswered, the connection is over."""
COMMAND_S = 120.0
_CHUNK_BYTES = 128 * 1024


class ProgramOutput(Protocol):
    """What a remote program prints."""

    async def readline(self) -> str:
        """The next line; "" at the end."""
        ...


class ProgramInput(Protocol):
    """What a remote program reads. Raises OSError when it is gone."""

    def write(self, data: str) -> None:
        """Write."""
        ...

    def write_eof(self) -> None:
        """End it."""
        ...


class RemoteProgram(Protocol):
    """A remote program that talks; asyncssh's own is the real one."""

    @property
    def stdin(self) -> ProgramInput:
        """What it reads."""
        ...

    @property
    def stdout(self) -> ProgramOutput:
        """What it prints."""
        ...

    @property
    def exit_status(self) -> int | None:
        """How it ended; None while it has not, or when a signal ended it."""
        ...

    async def wait_closed(self) -> None:
        """Wait until it has ended."""
        ...


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """How to get in.

    Args:
        identity: Private key file; None for the agent's and the usual files.
        password: Asked at most once, when no key lets us in (and by sudo); its answer None: there is none.
        pins: Host keys that are known; empty for a host that was never seen.
        accept_new: Trust the key of a host that was never seen. A key that changed is never trusted.
        with_config: Read the user's ~/.ssh/config.
        patience_s: For connecting and logging in, with typing a password where one may be asked for.
    """

    identity: Path | None = None
    password: Callable[[], str | None] = lambda: None
    pins: tuple[HostKey, ...] = ()
    accept_new: bool = False
    with_config: bool = True
    patience_s: float = CONNECT_S


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """A command that ended.

    Args:
        code: Exit status; -1 when a signal or a lost connection ended it.
        out: What it printed.
        err: What it printed on stderr.
    """

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The last lines that it printed, on one line: what went wrong, as far as it says."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return " / ".join(lines[-3:])[-400:]


class Session:
    """A connection that is logged in. Made by `connect`.

    Args:
        connection: Of asyncssh.
        address: Where to.
        host_key: The key that the board showed.
        password: What let us in, when that was a password.
    """

    def __init__(
        self, connection: asyncssh.SSHClientConnection, address: Address, host_key: HostKey, password: str | None
    ) -> None:
        self._connection = connection
        self.address = address
        self.host_key = host_key
        self.password = password

    async def run(self, words: Sequence[str], *, given: str = "", timeout_s: float = COMMAND_S) -> Ran:
        """Run a program.

        Args:
            words: Program and arguments; they are quoted, the remote shell interprets nothing.
            given: Its standard input.
            timeout_s: Afterwards it is given up.

        Raises:
            BoardError: The connection broke, or it took too long.
        """
        import asyncssh

        try:
            # An empty input would stay open, and who reads it wait for ever.
            reads: dict[str, Any] = {"input": given} if given else {"stdin": asyncssh.DEVNULL}
            done = await self._connection.run(
                shlex.join(words), timeout=timeout_s, encoding="utf-8", errors="replace", **reads
            )
        except asyncssh.TimeoutError as error:
            raise BoardError(f"{self.address}: no answer within {timeout_s:g} s to {words[0]}") from error
        except (OSError, asyncssh.Error) as error:
            raise lost(self.address, error) from error
        code = done.exit_status
        if code is None and self._connection.is_closed():
            raise lost(self.address, None)
        return Ran(code=-1 if code is None else code, out=str(done.stdout), err=str(done.stderr))

    @contextlib.asynccontextmanager
    async def start(self, words: Sequence[str]) -> AsyncGenerator[RemoteProgram, None]:
        """Run a program that talks, as long as the block lasts. Raises BoardError as `run`."""
        import asyncssh

        try:
            process = await self._connection.create_process(shlex.join(words), encoding="utf-8", errors="replace")
        except (OSError, asyncssh.Error) as error:
            raise lost(self.address, error) from error
        try:
            yield process
        finally:
            process.close()

    async def send(self, local: Path, remote: str, offset: int, advance: Callable[[int], None]) -> None:
        """Copy a file there from a byte on, and see it onto the disk.

        Args:
            local: The file.
            remote: Where to; it has to have `offset` bytes, or not to exist.
            offset: First byte that is sent.
            advance: Called with the number of bytes that went out.

        Raises:
            BoardError: The connection broke, or the board's disk is full.
        """
        import asyncssh

        try:
            async with self._connection.start_sftp_client() as sftp:
                mode = "ab" if offset else "wb"
                async with sftp.open(remote, mode) as target:
                    with local.open("rb") as source:
                        source.seek(offset)
                        while chunk := source.read(_CHUNK_BYTES):
                            await target.write(chunk)
                            advance(len(chunk))
                    with contextlib.suppress(asyncssh.SFTPOpUnsupported):  # then the rename has to do
                        await target.fsync()
        except (asyncssh.SFTPNoConnection, asyncssh.SFTPConnectionLost) as error:
            raise lost(self.address, error) from error
        except asyncssh.SFTPError as error:
            raise BoardError(f"{self.address}: cannot write {remote}: {error.reason}") from error
        except (OSError, asyncssh.Error) as error:
            raise lost(self.address, error) from error

    async def get(self, port: int, path: str, headers: Sequence[str] = (), *, timeout_s: float = 10.0) -> bytes:
        """Ask the web server that listens on the board's own port for a page, through the connection.

        Raises:
            BoardError: Nobody listens, or the answer is not 200.
        """
        import asyncssh

        request = [f"GET {path} HTTP/1.0", f"Host: 127.0.0.1:{port}", "Connection: close", *headers]

        async def ask() -> bytes:
            reader, writer = await self._connection.open_connection("127.0.0.1", port)
            writer.write(("\r\n".join(request) + "\r\n\r\n").encode())
            answer = await reader.read()
            writer.close()
            return answer

        try:
            answer = await asyncio.wait_for(ask(), timeout_s)
        except (OSError, asyncssh.Error, asyncio.TimeoutError) as error:
            raise BoardError(f"{self.address}: nothing answers on its port {port}: {error}") from error
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(b"\r\n", 1)[0].split(b" ")
        if len(status) < 2 or status[1] != b"200":
            raise BoardError(f"{self.address}: {path} on port {port} answers {head[:60]!a}")
        return body

    async def close(self) -> None:
        """Hang up."""
        self._connection.close()
        await self._connection.wait_closed()


async def connect(address: Address, login: Login) -> Session:
    """Connect and log in; keys first, a password when there is no other way.

    Raises:
        BoardError: It cannot be reached, its host key is not the one that is pinned (or none is, and `accept_new` is
            not given), or it does not let us in. Says which, and what to do.
        MissingDependencyError: asyncssh is not installed.
    """
    try:
        import asyncssh
    except ImportError as error:
        raise MissingDependencyError("boards over SSH need asyncssh", hint="pip install edgekit[flash]") from error
    from edgekit.deploy.ssh.welcome import Welcome

    welcome = Welcome(login.pins, login.password, accept_new=login.accept_new)
    options: dict[str, Any] = {} if login.with_config else {"config": None}
    if address.user is not None:
        options["username"] = address.user
    if login.identity is not None:
        options["client_keys"] = [str(login.identity)]
    try:
        connection, _ = await asyncssh.create_connection(
            lambda: welcome,
            address.host,
            address.port,
            known_hosts=_nobody,
            server_host_key_algs=welcome.algorithms,
            connect_timeout=login.patience_s,
            keepalive_interval=KEEPALIVE_S,
            **options,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise welcome.refusal(address) from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        which = "" if login.identity is None else f" {login.identity}"
        hint = "is it locked? ssh-agent can hold it"
        raise BoardError(f"the private key{which} cannot be used: {error}", hint=hint) from error
    except asyncssh.ConfigParseError as error:
        raise BoardError(f"~/.ssh/config cannot be read: {error}", hint="mend it") from error
    except (OSError, asyncssh.Error, asyncio.TimeoutError) as error:
        raise _refused(address, error, login) from error
    if welcome.shown is None:
        connection.close()
        raise BoardError(f"{address}: it showed no host key")
    return Session(connection, address, welcome.shown, welcome.used_password)


def lost(address: Address, error: Exception | None) -> BoardError:
    """What to say of a connection that broke."""
    why = f": {error}" if error is not None and str(error) else ""
    return BoardError(f"{address}: the connection broke{why}", hint="the same command again goes on where it was")


def _nobody(host: str, addr: str, port: int | None) -> tuple[list[Any], list[Any], list[Any]]:
    """The library's own list of known hosts: empty, so that `Welcome` decides about every key."""
    del host, addr, port
    return [], [], []


def _refused(address: Address, error: Exception, login: Login) -> BoardError:
    """Why there is no connection."""
    import asyncssh

    if isinstance(error, asyncssh.PermissionDenied):
        hint = "copy a key there (ssh-copy-id), name one with --identity, or set EDGEKIT_SSH_PASSWORD"
        return BoardError(f"{address} lets nobody in: no key and no password is right", hint=hint)
    if isinstance(error, (TimeoutError, asyncio.TimeoutError, asyncssh.TimeoutError)):
        why = f"no answer within {login.patience_s:g} s"
    elif isinstance(error, OSError):
        why = error.strerror or str(error)
    else:
        why = str(error)
    return BoardError(f"{address} cannot be reached: {why}", hint="is it on, in this network, and is SSH on there?")
