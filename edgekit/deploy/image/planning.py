"""From what an image is and what is wanted, to what has to be done to it: a pure function."""

from __future__ import annotations

import json

import msgspec

from edgekit.bundle.compatibility import DeviceFacts, incompatibilities
from edgekit.bundle.manifest import Manifest
from edgekit.core.board import Board
from edgekit.core.errors import UsageError
from edgekit.deploy.image.contents import (
    SUDO,
    Item,
    agent_items,
    bundle_items,
    file_item,
    first_boot_items,
    program_items,
    update_items,
)
from edgekit.deploy.image.facts import CLOUD_SETTINGS, HOSTNAME, HOSTS, ImageFacts
from edgekit.deploy.image.first_boot import FirstBoot, command_line_with, hosts_text
from edgekit.deploy.image.plan import ImagePlan, SetCommandLine
from edgekit.deploy.image.settling import growth, needed_bytes, settle
from edgekit.deploy.ssh.configuration import wants_updates
from edgekit.deploy.wheelhouse import Target, Wheel, choose_runtime, fitting, lacking

_SYSTEM_PREFIX = "Raspberry Pi OS"
_GLIBC = {"12": (2, 36), "13": (2, 41)}
"""By Debian's version."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's program as it goes onto the card.

    Args:
        name: Of edgekit's own wheel.
        content: Of it.
        requires: Of edgekit and its agent, without a runtime.
        wheels: Carried along; None: the board asks its index.
    """

    name: str
    content: bytes
    requires: tuple[str, ...]
    wheels: tuple[Wheel, ...] | None = None


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the image is to become.

    Args:
        manifest: Of the bundle.
        digest: Of the bundle.
        files: Name and content of the bundle's files.
        program: The agent's.
        config: Text of agent.toml, where the user gives all of it.
        camera: As after `--camera`; None for the usual one.
        updates: Address of a published repository that the board looks into; None for none.
        root_json: Root of trust to pin; None for none.
        first_boot: Settings.
        may_grow: Whether the root partition may become larger.
        date_unix_s: Of everything that is made; None for when the image was last written.
    """

    manifest: Manifest
    digest: str
    files: tuple[tuple[str, bytes], ...]
    program: Program
    config: str | None = None
    camera: str | None = None
    updates: str | None = None
    root_json: str | None = None
    first_boot: FirstBoot = FirstBoot()
    may_grow: bool = True
    date_unix_s: int | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into an image.

    Args:
        boards: That it will work on, by id.
        runtime: That the environment gets.
        items: Folders, files and links.
        notes: What the user should know.
    """

    boards: tuple[str, ...]
    runtime: str
    items: tuple[Item, ...]
    notes: tuple[str, ...]


def fitting_boards(facts: ImageFacts, boards: tuple[Board, ...]) -> tuple[Board, ...]:
    """Boards that this image is for: those whose files name such a system, with its Python and processor.

    Raises:
        UsageError: None is; says what the image is.
    """
    python = ".".join(map(str, facts.system.python))
    fitting = tuple(
        board
        for board in boards
        if board.facts.arch == facts.system.architecture
        and any(one.name.startswith(_SYSTEM_PREFIX) and one.python == python for one in board.facts.systems)
    )
    if not fitting:
        raise UsageError(
            f"no board known to edgekit runs what is in the image: {facts.system.title}, Python {python}, "
            f"{facts.system.architecture}",
            hint="take Raspberry Pi OS 12 or 13 (64 bit)",
        )
    return fitting


def choose(facts: ImageFacts, boards: tuple[Board, ...], wishes: Wishes) -> Choice:
    """Choose what goes into an image.

    Args:
        facts: The image as it is; `entries` may be empty yet.
        boards: That the image is for (`fitting_boards`).
        wishes: What it is to become.

    Raises:
        UsageError: The bundle, the wheels or the image do not fit each other.
    """
    fitting = _boards_of_bundle(facts, boards, wishes.manifest)
    runtime = _runtime(facts, fitting, wishes)
    carried = _carried(facts, wishes.program, runtime)
    requirements = (*wishes.program.requires, runtime)
    config = wishes.config or config_text(wishes.camera, fitting, wishes.updates)
    items = (
        *program_items(requirements, (wishes.program.name, wishes.program.content), carried),
        *bundle_items(wishes.digest, wishes.files),
        *agent_items(config, is_secret=wishes.config is not None),
        *update_items(wishes.root_json, is_wanted=wants_updates(config)),
        *first_boot_items(wishes.first_boot),
        *_host_items(facts, wishes.first_boot),
    )
    return Choice(
        boards=tuple(board.name for board in fitting),
        runtime=runtime,
        items=items,
        notes=_notes(facts, fitting, wishes, config),
    )


def make_plan(facts: ImageFacts, choice: Choice, wishes: Wishes) -> ImagePlan:
    """Plan an image.

    Args:
        facts: The image as it is, with what lies at the paths of the choice.
        choice: What goes into it.
        wishes: What it is to become.

    Raises:
        UsageError: The space does not suffice, or the image is customised already.
        IntegrityError: In the image lies something else where a folder or a file has to go.
    """
    steps = settle(choice.items, facts)
    command_line = command_line_with(facts.command_line, wishes.first_boot)
    if command_line != facts.command_line:
        old = facts.command_line.split()
        added = tuple(word for word in command_line.split() if word not in old)
        steps.append(SetCommandLine(text=command_line, added=added))
    needed = needed_bytes(steps, facts)
    return ImagePlan(
        layout=facts.layout,
        system=facts.system.title,
        boards=choice.boards,
        manifest=wishes.manifest,
        digest=wishes.digest,
        runtime=choice.runtime,
        requirements=(*wishes.program.requires, choice.runtime),
        date_unix_s=facts.root.written_unix_s if wishes.date_unix_s is None else wishes.date_unix_s,
        steps=(*growth(facts, needed, may_grow=wishes.may_grow), *steps),
        needed_bytes=needed,
        free_bytes=facts.root.free_bytes,
        notes=choice.notes,
    )


def config_text(camera: str | None, boards: tuple[Board, ...], updates: str | None = None) -> str:
    """The text of agent.toml: the camera that was named, or the usual one of the board with the least memory."""
    lines = ["# Written by edgekit image.", 'bundle = "/var/lib/edgekit/current"', "", "[camera]"]
    smallest = min(boards, key=lambda board: board.facts.memory_mib or 0)
    usual = smallest.facts.camera
    if camera is not None:
        if not camera.isprintable():
            raise UsageError(f"camera {camera!r} holds characters that cannot be printed")
        lines.append(f"source = {json.dumps(camera, ensure_ascii=False)}")
    elif usual is not None:
        lines.append(f"source = {json.dumps(f'{usual.kind}:{usual.source}')}")
        lines += [f"width = {usual.width}", f"height = {usual.height}", f"fps = {usual.fps}"]
    if updates is not None:
        lines += ["", "[update]", f"url = {json.dumps(updates)}"]
    return "\n".join(lines) + "\n"


def _boards_of_bundle(facts: ImageFacts, boards: tuple[Board, ...], manifest: Manifest) -> tuple[Board, ...]:
    reasons: list[str] = []
    fitting = []
    for board in boards:
        device = DeviceFacts(board=board.name, architecture=facts.system.architecture, python=facts.system.python)
        against = incompatibilities(manifest, device)
        reasons += against
        if not against:
            fitting.append(board)
    if not fitting:
        raise UsageError(
            f"the bundle does not belong on this image: {'; '.join(dict.fromkeys(reasons))}",
            hint="edgekit bundle RUN --for BOARD makes one for another board; a run folder becomes one that fits",
        )
    return tuple(fitting)


def _runtime(facts: ImageFacts, boards: tuple[Board, ...], wishes: Wishes) -> str:
    """The first of the bundle's runtimes that can be had: among the wheels, or by the boards' files."""
    wheels = fitting(wishes.program.wheels, _target(facts))
    runtime = choose_runtime(wishes.manifest.compatible.runtimes, boards[0], _target(facts), wheels)
    if runtime is not None:
        return runtime
    needed = " or ".join(f"{need.name} {need.at_least}" for need in wishes.manifest.compatible.runtimes)
    where = f"Python {_target(facts).python_word} on {facts.system.architecture}"
    if wheels is not None:
        raise UsageError(f"the bundle needs {needed}; among the wheels is none for {where}", hint=_wheels_hint(facts))
    raise UsageError(f"the bundle needs {needed}; no version for {where} is known", hint="carry wheels with --wheels")


def _target(facts: ImageFacts) -> Target:
    system = facts.system
    return Target(architecture=system.architecture, python=system.python, glibc=_GLIBC.get(system.version))


def _carried(facts: ImageFacts, program: Program, runtime: str) -> tuple[Wheel, ...] | None:
    """Wheels that go along, when they are enough for a board without network.

    Raises:
        UsageError: They are not.
    """
    wheels = fitting(program.wheels, _target(facts))
    if wheels is None:
        return None
    wheels = tuple(wheel for wheel in wheels if wheel.distribution != "edgekit")
    missing = list(lacking(wheels, (*program.requires, runtime), facts.system.python))
    if not facts.system.has_venv and not any(wheel.distribution == "pip" for wheel in wheels):
        missing.append("pip (the image has no python3-venv)")
    numpy = facts.system.packages.get("python3-numpy", "").split(":")[-1]
    if numpy.startswith("1.") and not any(
        wheel.distribution == "numpy" and wheel.version.startswith("1.") for wheel in wheels
    ):
        missing.append(f"numpy<2 (the image's camera packages are built against numpy {numpy.split('-')[0]})")
    if missing:
        python = ".".join(map(str, facts.system.python))
        raise UsageError(
            f"among the wheels is none for Python {python} on {facts.system.architecture} of: {', '.join(missing)}",
            hint=_wheels_hint(facts),
        )
    return wheels


def _wheels_hint(facts: ImageFacts) -> str:
    python = ".".join(map(str, facts.system.python))
    return (
        f"pip download -d DIR --only-binary=:all: --python-version {python} "
        f"--platform manylinux_2_28_{facts.system.architecture} ... fills a folder (docs/sd-card.md)"
    )


def _host_items(facts: ImageFacts, first_boot: FirstBoot) -> list[Item]:
    if first_boot.hostname is None:
        return []
    items: list[Item] = [
        file_item(HOSTNAME, f"{first_boot.hostname}\n".encode()),
        file_item(HOSTS, hosts_text(facts.hosts, first_boot.hostname).encode()),
    ]
    if CLOUD_SETTINGS in facts.entries:  # from Debian 13 on, cloud-init would set its own
        items.append(file_item(f"{CLOUD_SETTINGS}/99-edgekit.cfg", b"preserve_hostname: true\n"))
    return items


def _notes(facts: ImageFacts, boards: tuple[Board, ...], wishes: Wishes, config: str) -> tuple[str, ...]:
    first_boot, system = wishes.first_boot, facts.system
    notes: list[str] = []
    if not first_boot.ssh_keys:
        notes.append("no --ssh-key: nobody can log in over the network before the board's screen was used")
    if first_boot.wifi is not None and first_boot.wifi.country is None:
        notes.append("no --wifi-country: only the channels that are allowed everywhere are used")
    if first_boot.wifi is not None and "network-manager" not in system.packages:
        notes.append("the image has no NetworkManager: the Wi-Fi settings will have no effect")
    if wishes.program.wheels is None:
        notes.append("no --wheels: the first boot needs a network to install the agent, and tries until it has one")
    usual = boards[0].facts.camera
    is_usual = wishes.camera is None and wishes.config is None
    if is_usual and usual is not None and usual.kind == "picamera2" and "python3-picamera2" not in system.packages:
        notes.append("the image has no python3-picamera2: install it on the board, or name another --camera")
    if wants_updates(config) and wishes.root_json is None:
        notes.append("no --trust: the board takes no update before edgekit flash --trust has pinned whose")
    if first_boot.ssh_keys:
        notes.append(f"whoever has the SSH key is root there without a password ({SUDO})")
    return tuple(notes)
