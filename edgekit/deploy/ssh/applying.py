"""Carry out a plan. Every step may be done any number of times, and leaves the board serving what it served before."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from edgekit.core.errors import BoardError
from edgekit.core.progress import Progress
from edgekit.deploy.ssh.installing import InstallOptions, install_bundle
from edgekit.deploy.ssh.layout import UNIT, UPDATE_TIMER
from edgekit.deploy.ssh.own_wheel import OwnWheel, encode_wheel
from edgekit.deploy.ssh.plan import (
    InstallBundle,
    MakeEnvironment,
    MakeFolders,
    MakeUser,
    Plan,
    SetClock,
    StartAgent,
    StartTimer,
    Step,
    StopTimer,
    WriteFile,
    describe_step,
)
from edgekit.deploy.ssh.sending import ToSend, hash_beginning, send_file
from edgekit.deploy.ssh.shell import BoardShell

ENVIRONMENT_S = 3600.0
"""For an environment: on a small board, or an emulated one, pip takes many minutes."""

Tell = Callable[[str], None]
"""Gets one line for each step as it begins."""

_USER = """
groups=
for group in video render; do getent group "$group" >/dev/null && groups="$groups${groups:+,}$group"; done
set -- "$1" --system --user-group --home-dir "$2" --no-create-home --shell /usr/sbin/nologin
useradd "$@" ${groups:+--groups "$groups"}
"""
# $1: user; programs, state, settings, cache.
_FOLDERS = """
set -e
mkdir -p "$2" "$3" "$4" "$5"
chmod 0755 "$2" "$4" "$5"
chmod 0750 "$3"
chown "$1:" "$3"
chown -R "${SUDO_USER:-$(id -un)}:" "$5"
"""
_CLOCK = 'date -u -s "@$1" >/dev/null'
# $1: path, $2: mode, $3: group, $4: owner of the folder, too, or ""; the content comes on standard input.
_WRITE = """
set -e
mkdir -p "$(dirname "$1")"
umask 077
cat >"$1.new"
chmod "$2" "$1.new"
chgrp "$3" "$1.new"
[ -z "$4" ] || chown "$4:" "$(dirname "$1")" "$1.new"
sync "$1.new" 2>/dev/null || sync
mv -f "$1.new" "$1"
"""
# $1: programs, $2: name, $3: Python, $4: "system" or "", $5: pip wheel or "", $6: edgekit's wheel, $7: wheels' folder,
# or "" for the index, $8: constraints; then the requirements. What is there by that name was left by an interruption,
# whose pip may still be at work: no connection holds it. The lock waits for it, and then it may be done.
_ENVIRONMENT = """
set -e
folder=$1/$2 name=$2 programs=$1 python=$3 system=${4:+--system-site-packages} pip=$5 own=$6 wheels=$7 constraints=$8
shift 8
umask 022
exec 9>"$programs/.lock"
flock -w 3000 9
if [ "$(readlink "$programs/venv")" = "$name" ] && "$folder/bin/edgekit" --version; then exit 0; fi
rm -rf "$folder"
"$python" -m venv $system ${pip:+--without-pip} "$folder"
printf '%s' "$constraints" >"$folder/constraints.txt"
if [ -n "$pip" ]; then installer="$folder/bin/python $pip/pip"; else installer="$folder/bin/python -m pip"; fi
install() { $installer install $quietly "$@"; }
quietly="--quiet --no-input --no-cache-dir --disable-pip-version-check --no-warn-script-location"
if [ -n "$wheels" ]; then set -- --no-index --find-links "$wheels" "$@"; fi
install --constraint "$folder/constraints.txt" --only-binary :all: "$@"
install --no-index --no-deps --ignore-installed "$own"
"$folder/bin/edgekit" --version
sync
ln -sfn "$name" "$programs/.venv.new"
mv -fT "$programs/.venv.new" "$programs/venv"
sync "$programs" 2>/dev/null || sync
"""
# Environments that serve no more. $1: programs, $2: the one that does.
_TIDY = """
cd "$1" || exit 0
for folder in venv-*; do [ "$folder" = "$2" ] || rm -rf -- "$folder"; done
"""
# $1: unit, $2: "start" or "restart", $3: what says that it has not started since it was changed.
_START = """
set -e
systemctl daemon-reload
systemctl enable --quiet "$1"
systemctl reset-failed "$1" 2>/dev/null || true
systemctl "$2" --no-block "$1"
rm -f "$3"
"""
_STOP = 'systemctl disable --quiet --now "$1"; rm -f "$2"'
_UNSTARTED = 'mkdir -p "$(dirname "$1")"; for note; do : >"$note" || exit; done'


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What goes with a plan.

    Args:
        wheel: This edgekit.
        options: For the board's installer.
        progress: Shows what is sent.
        tell: Gets a line for each step.
    """

    wheel: OwnWheel
    options: InstallOptions
    progress: Progress
    tell: Tell


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What was done.

    Args:
        steps: A line for each.
        num_bytes: Of bundle, wheels and edgekit that were sent.
        verdict: What the board's installer said; None when it was not asked.
    """

    steps: tuple[str, ...]
    num_bytes: int
    verdict: Any = None


async def apply_plan(plan: Plan, shell: BoardShell, work: Work) -> Applied:
    """Carry out a plan, step by step.

    Raises:
        BoardError: A step failed; the next flash begins where this one ended.
        BarNotMetError: The board's gate did not let the bundle pass; what served before serves on.
    """
    refuse(plan, shell.where)
    num_bytes, verdict = 0, None
    if plan.units_to_start:  # before anything changes: whoever comes after an interruption must know
        await shell.must("noting what starts again", _UNSTARTED, *map(shell.layout.unstarted, plan.units_to_start))
    for step in plan.steps:
        work.tell(f"{describe_step(step)}: {step.why}")
        if isinstance(step, InstallBundle):
            verdict = await install_bundle(step.payload, shell, work.options, work.progress)
            num_bytes += verdict.num_bytes
        else:
            num_bytes += await _performer(step)(shell, work)
    return Applied(steps=tuple(map(describe_step, plan.steps)), num_bytes=num_bytes, verdict=verdict)


def refuse(plan: Plan, where: str) -> None:
    """Raise BoardError when nothing can be done, with every reason."""
    if plan.refusals:
        raise BoardError(f"{where} ({plan.board}) cannot be flashed: {'; '.join(plan.refusals)}")


def _performer(step: Step) -> Callable[[BoardShell, Work], Awaitable[int]]:
    """What does a step; it returns the bytes that it sent."""
    for kind, perform in _PERFORMERS.items():
        if isinstance(step, kind):
            return functools.partial(perform, step)
    raise TypeError(f"no step: {step!r}")


async def _set_clock(step: SetClock, shell: BoardShell, work: Work) -> int:
    del work
    await shell.must("setting the clock", _CLOCK, str(step.unix_s))
    return 0


async def _make_user(step: MakeUser, shell: BoardShell, work: Work) -> int:
    del work
    await shell.must(f"making the user {step.user}", _USER, step.user, shell.layout.state)
    return 0


async def _make_folders(step: MakeFolders, shell: BoardShell, work: Work) -> int:
    del work
    await shell.must("making folders", _FOLDERS, shell.layout.user, *step.folders)
    return 0


async def _write_file(step: WriteFile, shell: BoardShell, work: Work) -> int:
    del work
    arguments = (step.path, step.mode, step.group, step.owner or "")
    await shell.must(f"writing {step.path}", _WRITE, *arguments, given=step.content)
    return 0


async def _make_environment(step: MakeEnvironment, shell: BoardShell, work: Work) -> int:
    """Send edgekit and the wheels, make the environment beside the old one, and switch over."""
    cache, num_bytes = shell.layout.cache, 0
    for wheel in step.wheels or ():
        sent = ToSend(
            path=wheel.path,
            name=wheel.path.name,
            size_bytes=wheel.size_bytes,
            sha256=wheel.sha256,
            label=wheel.distribution[:16],
        )
        num_bytes += await send_file(shell, sent, work.progress)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        own = Path(scratch) / work.wheel.name
        own.write_bytes(encode_wheel(work.wheel))
        size = own.stat().st_size
        whole = ToSend(path=own, name=own.name, size_bytes=size, sha256=hash_beginning(own, size), label="edgekit")
        num_bytes += await send_file(shell, whole, work.progress)
    await shell.must(
        f"making the environment {step.name}",
        _ENVIRONMENT,
        shell.layout.programs,
        step.name,
        step.python,
        "system" if step.with_system_packages else "",
        "" if step.pip is None else f"{cache}/{step.pip.path.name}",
        f"{cache}/{work.wheel.name}",
        "" if step.wheels is None else cache,
        "".join(f"{line}\n" for line in step.constraints),
        *step.requirements,
        timeout_s=ENVIRONMENT_S,
    )
    await shell.root('rm -f "$1"/*.whl "$1"/*.whl.part', cache)
    await shell.root(_TIDY, shell.layout.programs, step.name)
    return num_bytes


async def _start(step: StartAgent, shell: BoardShell, work: Work) -> int:
    del work
    verb = "restart" if step.is_restart else "start"
    await shell.must("starting the agent", _START, UNIT, verb, shell.layout.unstarted(UNIT))
    return 0


async def _start_timer(step: StartTimer, shell: BoardShell, work: Work) -> int:
    del step, work
    await shell.must("starting the timer", _START, UPDATE_TIMER, "restart", shell.layout.unstarted(UPDATE_TIMER))
    return 0


async def _stop_timer(step: StopTimer, shell: BoardShell, work: Work) -> int:
    del step, work
    await shell.must("stopping the timer", _STOP, UPDATE_TIMER, shell.layout.unstarted(UPDATE_TIMER))
    return 0


_PERFORMERS: dict[type, Callable[..., Awaitable[int]]] = {
    SetClock: _set_clock,
    MakeUser: _make_user,
    MakeFolders: _make_folders,
    MakeEnvironment: _make_environment,
    WriteFile: _write_file,
    StartAgent: _start,
    StartTimer: _start_timer,
    StopTimer: _stop_timer,
}
