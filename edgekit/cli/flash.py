"""`edgekit flash`: a run or a bundle onto boards, over SSH."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from edgekit.cli.boards import AcceptOption, GroupOption, IdentityOption, JsonOption
from edgekit.cli.console import VERBOSE_VARIABLE, Bars, is_set, note, print_json, show
from edgekit.core.errors import UsageError

if TYPE_CHECKING:
    from edgekit.core.progress import Progress
    from edgekit.deploy.ssh.configuration import AgentSettings
    from edgekit.deploy.ssh.flashing import Flashed, FlashJob
    from edgekit.deploy.ssh.plan import Payload, Plan
    from edgekit.deploy.ssh.several import Ended
    from edgekit.deploy.ssh.status import Running
    from edgekit.fleet.inventory import Device

_OFF = "off"

UpdatesOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where it looks for signed updates (edgekit publish); off for nowhere."),
]


def flash(
    target: Annotated[
        str, typer.Argument(metavar="BOARD", help="[USER@]HOST[:PORT], or a name of the list. With --group: left out.")
    ],
    source: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder of compress, or bundle (.ekb).")
    ] = None,
    group: GroupOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and change nothing.")] = False,
    accept_new: AcceptOption = False,
    identity: IdentityOption = None,
    wheels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of wheels, for boards without network.")
    ] = None,
    trust: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Published updates, or keys, whose root the first contact pins.")
    ] = None,
    camera: Annotated[str | None, typer.Option(help="As agent run takes it.  [default: the board's usual one]")] = None,
    http: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="Live page there; off for none.  [default: 8080]")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token that viewers need.")] = None,
    mqtt: Annotated[str | None, typer.Option(metavar="HOST[:PORT]", help="Broker that it reports to.")] = None,
    updates: UpdatesOption = None,
    no_camera: Annotated[
        bool, typer.Option("--no-camera", help="Let the trial do without live frames; that is written down.")
    ] = False,
    soak: Annotated[
        float | None, typer.Option(min=0, help="Seconds that the model lives in its trial.  [default: 30]")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Try what is in quarantine there once more.")] = False,
    downgrade: Annotated[bool, typer.Option("--downgrade", help="Take an older release.")] = False,
    at_once: Annotated[int, typer.Option(min=1, help="With --group: boards at the same time.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Make a board serve a run or a bundle: what it lacks is set up, what is there already is not sent again.

    Exit code 1 when the board's gate does not let the model pass, or, with --group, when any board failed.
    """
    from edgekit.cli import boards
    from edgekit.deploy.ssh.flashing import FlashJob
    from edgekit.deploy.ssh.installing import InstallOptions
    from edgekit.deploy.ssh.own_wheel import read_own_wheel
    from edgekit.deploy.wheelhouse import read_wheelhouse

    devices, path = _devices(target, source, group)
    job = FlashJob(
        payload_for=_payloads(path),
        wheel=read_own_wheel(),
        pin=boards.pin_key,
        wheels=None if wheels is None else read_wheelhouse(wheels),
        settings=msgspec.structs.replace(read_settings(camera, http, token_file, mqtt), updates=read_updates(updates)),
        layout=boards.board_layout(),
        root_json=None if trust is None else read_root(trust),
        options=InstallOptions(no_camera=no_camera, soak_s=soak, again=again, downgrade=downgrade),
        is_dry_run=dry_run,
    )
    if group is None:
        _flash_one(devices[0], job, (identity, accept_new), as_json=as_json)
    else:
        _flash_all(devices, job, (identity, accept_new), at_once=at_once, as_json=as_json)


def _devices(target: str, source: Path | None, group: str | None) -> tuple[tuple[Device, ...], Path]:
    """Which boards, and what they get."""
    from edgekit.cli import boards
    from edgekit.fleet.inventory import load_inventory

    inventory = load_inventory(boards.config_dir())
    if group is not None:
        if source is not None:
            raise UsageError("a board is named and a --group, too", hint="edgekit flash --group NAME RUN")
        return inventory.group(group), Path(target)
    if source is None:
        raise UsageError("what shall be flashed?", hint="edgekit flash [USER@]HOST RUN, or --group NAME RUN")
    return (boards.resolve(target, inventory),), source


def _payloads(path: Path) -> Any:  # noqa: ANN401 - Callable[[str], Payload], whose import would cost time
    """The bundle for a board: the one that is given, or one made of a run, each made and opened once."""
    from edgekit.bundle.reading import is_bundle

    if not path.exists():
        raise UsageError(f"no such file or folder: {path}", hint="name a run of compress, or an .ekb file")
    if path.is_dir() and is_bundle(path):
        raise UsageError(f"{path} is an unpacked bundle", hint="name the .ekb file, or the run that it was made of")
    payload = functools.cache(functools.partial(_payload, path))
    if not path.is_dir():
        payload("")  # a damaged file is not worth a connection
    return payload if path.is_dir() else lambda board: payload("")  # noqa: ARG005 - the same for every board


def _payload(path: Path, board: str) -> Payload:
    from edgekit.deploy.bundling import bundle_run
    from edgekit.deploy.ssh.flashing import payload_of

    if not path.is_dir():
        return payload_of(path)
    return payload_of(bundle_run(path, _cache_dir(), board))


def _cache_dir() -> Path:
    import os

    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "edgekit" / "bundles"


def read_settings(camera: str | None, http: str | None, token_file: Path | None, mqtt: str | None) -> AgentSettings:
    """What the options say about the agent.

    Raises:
        UsageError: An option that cannot be read, or that no agent would start with.
    """
    from edgekit.agent.camera import parse_camera
    from edgekit.agent.web.config import WebConfig, check_config, check_exposure
    from edgekit.cli.agent_options import read_address, read_token
    from edgekit.deploy.ssh.configuration import AgentSettings

    if camera is not None:
        parse_camera(camera)
    host, port = (None, None) if http in (None, _OFF) else read_address(http, "--http", "0.0.0.0:8080")
    token = None if token_file is None else read_token(token_file)
    if http is not None and http != _OFF:
        page = WebConfig(host=host or "127.0.0.1", port=port or 8080, token=token)
        check_config(page)
        check_exposure(page, page.host)
    broker, broker_port = (None, None)
    if mqtt is not None:
        broker, broker_port = read_address(mqtt if ":" in mqtt else f"{mqtt}:", "--mqtt", "broker.local:1883")
    return AgentSettings(
        camera=camera,
        http=None if http in (None, _OFF) else (host or "127.0.0.1", port or 8080),
        has_page=http != _OFF,
        token=token,
        mqtt=None if mqtt is None else (broker or "localhost", broker_port),
    )


def read_updates(url: str | None) -> str | None:
    """An address of updates that a board's client takes; "" for none any more. Raises UsageError."""
    from edgekit.agent.update.config import UpdateSection
    from edgekit.core.board import HOST_BOARD

    if url == _OFF:
        return ""
    if url is not None:
        UpdateSection(url=url).resolve(HOST_BOARD).check()
    return url


def read_root(trust: Path) -> str:
    """The root of trust of a published repository, or of a folder of keys: the newest `N.root.json`, or `root.json`.

    Raises:
        UsageError: There is none.
    """
    for folder in (trust / "metadata", trust / "root", trust):
        numbered = [path for path in folder.glob("*.root.json") if path.name.split(".")[0].isdecimal()]
        newest = max(numbered, key=lambda path: int(path.name.split(".")[0]), default=folder / "root.json")
        if newest.is_file():
            return newest.read_text(encoding="utf-8")
    raise UsageError(f"{trust} holds no root.json", hint="edgekit keys init and edgekit publish make one")


async def _flash(
    device: Device, job: FlashJob, access: tuple[Path | None, bool], progress: Progress, *, is_alone: bool
) -> Flashed:
    """One board, and into the list with it."""
    from edgekit.cli import boards
    from edgekit.deploy.ssh.flashing import flash_board

    identity, accept_new = access
    login = boards.make_login(device.address, identity, accept_new=accept_new, may_ask=is_alone)

    def tell(line: str) -> None:
        if is_alone or is_set(VERBOSE_VARIABLE):
            note(line if is_alone else f"{device.name}: {line}")

    flashed = await flash_board(device.address, login, job, progress, tell)
    if not job.is_dry_run:
        boards.remember(device, flashed.plan.board)
    return flashed


def _flash_one(device: Device, job: FlashJob, access: tuple[Path | None, bool], *, as_json: bool) -> None:
    from edgekit.cli import boards

    with Bars() as bars:
        flashed = boards.run_async(_flash(device, job, access, bars, is_alone=True))
    if as_json:
        print_json(flashed_document(device, flashed))
        return
    for line in plan_lines(flashed.plan) if job.is_dry_run else result_lines(device, flashed):
        show(line)


def _flash_all(
    devices: tuple[Device, ...], job: FlashJob, access: tuple[Path | None, bool], *, at_once: int, as_json: bool
) -> None:
    from edgekit.cli import boards
    from edgekit.core.progress import Silent
    from edgekit.deploy.ssh.several import for_each

    def ended(one: Ended[Device, Flashed]) -> None:
        if not as_json:
            show(f"{one.target.name}: {_outcome(one, is_dry_run=job.is_dry_run)}")

    work = functools.partial(_flash, job=job, access=access, progress=Silent(), is_alone=False)
    outcomes = boards.run_async(for_each(devices, work, at_once=at_once, ended=ended))
    if as_json:
        print_json({"boards": [_ended_document(one) for one in outcomes]})
    num_failed = sum(one.error is not None for one in outcomes)
    if num_failed:
        note(f"{num_failed} of {len(outcomes)} boards failed")
        raise typer.Exit(1)


def _outcome(one: Ended[Device, Flashed], *, is_dry_run: bool) -> str:
    """One line for one board."""
    if one.result is None:
        return "failed" if one.error is None else f"FAILED: {one.error.message}"
    plan = one.result.plan
    if is_dry_run:
        return f"cannot be: {'; '.join(plan.refusals)}" if plan.refusals else f"{len(plan.steps)} steps to do"
    running = "" if one.result.running is None else running_line(one.result.running)
    return f"{running} ({one.result.seconds:.1f} s)"


def plan_lines(plan: Plan) -> list[str]:
    """A plan for people."""
    from edgekit.deploy.ssh.plan import describe_step

    lines = [f"board {plan.board}" + (f", runs with {plan.runtime}" if plan.runtime else "")]
    lines += [f"note: {text}" for text in plan.notes]
    lines += [f"refused: {reason}" for reason in plan.refusals]
    lines += [f"{number}. {describe_step(step)}: {step.why}" for number, step in enumerate(plan.steps, start=1)]
    if not plan.steps and not plan.refusals:
        lines.append("nothing to do: everything is there")
    return lines


def result_lines(device: Device, flashed: Flashed) -> list[str]:
    """What became of a board, for people."""
    applied = flashed.applied
    lines = [f"note: {text}" for text in flashed.plan.notes]
    if applied is not None and applied.verdict is not None:
        marks = {"passed": "ok", "waived": "waived"}
        lines += [
            f"{marks.get(one.outcome, one.outcome)}: {one.rule}: {one.detail}" for one in applied.verdict.findings
        ]
    running = "" if flashed.running is None else running_line(flashed.running)
    num_bytes = 0 if applied is None else applied.num_bytes
    return [*lines, f"{device.name}: {running}; {num_bytes:,} bytes sent, {flashed.seconds:.1f} s"]


def running_line(running: Running) -> str:
    """What runs on a board, in one line.

    A p90 stands there once there are enough frames for one.
    """
    digest = "no bundle" if running.digest is None else f"bundle {running.digest[:12]}"
    release = "" if running.release is None else f" release {running.release}"
    model = "" if running.model is None else f"{running.model}{release}, "
    state = running.active if running.state is None else running.state
    latency = "" if running.p90_ms is None else f", p90 {running.p90_ms:.1f} ms of {running.num_frames:,} frames"
    detail = f" ({running.detail})" if running.detail else ""
    return f"{state}{detail}, {model}{digest}{latency}"


def flashed_document(device: Device, flashed: Flashed) -> dict[str, Any]:
    """What `--json` prints of a board."""
    from edgekit.deploy.ssh.plan import describe_step

    plan, applied = flashed.plan, flashed.applied
    return {
        "name": device.name,
        "address": str(flashed.address),
        "board": plan.board,
        "digest": plan.payload.digest,
        "runtime": plan.runtime,
        "steps": [
            {"kind": step.__struct_config__.tag, "what": describe_step(step), "why": step.why} for step in plan.steps
        ],
        "refusals": plan.refusals,
        "notes": plan.notes,
        "num_bytes": plan.num_bytes if applied is None else applied.num_bytes,
        "verdict": None if applied is None else applied.verdict,
        "running": flashed.running,
        "seconds": round(flashed.seconds, 3),
    }


def _ended_document(one: Ended[Device, Flashed]) -> dict[str, Any]:
    if one.result is not None:
        return flashed_document(one.target, one.result)
    error = None if one.error is None else one.error.message
    return {"name": one.target.name, "address": str(one.target.address), "error": error}
