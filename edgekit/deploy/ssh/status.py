"""What runs on a board: asked of its agent's own page, through the connection."""

from __future__ import annotations

import asyncio
import time

import msgspec

from edgekit.core.device_status import DeviceStatus
from edgekit.core.errors import BoardError
from edgekit.deploy.ssh.configuration import Page, find_page
from edgekit.deploy.ssh.facts import BoardFound
from edgekit.deploy.ssh.layout import UNIT
from edgekit.deploy.ssh.plan import Payload
from edgekit.deploy.ssh.session import Session
from edgekit.deploy.ssh.shell import BoardShell, gather

READY_S = 240.0
"""For an agent to serve after its start; the unit itself gives up after 180 s and starts it again."""
_LOOK_S = 1.0
_STAGE = "end_to_end"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What runs on a board. None stands for what cannot be told.

    Args:
        active: What systemd calls the agent: "active", "activating", "failed", "inactive".
        digest: Of the bundle that `current` names.
        release: Of the model that serves; None for one that was not released.
        model: Its name.
        scheme: Its quantization.
        state: What the agent calls its own state.
        detail: Why, for people.
        fps: Frames answered per second.
        p90_ms: From capture to answer, since the agent started; below 64 frames there is none.
        num_frames: Behind it.
        temperature_c: Of the board.
        answer: The newest.
        model_sha256: Of the model file that serves.
    """

    active: str
    digest: str | None = None
    release: int | None = None
    model: str | None = None
    scheme: str | None = None
    state: str | None = None
    detail: str = ""
    fps: float | None = None
    p90_ms: float | None = None
    num_frames: int = 0
    temperature_c: float | None = None
    answer: str | None = None
    model_sha256: str | None = None


async def read_running(session: Session, found: BoardFound) -> Running:
    """Ask what runs. A board without a page tells what systemd and the disk know."""
    page = find_page(found.config)
    bare = Running(active=found.active, digest=found.digest)
    if page is None or found.active not in ("active", "activating"):
        return bare
    try:
        return from_status(await _ask(session, page), bare)
    except BoardError as error:
        return msgspec.structs.replace(bare, detail=error.message)


def from_status(status: DeviceStatus, bare: Running) -> Running:
    """What of a snapshot matters here."""
    latency = next((row for row in status.total if row.stage == _STAGE), None)
    model = status.model
    return msgspec.structs.replace(
        bare,
        release=None if model is None else model.release,
        model=None if model is None else model.name,
        scheme=None if model is None else model.scheme,
        model_sha256=None if model is None else model.sha256,
        state=status.state,
        detail=status.detail or status.camera.detail,
        fps=status.fps_out,
        p90_ms=None if latency is None else latency.p90_ms,
        num_frames=0 if latency is None else latency.n,
        temperature_c=status.system.temperature_c,
        answer=None if status.answer is None else f"{status.answer.label} ({status.answer.confidence:.2f})",
    )


async def wait_until_serves(shell: BoardShell, payload: Payload) -> Running:
    """Wait until the agent serves a bundle's model, as it says itself.

    Raises:
        BoardError: It does not; with the last lines of its journal.
    """
    end_s = time.monotonic() + READY_S
    running = Running(active="unknown")
    while time.monotonic() < end_s:
        shell = await gather(shell.session, shell.layout)
        running = await read_running(shell.session, shell.found)
        if _serves(running, payload, has_page=find_page(shell.found.config) is not None):
            return running
        await asyncio.sleep(_LOOK_S)
    said = running.detail or running.state or "no answer"
    ran = await shell.root('journalctl -u "$1" -n 5 --no-pager -o cat 2>/dev/null', UNIT)
    words = f"; its journal: {ran.complaint}" if ran.complaint else ""
    raise BoardError(
        f"{shell.where}: the agent does not serve after {READY_S:g} s ({running.active}; {said}){words}",
        hint="edgekit device logs shows what it says",
    )


def _serves(running: Running, payload: Payload, *, has_page: bool) -> bool:
    if running.active != "active" or running.digest != payload.digest:
        return False
    if not has_page:
        return True
    is_right = running.model_sha256 == payload.manifest.model.sha256
    return is_right and running.state in ("serving", "waiting")


async def _ask(session: Session, page: Page) -> DeviceStatus:
    content = await session.get(page.port, "/status", page.headers)
    try:
        return msgspec.json.decode(content, type=DeviceStatus)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BoardError(f"{session.address}: its agent's status cannot be read: {error}") from error
