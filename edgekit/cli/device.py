"""`edgekit device`: the list of boards, and short visits to them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from edgekit.cli.boards import AcceptOption, GroupOption, IdentityOption, JsonOption
from edgekit.cli.console import note, plain_table, print_json, show, write_text
from edgekit.core.errors import EdgekitError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.deploy.ssh.installing import Verdict
    from edgekit.deploy.ssh.several import Ended
    from edgekit.deploy.ssh.visiting import Seen
    from edgekit.fleet.inventory import Device

app = typer.Typer(help="Boards: list them, look at them, take them back to the release before.", no_args_is_help=True)

_NameArgument = Annotated[str, typer.Argument(metavar="BOARD", help="Name of the list, or [USER@]HOST[:PORT].")]
_NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[BOARD]...", help="Names of the list.  [default: all]")
]


@app.command("add")
def add(
    address: Annotated[str, typer.Argument(metavar="[USER@]HOST[:PORT]", help="Where it is.")],
    name: Annotated[str | None, typer.Option(help="What to call it.  [default: its host name]")] = None,
    group: Annotated[str | None, typer.Option(help="What it is flashed together with.")] = None,
    accept_new: AcceptOption = False,
    identity: IdentityOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not visit it now.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a board into the list; it is visited, and its host key pinned."""
    from edgekit.cli import boards
    from edgekit.core.address import parse_address
    from edgekit.fleet.inventory import Device, change_inventory, load_inventory

    where = parse_address(address)
    inventory = load_inventory(boards.config_dir())
    device = Device(
        name=name or inventory.free_name(where.host), host=where.host, port=where.port, user=where.user, group=group
    )
    if inventory.find(device.name) is not None:
        raise UsageError(f"there is a board {device.name!r} already", hint="another --name, or edgekit device remove")
    inventory.put(device)  # what is wrong with it is said before it is visited
    if not offline:
        seen = _visit(device, identity, accept_new=accept_new, may_ask=True)
        device = msgspec.structs.replace(device, board=seen.board)
    change_inventory(boards.config_dir(), lambda one: one.put(device))
    if as_json:
        print_json(device)
    else:
        show(f"{device.name}: {device.address}, {device.board or 'not visited yet'}")


@app.command("list")
def list_boards(as_json: JsonOption = False) -> None:
    """Show the list; no board is visited."""
    from edgekit.cli import boards
    from edgekit.fleet.inventory import load_inventory

    devices = load_inventory(boards.config_dir()).devices
    if as_json:
        print_json({"devices": [_entry(device) for device in devices]})
        return
    if not devices:
        show("no boards; edgekit device add [USER@]HOST")
        return
    rows = [
        (one.name, str(one.address), one.group or "", one.board or "", ", ".join(_fingerprints(one)) or "none")
        for one in devices
    ]
    titles = ("name", "address", "group", "board", "host key")
    show(plain_table(titles, rows, left=titles, unbroken=titles[:-1]))


@app.command("show")
def show_board(
    name: _NameArgument, identity: IdentityOption = None, accept_new: AcceptOption = False, as_json: JsonOption = False
) -> None:
    """Show everything about one board: what the list says, what it is, what runs on it."""
    device = _resolve(name)
    seen = _visit(device, identity, accept_new=accept_new, may_ask=True)
    if as_json:
        found = msgspec.to_builtins(msgspec.structs.replace(seen.found, config=None))
        print_json({**_entry(device), "found": found, "running": seen.running})
        return
    from edgekit.cli.flash import running_line

    found = seen.found
    pythons = ", ".join(f"{one.version[0]}.{one.version[1]} ({one.path})" for one in found.pythons) or "none"
    memory = f"{found.memory_mib or 0:.0f} MiB, free {found.free_memory_mib or 0:.0f}"
    lines = [
        f"{device.name}: {device.address}, group {device.group or 'none'}",
        f"board      {seen.board} ({found.model or 'no device tree'})",
        f"system     {found.os}, {found.architecture}",
        f"Python     {pythons}",
        f"memory     {memory}",
        f"disk       free {found.free_state_mib or 0:.0f} MiB",
        f"host key   {seen.host_key.fingerprint}",
        f"edgekit    {found.edgekit or 'none'} ({found.environment or 'no environment'})",
        f"runs       {running_line(seen.running)}",
    ]
    for line in lines:
        show(line)


@app.command("status")
def status(
    names: _NamesArgument = None,
    group: GroupOption = None,
    identity: IdentityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask boards what runs on them, all at once. Exit code 1 when one cannot be reached."""
    from edgekit.cli import boards
    from edgekit.deploy.ssh.several import for_each

    devices = _chosen(names, group)
    outcomes = boards.run_async(for_each(devices, functools.partial(_look, identity=identity)))
    if as_json:
        print_json({"boards": [_status_document(one) for one in outcomes]})
    else:
        titles = ("name", "state", "model", "release", "bundle", "fps", "p90 ms", "frames", "answer")
        rows = [_status_row(one) for one in outcomes if one.result is not None]
        if rows:
            show(plain_table(titles, rows, left=("name", "state", "model", "bundle", "answer")))
        for one in outcomes:
            if one.error is not None:
                show(f"{one.target.name}: {one.error.message}")
    if any(one.error is not None for one in outcomes):
        raise typer.Exit(1)


@app.command("logs")
def logs(
    name: _NameArgument,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more, until Ctrl-C.")] = False,
    identity: IdentityOption = None,
) -> None:
    """Print the journal of a board's agent."""
    import sys

    from edgekit.cli import boards
    from edgekit.deploy.ssh.visiting import read_journal

    device = _resolve(name)
    login = boards.make_login(device.address, identity, accept_new=False, may_ask=True)

    def tell(line: str) -> None:
        write_text(sys.stdout, f"{_plain(line)}\n")

    wanted = tell if follow else None
    text = boards.run_async(read_journal(device.address, login, boards.board_layout(), lines, wanted))
    for line in text.splitlines():
        tell(line)


@app.command("rollback")
def rollback(
    names: _NamesArgument = None,
    group: GroupOption = None,
    reason: Annotated[str, typer.Option(help="Why; written down there.")] = "asked for with edgekit device rollback",
    identity: IdentityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take boards back to the release before. Exit code 1 when one could not go back."""
    from edgekit.cli import boards
    from edgekit.deploy.ssh.several import for_each

    if not names and group is None:
        raise UsageError("which boards shall go back?", hint="edgekit device rollback BOARD, or --group NAME")
    devices = _chosen(names, group)
    outcomes = boards.run_async(for_each(devices, functools.partial(_roll_back, identity=identity, reason=reason)))
    if len(outcomes) == 1 and outcomes[0].error is not None:
        raise outcomes[0].error
    if as_json:
        print_json({"boards": [_rollback_document(one) for one in outcomes]})
    else:
        for one in outcomes:
            if one.result is not None:
                show(f"{one.target.name}: {(one.result.serving or 'nothing')[:12]} serves again ({one.result.detail})")
            elif one.error is not None:
                show(f"{one.target.name}: FAILED: {one.error.message}")
    if any(one.error is not None for one in outcomes):
        raise typer.Exit(1)


@app.command("remove")
def remove(name: _NameArgument) -> None:
    """Take a board out of the list, and forget its host key. Nothing changes on the board."""
    from edgekit.cli import boards
    from edgekit.deploy.ssh.host_keys import KNOWN_HOSTS, forget
    from edgekit.fleet.inventory import change_inventory, load_inventory, locked

    folder = boards.config_dir()
    inventory = load_inventory(folder)
    device = boards.resolve(name, inventory)
    is_listed = inventory.find(device.name) is not None
    with locked(folder / KNOWN_HOSTS):
        had_key = forget(folder, device.address)
    if not is_listed and not had_key:
        inventory.get(name)  # which says what there is
    if is_listed:
        change_inventory(folder, lambda one: one.without(device.name))
    show(f"{device.name}: {'out of the list' if is_listed else 'was not in the list'}, host key forgotten")


@app.command("discover")
def discover_command(
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="How long to listen.")] = 3.0,
    interface: Annotated[
        list[str] | None, typer.Option(help="Own address to listen on; may be given again.  [default: all]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Listen for boards on the network (mDNS): agents that announce themselves, and SSH servers."""
    from edgekit.fleet.discovery import discover

    found = discover(seconds, interfaces=interface)
    if as_json:
        print_json({"boards": found})
        return
    rows = [
        (
            one.name,
            one.host,
            ", ".join(one.addresses),
            str(one.port),
            one.board or "",
            "edgekit" if one.is_edgekit else "",
        )
        for one in found
    ]
    if rows:
        titles = ("name", "host", "addresses", "port", "board", "agent")
        show(plain_table(titles, rows, left=titles))
    else:
        note("nothing announced itself; boards that do not can be added by their address all the same")


def _resolve(name: str) -> Device:
    from edgekit.cli import boards
    from edgekit.fleet.inventory import load_inventory

    return boards.resolve(name, load_inventory(boards.config_dir()))


def _chosen(names: list[str] | None, group: str | None) -> tuple[Device, ...]:
    from edgekit.cli import boards
    from edgekit.fleet.inventory import load_inventory

    return boards.chosen(names or (), group, load_inventory(boards.config_dir()))


def _visit(device: Device, identity: Path | None, *, accept_new: bool, may_ask: bool) -> Seen:
    """Look at a board and pin its key."""
    from edgekit.cli import boards

    work = _look(device, identity=identity, accept_new=accept_new, may_ask=may_ask)
    return boards.run_async(work)


async def _look(device: Device, *, identity: Path | None, accept_new: bool = False, may_ask: bool = False) -> Seen:
    from edgekit.cli import boards
    from edgekit.deploy.ssh.visiting import look

    login = boards.make_login(device.address, identity, accept_new=accept_new, may_ask=may_ask)
    seen = await look(device.address, login, boards.board_layout())
    boards.pin_key(device.address, seen.host_key)
    return seen


async def _roll_back(device: Device, *, identity: Path | None, reason: str) -> Verdict:
    from edgekit.cli import boards
    from edgekit.deploy.ssh.visiting import roll_back

    login = boards.make_login(device.address, identity, accept_new=False, may_ask=False)
    return await roll_back(device.address, login, boards.board_layout(), reason)


def _fingerprints(device: Device) -> list[str]:
    from edgekit.cli import boards
    from edgekit.deploy.ssh.host_keys import read_pins

    return [key.fingerprint for key in read_pins(boards.config_dir(), device.address)]


def _entry(device: Device) -> dict[str, Any]:
    return {**msgspec.to_builtins(device), "host_keys": _fingerprints(device)}


def _status_row(one: Ended[Device, Seen]) -> tuple[str, ...]:
    running = None if one.result is None else one.result.running
    if running is None:
        return (one.target.name, *("" for _ in range(8)))
    return (
        one.target.name,
        running.state or running.active,
        running.model or "",
        "" if running.release is None else str(running.release),
        (running.digest or "none")[:12],
        "" if running.fps is None else f"{running.fps:.1f}",
        "" if running.p90_ms is None else f"{running.p90_ms:.1f}",
        f"{running.num_frames:,}",
        running.answer or "",
    )


def _status_document(one: Ended[Device, Seen]) -> dict[str, Any]:
    seen = one.result
    return {
        "name": one.target.name,
        "address": str(one.target.address),
        "board": one.target.board if seen is None else seen.board,
        "running": None if seen is None else seen.running,
        "error": _message(one.error),
    }


def _rollback_document(one: Ended[Device, Verdict]) -> dict[str, Any]:
    return {"name": one.target.name, "verdict": one.result, "error": _message(one.error)}


def _message(error: EdgekitError | None) -> str | None:
    return None if error is None else error.message


def _plain(line: str) -> str:
    """A line of a board's journal without what a terminal would obey."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "?" for letter in line)
