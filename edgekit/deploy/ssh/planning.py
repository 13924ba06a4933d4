"""From what a board is, to what has to be done to it: a pure function of facts and wishes."""

from __future__ import annotations

import hashlib

import msgspec

from edgekit.bundle.compatibility import DeviceFacts, incompatibilities
from edgekit.core.address import SSH_PORT
from edgekit.core.board import HOST_BOARD, Board, match_board
from edgekit.core.errors import UsageError
from edgekit.deploy.ssh.configuration import (
    AgentSettings,
    config_text,
    forgoes_updates,
    is_readable,
    revise_config,
    wants_updates,
)
from edgekit.deploy.ssh.facts import BoardFound, PythonFacts
from edgekit.deploy.ssh.layout import UNIT, UPDATE_SERVICE, UPDATE_TIMER, Layout, announcement_text, unit_text
from edgekit.deploy.ssh.plan import (
    InstallBundle,
    MakeEnvironment,
    MakeFolders,
    MakeUser,
    Payload,
    Plan,
    SetClock,
    StartAgent,
    StartTimer,
    Step,
    StopTimer,
    WriteFile,
)
from edgekit.deploy.wheelhouse import PYTHONS, Target, Wheel, choose_runtime, fitting, lacking

GLIBC_AT_LEAST = (2, 27)
"""Of the runtimes' aarch64 wheels (manylinux_2_27)."""
ENVIRONMENT_MIB = 450
"""Disk for an environment with numpy, OpenCV and one runtime, and for its wheels while pip unpacks them."""
EARLIEST_UNIX_S = 1_735_689_600
"""2025-01-01: a clock before edgekit was made is wrong."""
DAY_S = 86_400

_SYSTEM_CAMERAS = ("picamera2", "argus")
"""Their Python packages come with the system, not from an index."""
_DRAWS_OWN_OPENCV = "opencv-python-headless"


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wants on a board.

    Args:
        payload: The bundle.
        wheel_digest: Of this edgekit.
        requires: Of this edgekit and its agent, without a runtime.
        settings: Of the agent.
        layout: Where everything goes.
        wheels: Carried along; None: the board asks its index.
        root_json: Root of trust to pin; None for none.
        ssh_port: Where the board was reached, which it announces.
        now_unix_s: This machine's clock.
    """

    payload: Payload
    wheel_digest: str
    requires: tuple[str, ...]
    settings: AgentSettings = AgentSettings()
    layout: Layout = Layout()
    wheels: tuple[Wheel, ...] | None = None
    root_json: str | None = None
    ssh_port: int = SSH_PORT
    now_unix_s: int


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A Python with the runtime that it can have: "ai-edge-litert==2.3.0"."""

    python: PythonFacts
    runtime: str


def find_board(found: BoardFound, boards: tuple[Board, ...]) -> Board:
    """Which board it is: by its device tree, else a machine that no file describes."""
    name = match_board(found.model, boards)
    return next(board for board in boards if board.name == name)


def make_plan(found: BoardFound, board: Board, wishes: Wishes) -> Plan:
    """Plan a flash.

    Args:
        found: The board as it is.
        board: Which one it is.
        wishes: What it is to become.

    Returns:
        The steps that are missing, in order. With `refusals` nothing must be done.
    """
    choice = _choose(found, board, wishes)
    environment = None if choice is None else _environment(found, board, wishes, choice)
    refusals = _refusals(found, board, wishes, choice)
    if environment is not None and choice is not None:
        refusals += _environment_refusals(found, wishes, choice)
    config, complaint = _config(found, board, wishes)
    refusals += (complaint,) if complaint else ()
    if choice is None or refusals:
        runtime = "" if choice is None else choice.runtime
        return Plan(board=board.name, payload=wishes.payload, runtime=runtime, steps=(), refusals=refusals)
    files = _files(found, board, wishes, config)
    install = _install(found, wishes)
    read_at_start = (wishes.layout.unit, wishes.layout.config)
    is_changed = environment is not None or any(step.path in read_at_start for step in files)
    start = _start(found, is_changed=is_changed)
    timer = _timer(found, wishes, config, files)
    work: list[Step] = [step for step in (environment, *files, install, start, timer) if step is not None]
    steps = (*_foundation(found, wishes), *work) if work else ()
    return Plan(
        board=board.name,
        payload=wishes.payload,
        runtime=choice.runtime,
        steps=steps,
        notes=_notes(found, board, wishes) if steps else (),
    )


def _choose(found: BoardFound, board: Board, wishes: Wishes) -> Choice | None:
    """The first of the bundle's runtimes that one of the board's Pythons can have; None when there is none."""
    needs = wishes.payload.manifest.compatible.runtimes
    for python in _pythons(found):
        wheels = _fitting(found, python, wishes.wheels)
        runtime = choose_runtime(needs, board, _target(found, python), wheels)
        if runtime is not None:
            return Choice(python=python, runtime=runtime)
    return None


def _pythons(found: BoardFound) -> list[PythonFacts]:
    """Those that edgekit runs with; last the ones in home folders, which the service cannot see."""
    usable = [python for python in found.pythons if PYTHONS[0] <= python.version <= PYTHONS[1]]
    return sorted(usable, key=lambda python: python.path.startswith(("/home/", "/root/")))


def _target(found: BoardFound, python: PythonFacts) -> Target:
    return Target(architecture=found.architecture, python=python.version, glibc=found.glibc)


def _fitting(found: BoardFound, python: PythonFacts, wheels: tuple[Wheel, ...] | None) -> tuple[Wheel, ...] | None:
    return fitting(wheels, _target(found, python))


def _refusals(found: BoardFound, board: Board, wishes: Wishes, choice: Choice | None) -> tuple[str, ...]:
    """Why this cannot be done."""
    reasons: list[str] = []
    if found.system != "Linux" or not found.has_systemd:
        reasons.append(f"it runs {found.os or found.system or 'no Linux'} without systemd")
    if found.privilege == "none":
        reasons.append("there is no way to root: no sudo for this user")
    if found.privilege == "locked":
        reasons.append("sudo there wants a password: set EDGEKIT_SSH_PASSWORD to it")
    reasons += _bundle_refusals(found, board, wishes, choice)
    if found.glibc is None or found.glibc < GLIBC_AT_LEAST:
        here = "another C library" if found.glibc is None else f"glibc {found.glibc[0]}.{found.glibc[1]}"
        reasons.append(f"the runtimes need glibc {GLIBC_AT_LEAST[0]}.{GLIBC_AT_LEAST[1]}; here is {here}")
    if "libstdc++.so.6" not in found.libraries:
        reasons.append("libstdc++.so.6 is missing, which numpy and the runtimes need: apt-get install libstdc++6")
    if choice is None:
        reasons.append(_no_runtime(found, board, wishes))
    return tuple(reasons)


def _bundle_refusals(found: BoardFound, board: Board, wishes: Wishes, choice: Choice | None) -> tuple[str, ...]:
    """What the bundle has against the board. What the serving agent takes of its memory will be free again."""
    if found.digest == wishes.payload.digest:
        return ()
    facts = DeviceFacts(
        board=board.name,
        architecture=found.architecture,
        python=None if choice is None else choice.python.version,
        free_ram_mib=found.memory_mib if found.active == "active" else found.free_memory_mib,
        free_disk_mib=found.free_state_mib,
    )
    return tuple(
        f"the bundle does not belong there: {why}" for why in incompatibilities(wishes.payload.manifest, facts)
    )


def _no_runtime(found: BoardFound, board: Board, wishes: Wishes) -> str:
    """Why no Python there can run the bundle."""
    if not found.pythons:
        return "there is no Python: apt-get install python3 python3-venv"
    here = ", ".join(f"{python.version[0]}.{python.version[1]}" for python in found.pythons)
    if not _pythons(found):
        low, high = (".".join(map(str, version)) for version in PYTHONS)
        return f"edgekit needs Python {low} to {high}; here is {here}: put one of these beside it"
    needed = " or ".join(f"{need.name} {need.at_least}" for need in wishes.payload.manifest.compatible.runtimes)
    if wishes.wheels is not None:
        return f"the bundle needs {needed}, and among the wheels is none for Python {here} on {found.architecture}"
    known = "; ".join(
        f"Python {system.needs_python or system.python}: "
        + (", ".join(f"{name} {version}" for name, version in system.runtimes.items()) or "none")
        for system in board.facts.systems
    )
    return f"the bundle needs {needed}; here is Python {here}, and for {board.facts.title} there is {known}"


def _environment_refusals(found: BoardFound, wishes: Wishes, choice: Choice) -> tuple[str, ...]:
    reasons: list[str] = []
    wheels = _fitting(found, choice.python, wishes.wheels)
    has_pip = choice.python.has_venv or any(wheel.distribution == "pip" for wheel in wheels or ())
    if not has_pip:
        reasons.append(
            f"{choice.python.path} has no pip: apt-get install python3-venv, or carry a pip wheel (--wheels)"
        )
    if wheels is not None:
        missing = lacking(wheels, (*wishes.requires, choice.runtime), choice.python.version)
        if missing:
            where = f"Python {choice.python.version[0]}.{choice.python.version[1]} on {found.architecture}"
            reasons.append(f"among the wheels is none for {where} of: {', '.join(missing)}")
    if found.free_opt_mib is not None and found.free_opt_mib < ENVIRONMENT_MIB:
        where = wishes.layout.programs
        reasons.append(f"{ENVIRONMENT_MIB} MiB are needed in {where}; free are {found.free_opt_mib:.0f} MiB")
    return tuple(reasons)


def _environment(found: BoardFound, board: Board, wishes: Wishes, choice: Choice) -> MakeEnvironment | None:
    """The environment, when the one that serves is another."""
    with_system = _sees_system(board)
    has_old_numpy = with_system and (choice.python.numpy or "").startswith(("0.", "1."))
    requirements = (*wishes.requires, choice.runtime)
    if with_system and board.facts.camera is not None and board.facts.camera.kind == "argus":
        requirements = tuple(line for line in requirements if not line.startswith(_DRAWS_OWN_OPENCV))
    # The system's camera packages are built against the system's numpy; numpy 2 beside them breaks their import.
    constraints = ("numpy<2",) if has_old_numpy else ()
    # The version, too: after an upgrade of the system, the same path is another Python.
    python = f"{choice.python.path} {choice.python.version}"
    name = environment_name((wishes.wheel_digest, python, *requirements, *constraints, str(with_system)))
    if found.environment == name:
        return None
    if found.environment is None:
        why = "there is none"
    elif found.edgekit is not None:
        why = f"edgekit {found.edgekit} there is other code, or has other packages, than here"
    else:
        why = "the one that serves is another"
    return MakeEnvironment(
        why=why,
        name=name,
        python=choice.python.path,
        requirements=requirements,
        constraints=constraints,
        with_system_packages=with_system,
        wheels=_fitting(found, choice.python, wishes.wheels),
    )


def environment_name(parts: tuple[str, ...]) -> str:
    """Name of an environment by what is in it.

    >>> environment_name(("a", "b")) == environment_name(("ab", ""))
    False
    """
    return f"venv-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}"


def _sees_system(board: Board) -> bool:
    return board.facts.camera is not None and board.facts.camera.kind in _SYSTEM_CAMERAS


def _files(found: BoardFound, board: Board, wishes: Wishes, text: str) -> tuple[WriteFile, ...]:
    """Unit, configuration, root of trust and announcement, as far as they are not as they should be."""
    layout, files = wishes.layout, []
    unit = unit_text(layout)
    if found.unit_sha256 != _sha256(unit):
        why = "there is none" if found.unit_sha256 is None else "it is another one"
        files.append(WriteFile(why=why, path=layout.unit, content=unit))
    if found.config != text:
        why = "there is none" if found.config is None else "options were given"
        files.append(WriteFile(why=why, path=layout.config, content=text, mode="0640", group=layout.user))
    if wishes.root_json is not None and found.root_sha256 is None:
        why = "the first contact pins whose updates it takes"
        files.append(WriteFile(why=why, path=layout.root_json, content=wishes.root_json, owner=layout.user))
    if wants_updates(text):
        for name, there in zip((UPDATE_SERVICE, UPDATE_TIMER), found.update_sha256, strict=True):
            content = unit_text(layout, name)
            if there != _sha256(content):
                why = "it is to look for updates" if there is None else "it is another one"
                files.append(WriteFile(why=why, path=layout.unit_file(name), content=content))
    announced = announcement_text(board.name, wishes.ssh_port)
    if found.has_avahi and found.announcement_sha256 != _sha256(announced):
        files.append(WriteFile(why="edgekit device discover hears it", path=layout.announcement, content=announced))
    return tuple(files)


def _config(found: BoardFound, board: Board, wishes: Wishes) -> tuple[str, str]:
    """The agent's configuration as it is to be, what is there kept unless something else was said; and why not."""
    if found.config is not None and wishes.settings.is_empty:
        return found.config, ""
    if found.config is None or not is_readable(found.config):
        return config_text(wishes.settings, board, wishes.layout), ""
    try:
        return revise_config(found.config, wishes.settings), ""
    except UsageError as error:
        return found.config, f"{error.message} ({error.hint})"


def _timer(
    found: BoardFound, wishes: Wishes, config: str, files: tuple[WriteFile, ...]
) -> StartTimer | StopTimer | None:
    if found.has_timer and forgoes_updates(config):
        return StopTimer(why=f"{wishes.layout.config} names no updates")
    if not wants_updates(config):
        return None
    is_written = wishes.layout.unit_file(UPDATE_TIMER) in {step.path for step in files}
    if found.has_timer and not is_written and UPDATE_TIMER not in found.unstarted:
        return None
    return StartTimer(why="it is to look for updates")


def _install(found: BoardFound, wishes: Wishes) -> InstallBundle | None:
    if found.digest == wishes.payload.digest:
        return None
    why = "no bundle is there" if found.digest is None else f"{found.digest[:12]} serves"
    return InstallBundle(why=why, payload=wishes.payload)


def _start(found: BoardFound, *, is_changed: bool) -> StartAgent | None:
    is_there = found.active in ("active", "activating")
    if is_there and is_changed:
        return StartAgent(why="what it is made of has changed", is_restart=True)
    if is_there and UNIT in found.unstarted:
        return StartAgent(why="what it is made of was changed by a flash that did not come to its end", is_restart=True)
    if is_there and found.is_enabled:
        return None
    why = f"it is {found.active}" if found.is_enabled else f"it is {found.active}, and does not start with the board"
    return StartAgent(why=why, is_restart=False)


def _foundation(found: BoardFound, wishes: Wishes) -> list[Step]:
    """What everything else stands on."""
    layout, steps = wishes.layout, list[Step]()
    if found.clock_unix_s < EARLIEST_UNIX_S <= wishes.now_unix_s:
        why = "it is before edgekit was made: certificates would not be valid yet"
        steps.append(SetClock(why=why, unix_s=wishes.now_unix_s))
    if not found.has_user:
        steps.append(MakeUser(why="the service has its own, which may do little", user=layout.user))
    folders = (layout.programs, layout.state, layout.settings, layout.cache)
    steps.append(MakeFolders(why="with their owners; nothing changes where they are right", folders=folders))
    return steps


def _notes(found: BoardFound, board: Board, wishes: Wishes) -> tuple[str, ...]:
    notes: list[str] = []
    if board.name == HOST_BOARD:
        notes.append(f"no board file describes it ({found.model or 'no device tree'}): it counts as {HOST_BOARD}")
    ahead_s = found.clock_unix_s - wishes.now_unix_s
    if found.clock_unix_s >= EARLIEST_UNIX_S and abs(ahead_s) > DAY_S:
        notes.append(
            f"its clock is {abs(ahead_s) // DAY_S} days {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
        )
    if found.config is not None and wishes.settings.is_empty:
        notes.append(f"{wishes.layout.config} is kept as it is")
    if wishes.root_json is not None and found.root_sha256 not in (None, _sha256(wishes.root_json)):
        notes.append("another root of trust is pinned there, and stays: it changes by signed rotation only")
    return tuple(notes)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
