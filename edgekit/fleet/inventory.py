"""The boards a user has, in one small TOML file that people may edit: `devices.toml` in the user's configuration.

Host keys are not in it: they are pinned in `known_hosts` beside it, in OpenSSH's own form.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import msgspec

from edgekit.core.address import SSH_PORT, Address, parse_address
from edgekit.core.errors import IntegrityError, OutputError, UnknownNameError, UsageError
from edgekit.core.storage import write_text

INVENTORY = "devices.toml"
INVENTORY_VERSION = 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_UNFIT_FOR_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_HEADER = "# Boards of edgekit: `edgekit device add | list | remove`. May be edited by hand.\n"


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One board.

    Args:
        name: What the user calls it.
        host: Name or address.
        port: Of its SSH server.
        user: To be there; None for what the SSH configuration says.
        group: What it is flashed together with; None for nothing.
        board: Board id, as it was found when it was last reached; None before.
    """

    name: str
    host: str
    port: int = SSH_PORT
    user: str | None = None
    group: str | None = None
    board: str | None = None

    @property
    def address(self) -> Address:
        """How to reach it."""
        return Address(host=self.host, port=self.port, user=self.user)


class Inventory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All boards, by name; `version` is that of the file's format."""

    version: int = INVENTORY_VERSION
    devices: tuple[Device, ...] = ()

    def find(self, name: str) -> Device | None:
        """The board of that name; None when there is none."""
        return next((device for device in self.devices if device.name == name), None)

    def get(self, name: str) -> Device:
        """The board of that name. Raises UnknownNameError when there is none."""
        device = self.find(name)
        if device is None:
            raise _unknown("device", name, (one.name for one in self.devices))
        return device

    def at(self, address: Address) -> Device | None:
        """The board at an address, whatever the user there."""
        places = ((device, (device.host.lower(), device.port)) for device in self.devices)
        return next((device for device, place in places if place == (address.host.lower(), address.port)), None)

    def group(self, name: str) -> tuple[Device, ...]:
        """All boards of a group. Raises UnknownNameError when there is none in it."""
        members = tuple(device for device in self.devices if device.group == name)
        if not members:
            raise _unknown("group", name, {one.group for one in self.devices if one.group is not None})
        return members

    def put(self, device: Device) -> Inventory:
        """With a board added, or replaced by name.

        Raises:
            UsageError: A name that is none, or another board at the same address.
        """
        check_device(device)
        others = tuple(one for one in self.devices if one.name != device.name)
        twin = msgspec.structs.replace(self, devices=others).at(device.address)
        if twin is not None:
            hint = f"edgekit device remove {twin.name} takes it out of the list"
            raise UsageError(f"{device.address} is in the list already, as {twin.name}", hint=hint)
        return msgspec.structs.replace(self, devices=tuple(sorted((*others, device), key=lambda one: one.name)))

    def without(self, name: str) -> Inventory:
        """With a board taken out. Raises UnknownNameError when it is not there."""
        gone = self.get(name)
        return msgspec.structs.replace(self, devices=tuple(one for one in self.devices if one is not gone))

    def free_name(self, host: str) -> str:
        """A name for a board that nobody has named: its host's, with a number when that is taken.

        >>> Inventory().free_name("kitchen.local"), Inventory().free_name("10.0.0.7")
        ('kitchen', '10.0.0.7')
        """
        is_address = not host.rsplit(".", maxsplit=1)[-1].isalpha()
        word = (
            _UNFIT_FOR_NAME.sub("-", host if is_address else host.split(".", maxsplit=1)[0]).strip("-._")[:48]
            or "board"
        )
        names = {device.name for device in self.devices}
        numbered = (f"{word}-{number}" for number in range(2, len(names) + 3))
        return word if word not in names else next(name for name in numbered if name not in names)


def check_device(device: Device) -> None:
    """Refuse what no board can be called, and no address. Raises UsageError."""
    for what, word in (("device name", device.name), ("group", device.group)):
        if word is not None and not _NAME.fullmatch(word):
            raise UsageError(f"{word!r} is no {what}", hint="1 to 64 letters, digits, '_', '.' and '-'")
    if parse_address(str(device.address)) != device.address:
        raise UsageError(f"{device.address} is no [USER@]HOST[:PORT]")


def load_inventory(folder: Path) -> Inventory:
    """Read the inventory of a configuration folder; an empty one where there is none.

    Raises:
        IntegrityError: The file is damaged, of a later version, or names a board twice; says where.
    """
    path = folder / INVENTORY
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Inventory()
    except OSError as error:
        raise IntegrityError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        inventory = msgspec.toml.decode(content, type=Inventory)
        for device in inventory.devices:
            check_device(device)
    except (msgspec.DecodeError, UnicodeDecodeError, UsageError) as error:
        raise IntegrityError(f"{path}: {error}", hint="mend the file, or remove it and add the boards again") from error
    if inventory.version != INVENTORY_VERSION:
        raise IntegrityError(f"{path} has version {inventory.version}, this edgekit reads {INVENTORY_VERSION}")
    names = [device.name for device in inventory.devices]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise IntegrityError(f"{path} names {', '.join(twice)} twice", hint="mend the file")
    return inventory


def change_inventory(folder: Path, change: Callable[[Inventory], Inventory]) -> Inventory:
    """Read, change and write the inventory while no other edgekit does; a crash leaves the old one or the new one.

    Args:
        folder: The user's configuration folder; made when it does not exist.
        change: The inventory that it is, to the one that it shall be.

    Raises:
        EdgekitError: As `load_inventory`, `change`, or OutputError where it cannot be written.
    """
    with locked(folder / INVENTORY):
        before = load_inventory(folder)
        after = change(before)
        if after != before:
            write_text(folder / INVENTORY, encode_inventory(after))
        return after


def encode_inventory(inventory: Inventory) -> str:
    """The file's text."""
    parts = [_HEADER, f"version = {inventory.version}\n"]
    for device in inventory.devices:
        fields = ((field, getattr(device, field)) for field in device.__struct_fields__)
        lines = [f"{field} = {_toml(value)}\n" for field, value in fields if value is not None]
        parts.append("".join(["\n[[devices]]\n", *lines]))
    return "".join(parts)


@contextlib.contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """Hold the lock beside a file, waiting for whoever has it; it is free when the process ends, however it ends.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        stream = path.with_name(f".{path.name}.lock").open("wb")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _toml(value: str | int) -> str:
    """A value of the file. JSON's strings are TOML's, and `check_device` lets in no character that tells them apart."""
    return json.dumps(value, ensure_ascii=False)


def _unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    choices = sorted(known)
    if choices:
        return UnknownNameError(kind, name, choices)
    return UsageError(f"no {kind} {name!r}: the list of boards has none", hint="edgekit device add [USER@]HOST")
