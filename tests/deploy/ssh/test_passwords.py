"""Passwords, against a server in this process: OpenSSH without PAM knows only those of the machine's users."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import asyncssh
import pytest

from edgekit.core.address import Address
from edgekit.core.errors import BoardError
from edgekit.deploy.ssh.layout import Layout
from edgekit.deploy.ssh.session import Login, connect
from edgekit.deploy.ssh.shell import gather

PASSWORD = "open sesame"


class Server(asyncssh.SSHServer):
    """Takes one password, asked for plainly or in a question."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self._kinds = kinds

    def begin_auth(self, username: str) -> bool:
        del username
        return True

    def password_auth_supported(self) -> bool:
        return "password" in self._kinds

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("pi", PASSWORD)

    def kbdint_auth_supported(self) -> bool:
        return "question" in self._kinds

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> tuple[str, str, str, list[tuple[str, bool]]]:
        del username, lang, submethods
        return "", "", "en-US", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        return (username, list(responses)) == ("pi", [PASSWORD])


async def log_in(kinds: tuple[str, ...], password: str | None, num_asked: list[int]) -> str | None:
    """Log in, and return the password that let us in."""

    def ask() -> str | None:
        num_asked.append(1)
        return password

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=lambda: Server(kinds), server_host_keys=[key])
    try:
        address = Address(host="127.0.0.1", port=server.get_port(), user="pi")
        session = await connect(address, Login(password=ask, accept_new=True, with_config=False))
        await session.close()
        return session.password
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("kinds", [("password",), ("question",), ("password", "question")])
def test_right_password_lets_us_in_and_is_asked_once(kinds: tuple[str, ...]) -> None:
    asked: list[int] = []

    assert asyncio.run(log_in(kinds, PASSWORD, asked)) == PASSWORD
    assert asked == [1]


@pytest.mark.parametrize("kinds", [("password",), ("question",), ("password", "question")])
@pytest.mark.parametrize("password", ["wrong", None])
def test_wrong_password_is_not_tried_twice(kinds: tuple[str, ...], password: str | None) -> None:
    asked: list[int] = []

    with pytest.raises(BoardError, match="lets nobody in"):
        asyncio.run(log_in(kinds, password, asked))
    assert asked == [1]


async def gather_with_sudo(folder: Path, sudo_password: str) -> tuple[str, str]:
    """Facts from a server whose commands run here, with a `sudo` that wants a password; the privilege, and a line."""
    programs = folder / "bin"
    programs.mkdir()
    for name, text in (
        ("id", 'case $1 in -u) [ -n "$AS_ROOT" ] && echo 0 || echo 1000 ;; -un) echo pi ;; esac'),
        (
            "sudo",
            (
                f'[ "$1" != -n ] || exit 1; read -r word; [ "$word" = "{sudo_password}" ] || exit 1\n'
                'while [ "$1" != sh ]; do shift; done; exec env AS_ROOT=1 "$@"'
            ),
        ),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (programs / name).chmod(0o755)

    async def run(process: asyncssh.SSHServerProcess[str]) -> None:
        child = await asyncio.create_subprocess_exec(
            "sh", "-c", process.command or "true",
            env={"PATH": f"{programs}:/usr/bin:/bin"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await child.communicate((await process.stdin.read()).encode())
        process.stdout.write(out.decode())
        process.stderr.write(err.decode())
        process.exit(child.returncode or 0)

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0,
        server_factory=lambda: Server(("password",)), server_host_keys=[key], process_factory=run,
    )  # fmt: skip
    try:
        address = Address(host="127.0.0.1", port=server.get_port(), user="pi")
        session = await connect(address, Login(password=lambda: PASSWORD, accept_new=True, with_config=False))
        shell = await gather(session, Layout(prefix=str(folder)))
        said = (await shell.root('read -r line; echo "$line as $(id -u)"', given="input\n")).out.strip()
        await session.close()
        return shell.found.privilege, said
    finally:
        server.close()
        await server.wait_closed()


def test_sudo_gets_the_password_and_the_script_its_own_input(tmp_path: Path) -> None:
    assert asyncio.run(gather_with_sudo(tmp_path, PASSWORD)) == ("password", "input as 0")


def test_sudo_with_another_password_leaves_no_way_to_root(tmp_path: Path) -> None:
    privilege, _ = asyncio.run(gather_with_sudo(tmp_path, "another"))

    assert privilege == "locked"
