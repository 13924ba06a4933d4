"""One interrupted installation at a time: a process that strace holds, and a look at what it left.

The process is forked from this one, with everything imported, so that a case takes a fraction of a second; strace is
attached before it begins, so that the calls are counted from the same place in every run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from edgekit.agent.install.disk import CURRENT, PREVIOUS, RELEASES
from edgekit.agent.install.installer import RECORD, Installer, InstallReport
from edgekit.agent.install.lock import LOCK
from edgekit.agent.install.messages import TrialReport
from edgekit.bundle.check import NAMES
from edgekit.bundle.manifest import MODEL, Manifest
from edgekit.bundle.reading import open_bundle, read_file
from edgekit.core.errors import EdgekitError
from edgekit.encode.unpacking import MemorySink, unpack
from syscall_log import TRACED, Call, read_log

Fault: TypeAlias = Literal["KILL", "ENOSPC", "EIO", "EROFS", "FULL"]
"""`FULL`: ENOSPC there and at every later call of the name."""

MARK = "EDGEKIT_FAULT_CASE"
SUCCESS = "succeeded:"
_ATTACH_S = 20.0
_CASE_S = 120.0
_GONE_S = 5.0


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is interrupted.

    Args:
        name: Of it.
        template: State folder before it; copied for every case.
        act: Does it, to a copy; returns what is told.
        allowed: Digests that may serve after it and a recovery, however it went; None among them for nothing.
        wanted: Digest that must serve when it told success.
    """

    name: str
    template: Path
    act: Callable[[Path], InstallReport]
    allowed: frozenset[str | None]
    wanted: str | None


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Where a scenario is hit.

    Args:
        scenario: Its name.
        call: System call.
        number: The how-manieth of that name.
        fault: What happens there.
    """

    scenario: str
    call: str
    number: int
    fault: Fault


class Aftermath(msgspec.Struct, frozen=True, kw_only=True):
    """What was found after one case.

    Args:
        point: Where it was hit.
        was_hit: Whether the fault came to pass.
        told: How it ended, as its process told.
        trouble: What is wrong with the state; "" when nothing is.
        num_leaked_files: Files that belong to nothing.
        num_leaked_processes: Processes of the case that live on.
        is_false_success: It told success, and not that release serves.
        recovery_s: From the start of the recovery to a checked release.
    """

    point: Point
    was_hit: bool
    told: str
    trouble: str
    num_leaked_files: int
    num_leaked_processes: int
    is_false_success: bool
    recovery_s: float


def trace(scenario: Scenario, scratch: Path) -> tuple[list[Call], Path, set[str]]:
    """Run a scenario undisturbed: its calls, the folder that it worked in, and what lay there before."""
    state = _copy(scenario, scratch)
    existing = {str(path) for path in state.rglob("*")}
    log = scratch / "trace.log"
    told = _run(scenario, state, ["-y", "-s", "64", "-o", str(log), "-e", f"trace={','.join(TRACED)}"])
    if not told.startswith((SUCCESS, "rolled_back")):
        raise SystemExit(f"scenario {scenario.name} does not work undisturbed: {told}")
    return read_log(log), state, existing


def hit(scenario: Scenario, point: Point, scratch: Path) -> Aftermath:
    """Run a scenario, hit it, recover, and look."""
    state = _copy(scenario, scratch)
    log = scratch / "case.log"
    what = {"KILL": "signal=KILL", "FULL": "error=ENOSPC"}.get(point.fault, f"error={point.fault}")
    inject = f"inject={point.call}:{what}:when={point.number}{'+' if point.fault == 'FULL' else ''}"
    told = _run(scenario, state, ["-o", str(log), "-e", f"trace={point.call}", "-e", inject])
    text = log.read_text(encoding="utf-8", errors="replace")
    num_processes = _count_leaked()
    started_s = time.monotonic()
    trouble = _look(state, scenario)
    recovery_s = time.monotonic() - started_s
    with contextlib.suppress(OSError, EdgekitError):
        serving = _serving(state)
        is_false = told.startswith(SUCCESS) and serving != scenario.wanted
        return Aftermath(
            point=point,
            was_hit="INJECTED" in text or "killed by SIGKILL" in text,
            told=told,
            trouble=trouble,
            num_leaked_files=len(leaks(state)),
            num_leaked_processes=num_processes,
            is_false_success=is_false,
            recovery_s=recovery_s,
        )
    raise SystemExit(f"{state} cannot be looked at")


def canned(report: TrialReport) -> Callable[..., TrialReport]:
    """A trial that tells what another one told, of as many golden pictures as its bundle has."""

    def try_out(_folder: Path, manifest: Manifest, *_: object) -> TrialReport:
        if report.measured is None:
            return report
        num = len(manifest.golden.top1)
        return msgspec.structs.replace(report, measured=msgspec.structs.replace(report.measured, num_golden=(num, num)))

    return try_out


def _copy(scenario: Scenario, scratch: Path) -> Path:
    state = scratch / "state"
    shutil.rmtree(state, ignore_errors=True)
    shutil.copytree(scenario.template, state, symlinks=True)
    return state


def _run(scenario: Scenario, state: Path, options: list[str]) -> str:
    """Run a scenario under strace; what its process told, or how it ended."""
    go, told = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go[1])
        os.close(told[0])
        os.environ[MARK] = "1"
        os.read(go[0], 1)
        _act(scenario, state, told[1])
    os.close(go[0])
    os.close(told[1])
    tracer = subprocess.Popen(["strace", "-p", str(pid), *options], stderr=subprocess.PIPE, text=True)
    try:
        _wait_for_attachment(tracer)
        os.write(go[1], b".")
        with os.fdopen(told[0], "rb") as stream:
            words = stream.read().decode()
    finally:
        os.close(go[1])
        status = _wait(pid)
        tracer.communicate(timeout=_CASE_S)
    return words or f"ended with status {status}"


def _act(scenario: Scenario, state: Path, told: int) -> None:
    """In the forked process; never returns."""
    code, words = 1, ""
    try:
        report = scenario.act(state)
        code = 0
        words = f"{SUCCESS} {report.result}" if report.result in ("committed", "unchanged") else report.result
        if scenario.name.startswith(("rollback", "recover")):
            words = f"{SUCCESS} {report.result}"
    except EdgekitError as error:
        words = f"{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001 - a defect: told, and counted
        words = f"DEFECT {type(error).__name__}: {error}"
    finally:  # whatever happens: this process must not go on as a second one of its parent
        with contextlib.suppress(BaseException):
            os.write(told, words.encode())
        os._exit(code)


def _wait_for_attachment(tracer: subprocess.Popen[str]) -> None:
    stream = tracer.stderr
    line = "" if stream is None else stream.readline()
    if "attached" not in line:
        raise SystemExit(f"strace does not attach: {line.strip()}")


def _wait(pid: int) -> int:
    until_s = time.monotonic() + _CASE_S
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until_s:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _look(state: Path, scenario: Scenario) -> str:
    """Recover, twice, and check what serves; what is wrong."""
    try:
        Installer(state).recover()
        serving = _serving(state)
        again = Installer(state).recover()
    except (EdgekitError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    if again.result != "unchanged":
        return f"a second recovery found something to do: {again.result} {again.detail}"
    if serving not in scenario.allowed:
        return f"{serving} serves"
    return ""


def _serving(state: Path) -> str | None:
    """The digest that serves, checked down to the unpacked model's hash; None for nothing.

    Raises:
        EdgekitError: Something serves that is not whole.
    """
    link = state / CURRENT
    if not link.is_symlink():
        return None
    bundle = open_bundle(link)
    packed = read_file(bundle, MODEL)
    sink = MemorySink()
    with (link / MODEL).open("rb") as stream:
        header, _ = unpack(stream, len(packed), sink)
    if header.sha256.hex() != bundle.manifest.model.sha256 or link.readlink().name != bundle.digest:
        raise SystemExit(f"{state} serves another model than it says")
    return bundle.digest


def leaks(state: Path) -> list[Path]:
    """Files that belong to no release that a link names, and to nothing else."""
    expected = {state / RECORD, state / f"{RECORD}-journal", state / LOCK, state / RELEASES}
    for name in (CURRENT, PREVIOUS):
        link = state / name
        if link.is_symlink():
            folder = state / link.readlink()
            expected |= {link, folder, *(folder / file for file in NAMES)}
    return [path for path in state.rglob("*") if path not in expected]


def _count_leaked() -> int:
    """Processes that a case started and that outlive it; the system gets a moment to end them."""
    until_s = time.monotonic() + _GONE_S
    while True:
        num = sum(_is_of_a_case(entry) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        if not num or time.monotonic() > until_s:
            return num
        time.sleep(0.02)


def _is_of_a_case(entry: Path) -> bool:
    try:
        return f"{MARK}=1".encode() in (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
