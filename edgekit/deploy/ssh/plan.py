"""What has to be done on a board, as data: it can be printed, compared, and carried out as often as one likes."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import msgspec

from edgekit.bundle.manifest import Manifest
from edgekit.deploy.ssh.layout import UNIT, UPDATE_TIMER
from edgekit.deploy.wheelhouse import Wheel


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that is to serve.

    Args:
        path: `.ekb` file on this machine.
        digest: Of its manifest, which names it on the board.
        size_bytes: Of the file.
        sha256: Of the file, lower-case hex.
        manifest: What it says.
    """

    path: Path
    digest: str
    size_bytes: int
    sha256: str
    manifest: Manifest


class SetClock(msgspec.Struct, frozen=True, kw_only=True, tag="set_clock"):
    """Set the board's clock, which is certainly wrong, to this machine's (seconds since 1970)."""

    why: str
    unix_s: int


class MakeUser(msgspec.Struct, frozen=True, kw_only=True, tag="make_user"):
    """Make the service's system user."""

    why: str
    user: str


class MakeFolders(msgspec.Struct, frozen=True, kw_only=True, tag="make_folders"):
    """Make the folders of programs, state, configuration and what is sent, with their owners."""

    why: str
    folders: tuple[str, ...]


class MakeEnvironment(msgspec.Struct, frozen=True, kw_only=True, tag="make_environment"):
    """Make an environment beside the one that serves, and switch to it once it is complete.

    Args:
        why: Reason.
        name: Of its folder; the same content has the same name.
        python: Program that makes it.
        requirements: What pip installs, besides edgekit itself.
        constraints: What pip has to keep to.
        with_system_packages: Whether it sees the system's packages (picamera2, a Jetson's OpenCV).
        wheels: Carried along; None when the board asks its index.
    """

    why: str
    name: str
    python: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    with_system_packages: bool = False
    wheels: tuple[Wheel, ...] | None = None

    @property
    def pip(self) -> Wheel | None:
        """A pip that is carried along, for systems whose Python has none."""
        return next((wheel for wheel in self.wheels or () if wheel.distribution == "pip"), None)


class WriteFile(msgspec.Struct, frozen=True, kw_only=True, tag="write_file"):
    """Write a small file, beside and renamed.

    Args:
        why: Reason.
        path: There.
        content: Text.
        mode: Permissions, "0644".
        group: That may read it.
        owner: Whose it is, with its folder; None for root.
    """

    why: str
    path: str
    content: str
    mode: str = "0644"
    group: str = "root"
    owner: str | None = None


class InstallBundle(msgspec.Struct, frozen=True, kw_only=True, tag="install_bundle"):
    """Send the bundle (what is missing of it), and let the board's installer try it and decide."""

    why: str
    payload: Payload


class StartAgent(msgspec.Struct, frozen=True, kw_only=True, tag="start_agent"):
    """Enable the service, and start it, or start it again."""

    why: str
    is_restart: bool


class StartTimer(msgspec.Struct, frozen=True, kw_only=True, tag="start_timer"):
    """Enable and start the timer that looks for updates."""

    why: str


class StopTimer(msgspec.Struct, frozen=True, kw_only=True, tag="stop_timer"):
    """Stop and disable that timer."""

    why: str


Step: TypeAlias = (
    SetClock
    | MakeUser
    | MakeFolders
    | MakeEnvironment
    | WriteFile
    | InstallBundle
    | StartAgent
    | StartTimer
    | StopTimer
)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done.

    Args:
        board: Board id.
        payload: What is to serve.
        runtime: What it runs with there: "ai-edge-litert==2.3.0"; "" when nothing fits.
        steps: In their order; none when the board is as it should be.
        refusals: Why nothing can be done; none when it can.
        notes: What the user should know.
    """

    board: str
    payload: Payload
    runtime: str
    steps: tuple[Step, ...]
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def units_to_start(self) -> tuple[str, ...]:
        """Units of which what they are made of changes before they start again: a plan may break off in between."""
        starts: list[str] = []
        for step in self.steps:
            if isinstance(step, StartAgent) and step.is_restart:
                starts.append(UNIT)
            if isinstance(step, StartTimer):
                starts.append(UPDATE_TIMER)
        return tuple(starts)

    @property
    def num_bytes(self) -> int:
        """What goes over the network at most, apart from edgekit itself and small files."""
        carried = [step for step in self.steps if isinstance(step, MakeEnvironment)]
        wheels = sum(wheel.size_bytes for step in carried for wheel in step.wheels or ())
        return wheels + sum(step.payload.size_bytes for step in self.steps if isinstance(step, InstallBundle))


def describe_step(step: Step) -> str:
    """A step for people, without its reason."""
    if isinstance(step, SetClock):
        return "set its clock to this machine's"
    if isinstance(step, MakeUser):
        return f"make the system user {step.user}"
    if isinstance(step, MakeFolders):
        return f"make its {len(step.folders)} folders"
    if isinstance(step, MakeEnvironment):
        source = "its package index" if step.wheels is None else f"{len(step.wheels)} wheels carried along"
        return f"make the environment {step.name} with {step.python}: {len(step.requirements)} packages from {source}"
    if isinstance(step, WriteFile):
        return f"write {step.path}"
    if isinstance(step, InstallBundle):
        manifest = step.payload.manifest
        size = f"{step.payload.size_bytes:,} bytes"
        return f"send and install {manifest.name} release {manifest.release} ({step.payload.digest[:12]}, {size})"
    if isinstance(step, StartTimer):
        return "start the timer that looks for updates"
    if isinstance(step, StopTimer):
        return "stop the timer that looks for updates"
    return "start the agent again" if step.is_restart else "start the agent, now and with the board"
