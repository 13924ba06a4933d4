"""What `flash` and `device` share: which boards are meant, how to get in, what is pinned."""

from __future__ import annotations

import functools
import getpass
import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from edgekit.core.address import Address, parse_address
from edgekit.core.errors import UsageError

if TYPE_CHECKING:
    from edgekit.deploy.ssh.host_keys import HostKey
    from edgekit.deploy.ssh.layout import Layout
    from edgekit.deploy.ssh.session import Login
    from edgekit.fleet.inventory import Device, Inventory

Result = TypeVar("Result")

PASSWORD_VARIABLE = "EDGEKIT_SSH_PASSWORD"  # noqa: S105 - the name of a variable, no password
PREFIX_VARIABLE = "EDGEKIT_BOARD_PREFIX"
"""Folder on the board that stands for its root, and `USER:` before it for whose the service is: for tests."""
TYPING_S = 120.0

IdentityOption = Annotated[Path | None, typer.Option(help="Private key.  [default: ssh-agent, ~/.ssh]")]
GroupOption = Annotated[str | None, typer.Option(help="All boards of this group.")]
AcceptOption = Annotated[
    bool, typer.Option("--accept-new", help="Trust the host key of a board that was never seen before.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def config_dir() -> Path:
    """The user's folder of edgekit's settings (XDG base directories)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "edgekit"


def resolve(text: str, inventory: Inventory) -> Device:
    """The board that a word means: a name of the inventory, else [USER@]HOST[:PORT], listed or not.

    Raises:
        UsageError: It is none of these.
    """
    from edgekit.fleet.inventory import Device

    named = inventory.find(text)
    if named is not None:
        return named
    address = parse_address(text)
    known = inventory.at(address)
    if known is None:
        return Device(name=inventory.free_name(address.host), host=address.host, port=address.port, user=address.user)
    return known if address.user is None else msgspec.structs.replace(known, user=address.user)


def chosen(names: Sequence[str], group: str | None, inventory: Inventory) -> tuple[Device, ...]:
    """The boards that a command is about: those named, those of a group, or all.

    Raises:
        UsageError: Names and a group, an unknown one, or no board at all.
    """
    if names and group is not None:
        raise UsageError("boards are named, or a --group is, not both")
    if group is not None:
        return inventory.group(group)
    if names:
        return tuple(resolve(name, inventory) for name in names)
    if not inventory.devices:
        raise UsageError("the list of boards is empty", hint="edgekit device add [USER@]HOST")
    return inventory.devices


def make_login(address: Address, identity: Path | None, *, accept_new: bool, may_ask: bool) -> Login:
    """How to get into a board.

    Args:
        address: Where it is.
        identity: Private key; None for the usual ones.
        accept_new: Trust it when it was never seen.
        may_ask: Whether a password may be asked for on the terminal.

    Raises:
        UsageError: There is no such private key.
        IntegrityError: The pinned host keys cannot be read.
    """
    from edgekit.deploy.ssh.host_keys import read_pins
    from edgekit.deploy.ssh.session import CONNECT_S, Login

    if identity is not None and not identity.is_file():
        raise UsageError(f"no such private key: {identity}")
    is_asking = may_ask and PASSWORD_VARIABLE not in os.environ and sys.stdin.isatty()
    return Login(
        identity=identity,
        password=functools.cache(functools.partial(_password, address, may_ask=is_asking)),
        pins=read_pins(config_dir(), address),
        accept_new=accept_new,
        patience_s=TYPING_S if is_asking else CONNECT_S,
    )


def pin_key(address: Address, key: HostKey) -> None:
    """Remember a board's host key, when it is new."""
    from edgekit.deploy.ssh.host_keys import KNOWN_HOSTS, pin, read_pins
    from edgekit.fleet.inventory import locked

    if key in read_pins(config_dir(), address):
        return
    with locked(config_dir() / KNOWN_HOSTS):
        pin(config_dir(), address, key)


def remember(device: Device, board: str) -> Device:
    """Put a board into the inventory, with what it turned out to be."""
    from edgekit.fleet.inventory import change_inventory

    known = msgspec.structs.replace(device, board=board)
    change_inventory(config_dir(), lambda inventory: inventory.put(known))
    return known


def board_layout() -> Layout:
    """Where things lie on a board."""
    from edgekit.deploy.ssh.layout import SERVICE_USER, Layout

    user, colon, prefix = os.environ.get(PREFIX_VARIABLE, "").rpartition(":")
    return Layout(prefix=prefix.rstrip("/"), user=user if colon and user else SERVICE_USER)


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to its end; Ctrl-C ends the connections in good order first."""
    import asyncio

    return asyncio.run(work)


def _password(address: Address, *, may_ask: bool) -> str | None:
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is not None or not may_ask:
        return given
    return getpass.getpass(f"{address} password: ")
