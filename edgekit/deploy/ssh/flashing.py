"""One board from whatever it is to serving a bundle: connect, look, plan, do, see that it runs."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edgekit.bundle.reading import open_bundle
from edgekit.core.address import Address
from edgekit.core.board import Board, list_boards, load_board
from edgekit.core.progress import Progress
from edgekit.deploy.ssh.applying import Applied, Tell, Work, apply_plan, refuse
from edgekit.deploy.ssh.configuration import AgentSettings, find_camera
from edgekit.deploy.ssh.facts import BoardFound
from edgekit.deploy.ssh.host_keys import HostKey
from edgekit.deploy.ssh.installing import InstallOptions
from edgekit.deploy.ssh.layout import Layout
from edgekit.deploy.ssh.own_wheel import OwnWheel
from edgekit.deploy.ssh.plan import Payload, Plan, StartAgent, WriteFile
from edgekit.deploy.ssh.planning import Wishes, find_board, make_plan
from edgekit.deploy.ssh.sending import hash_beginning
from edgekit.deploy.ssh.session import Login, connect
from edgekit.deploy.ssh.shell import BoardShell, gather
from edgekit.deploy.ssh.status import Running, read_running, wait_until_serves
from edgekit.deploy.wheelhouse import Wheel


class FlashJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is put onto boards, the same onto each.

    Args:
        payload_for: The bundle for a board, by its id; a run folder makes one for each.
        wheel: This edgekit.
        pin: Called with the host key that the board showed, before anything is done to it.
        wheels: Carried along; None: boards ask their index.
        settings: Of the agent.
        layout: Where everything goes.
        root_json: Root of trust to pin; None for none.
        options: For the board's installer.
        is_dry_run: Only plan.
    """

    payload_for: Callable[[str], Payload]
    wheel: OwnWheel
    pin: Callable[[Address, HostKey], None]
    wheels: tuple[Wheel, ...] | None = None
    settings: AgentSettings = AgentSettings()
    layout: Layout = Layout()
    root_json: str | None = None
    options: InstallOptions = InstallOptions()
    is_dry_run: bool = False


class Flashed(msgspec.Struct, frozen=True, kw_only=True):
    """One board, after it.

    Args:
        address: Where it is.
        plan: What was to be done.
        applied: What was; None in a dry run.
        running: What runs there now; None in a dry run.
        seconds: From the first packet to the last.
    """

    address: Address
    plan: Plan
    applied: Applied | None
    running: Running | None
    seconds: float


async def flash_board(address: Address, login: Login, job: FlashJob, progress: Progress, tell: Tell) -> Flashed:
    """Flash one board.

    Args:
        address: Where it is.
        login: How to get in.
        job: What to put there.
        progress: Shows what is sent.
        tell: Gets a line for each step.

    Raises:
        BoardError: It cannot be reached, may not be flashed, is being flashed by somebody else, or a step failed.
        BarNotMetError: Its gate did not let the bundle pass.
        EdgekitError: As `payload_for`.
    """
    started_s = time.monotonic()
    session = await connect(address, login)
    try:
        if not job.is_dry_run:
            job.pin(address, session.host_key)
        shell = await gather(session, job.layout)
        plan = _plan(shell, job)
        if job.is_dry_run or (not plan.steps and not plan.refusals):
            running = None if job.is_dry_run else await _see(shell, plan)
            applied = None if job.is_dry_run else Applied(steps=(), num_bytes=0)
        else:
            plan, applied, running = await _work(shell, job, plan, progress, tell)
    finally:
        await session.close()
    return Flashed(address=address, plan=plan, applied=applied, running=running, seconds=time.monotonic() - started_s)


async def _see(shell: BoardShell, plan: Plan) -> Running:
    """What runs on a board that needs nothing; one that is about to serve is waited for."""
    if shell.found.active == "active":
        return await read_running(shell.session, shell.found)
    return await wait_until_serves(shell, plan.payload)


async def _work(
    shell: BoardShell, job: FlashJob, plan: Plan, progress: Progress, tell: Tell
) -> tuple[Plan, Applied, Running]:
    """Do it, alone: what the board was before the lock was had may be true no more."""
    refuse(plan, shell.where)
    async with shell.lock(who_we_are()):
        shell = await gather(shell.session, job.layout)
        plan = _plan(shell, job)
        work = Work(wheel=job.wheel, options=_options(job, plan, shell.found), progress=progress, tell=tell)
        applied = await apply_plan(plan, shell, work)
        if any(isinstance(step, StartAgent) for step in plan.steps):
            tell("wait until it serves")
        running = await wait_until_serves(shell, plan.payload)
    return plan, applied, running


def _plan(shell: BoardShell, job: FlashJob) -> Plan:
    board = find_board(shell.found, tuple(_boards()))
    wishes = Wishes(
        payload=job.payload_for(board.name),
        wheel_digest=job.wheel.digest,
        requires=(*job.wheel.requires, *job.wheel.agent_requires),
        settings=job.settings,
        layout=job.layout,
        wheels=job.wheels,
        root_json=job.root_json,
        ssh_port=shell.session.address.port,
        now_unix_s=int(time.time()),
    )
    return make_plan(shell.found, board, wishes)


def _boards() -> list[Board]:
    return [load_board(name) for name in list_boards()]


def _options(job: FlashJob, plan: Plan, found: BoardFound) -> InstallOptions:
    """For the installer: before the first start nobody shows pictures, so that the trial has to open the camera."""
    if job.options.no_camera or found.active == "active":
        return job.options
    written = {step.path: step.content for step in plan.steps if isinstance(step, WriteFile)}
    config = written.get(job.layout.config, found.config or "")
    return msgspec.structs.replace(job.options, camera=find_camera(config))


def who_we_are() -> str:
    """For others who find the board busy."""
    now = datetime.now(tz=timezone.utc).isoformat(sep=" ", timespec="seconds")
    return f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()}, since {now})"


def payload_of(path: Path) -> Payload:
    """A bundle file as it is sent. Raises as `open_bundle`."""
    bundle = open_bundle(path)
    size_bytes = path.stat().st_size
    return Payload(
        path=path,
        digest=bundle.digest,
        size_bytes=size_bytes,
        sha256=hash_beginning(path, size_bytes),
        manifest=bundle.manifest,
    )
