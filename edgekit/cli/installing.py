"""`edgekit agent install`, `rollback`, `releases`, `recover`: bundles onto this very board."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edgekit.cli.console import note, plain_table, print_json, show

if TYPE_CHECKING:
    from edgekit.agent.config import AgentConfig
    from edgekit.agent.install.installer import InstallReport, InstallRequest
    from edgekit.agent.install.messages import FrameSettings

StateOption = Annotated[Path | None, typer.Option(help="The agent's state folder.  [default: as agent run takes it]")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

_STARS = {"passed": "ok", "failed": "FAILED", "waived": "waived", "untold": "NOT TOLD"}


def install_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle (.ekb file or folder), or a delta (.ekd) to the current one.")],
    state: StateOption = None,
    config: Annotated[
        Path | None, typer.Option(help="The agent's TOML file: model, camera and page as it has them.")
    ] = None,
    camera: Annotated[str | None, typer.Option(help="Take live frames from this camera, not from the agent.")] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where the agent shows its picture.  [default: http://127.0.0.1:8080/snapshot.jpg]"
        ),
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token of the agent's page.")] = None,
    no_camera: Annotated[
        bool, typer.Option("--no-camera", help="Try it without live frames; that is written down.")
    ] = False,
    frames: Annotated[int, typer.Option(min=1, help="Live frames that it has to answer.")] = 10,
    soak: Annotated[float, typer.Option(min=0, help="Seconds that it has to live.")] = 30.0,
    again: Annotated[bool, typer.Option("--again", help="Try what is in quarantine once more.")] = False,
    downgrade: Annotated[
        bool, typer.Option("--downgrade", help="Take an older release, or another one of the same number.")
    ] = False,
    any_board: Annotated[bool, typer.Option("--any-board", help="Take a bundle that is for other boards.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Try a bundle beside the model that serves; it takes over only when it passes. Exit code 1 when it does not."""
    from edgekit.agent.install.installer import InstallRequest
    from edgekit.agent.install.messages import TrialSettings
    from edgekit.cli.agent_options import read_settings

    settings = read_settings(config)
    trial = TrialSettings(
        model=msgspec.structs.replace(settings.model, any_board=any_board or settings.model.any_board),
        frames=read_frames(settings, (camera, snapshot, token_file), no_camera=no_camera, num=frames),
        soak_s=soak,
        deadline_s=TrialSettings().deadline_s + soak,
    )
    request = InstallRequest(trial=trial, again=again, downgrade=downgrade, any_board=any_board)
    _end(install_bundle(bundle, find_folder(state, settings), request), as_json=as_json)


def rollback_command(
    state: StateOption = None,
    reason: Annotated[str, typer.Option(help="Why; written down.")] = "asked for",
    as_json: JsonOption = False,
) -> None:
    """Go back to the release before. The one that serves now is not taken again by itself."""
    from edgekit.agent.install.installer import Installer
    from edgekit.agent.install.serving import hand_over

    folder = find_folder(state)
    with _interruptible():
        report = Installer(folder, activate=hand_over(folder)).rollback(reason)
    if as_json:
        print_json(report)
    else:
        show(
            f"rolled back: {_short(report.serving)} serves, {_short(report.digest)} is in quarantine ({report.detail})"
        )


def recover_command(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Settle what an interrupted installation left. To be run before the agent starts; does nothing otherwise."""
    from edgekit.agent.install.installer import Installer

    report = Installer(find_folder(state)).recover()
    if as_json:
        print_json(report)
    else:
        what = "nothing to do" if report.result == "unchanged" else f"{_named(report)}: {report.result} {report.detail}"
        show(f"{what.rstrip()}; {_short(report.serving)} serves")


def releases_command(state: StateOption = None, as_json: JsonOption = False) -> None:
    """List what is installed, what is in quarantine and why, and what happened last."""
    from edgekit.agent.install.overview import read_overview

    overview = read_overview(find_folder(state))
    if as_json:
        print_json(overview)
        return
    if overview.detail:
        note(f"the record cannot be read: {overview.detail}")
    rows = [(one.role, one.name, str(one.release), one.digest[:12], f"{one.size_bytes:,}") for one in overview.releases]
    if rows:
        show(plain_table(("", "name", "release", "digest", "bytes"), rows, left=("", "name", "digest")))
    show(f"{len(rows)} releases in {overview.state_dir}; installer: {overview.job.state}")
    if (trying := overview.probation) is not None:
        show(f"on probation: {trying.name} release {trying.release}, {trying.num_deaths} deaths of the agent with it")
    for bad in overview.quarantine:
        show(f"quarantine: {bad.name} release {bad.release} ({bad.digest[:12]}): {bad.reason}")
    for past in overview.events[:5]:
        when = datetime.fromtimestamp(past.unix_s, tz=timezone.utc).isoformat(sep=" ", timespec="seconds")
        show(f"{when}  {past.event} -> {past.state}  {past.name} release {past.release}  {past.detail}".rstrip())


def register(app: typer.Typer) -> None:
    """Add the commands to `edgekit agent`."""
    app.command("install")(install_command)
    app.command("rollback")(rollback_command)
    app.command("releases")(releases_command)
    app.command("recover")(recover_command)


def install_bundle(bundle: Path, folder: Path, request: InstallRequest) -> InstallReport:
    """Install a bundle or a delta, and tell the agent that serves. Raises as `full_bundle` and `Installer.install`."""
    from edgekit.agent.install.installer import Installer
    from edgekit.agent.install.patching import full_bundle
    from edgekit.agent.install.serving import hand_over

    with _interruptible(), full_bundle(bundle, folder) as path:
        return Installer(folder, activate=hand_over(folder)).install(path, request)


def _end(report: InstallReport, *, as_json: bool) -> None:
    """Say how it ended, and leave with 1 when the gate was not passed."""
    if as_json:
        print_json(report)
    else:
        for line in report_lines(report):
            show(line)
    if not is_serving(report):
        raise typer.Exit(1)


def report_lines(report: InstallReport) -> list[str]:
    """How an installation ended, for people."""
    lines = [f"{_STARS[finding.outcome]:>8}  {finding.rule}: {finding.detail}" for finding in report.findings]
    told = {
        "committed": f"{_named(report)} serves",
        "unchanged": f"{_named(report)} serves already",
        "rolled_back": f"{_named(report)} may not serve: {report.detail}; {_short(report.serving)} serves on",
        "failed": f"{_named(report)} could not be tried: {report.detail}; {_short(report.serving)} serves on",
    }
    return [*lines, f"{told[report.result]} ({report.seconds:.1f} s)"]


def is_serving(report: InstallReport) -> bool:
    """Whether what was to be installed serves."""
    return report.result in ("committed", "unchanged")


def read_frames(
    settings: AgentConfig, sources: tuple[str | None, str | None, Path | None], *, no_camera: bool, num: int
) -> FrameSettings:
    """Where live frames come from: as told, else the page of the agent that serves."""
    from edgekit.agent.install.messages import FrameSettings
    from edgekit.cli.agent_options import read_token
    from edgekit.core.errors import UsageError

    camera, snapshot, token_file = sources
    if (camera is not None) + (snapshot is not None) + no_camera > 1:
        raise UsageError("--camera, --snapshot and --no-camera exclude one another")
    if no_camera:
        return FrameSettings(num=num)
    if camera is not None:
        return FrameSettings(camera=msgspec.structs.replace(settings.camera, source=camera).request(), num=num)
    web = settings.web
    port = 8080 if web is None else web.port
    token = read_token(token_file) if token_file is not None else (None if web is None else web.token)
    return FrameSettings(snapshot_url=snapshot or f"http://127.0.0.1:{port}/snapshot.jpg", token=token, num=num)


def find_folder(state: Path | None, settings: AgentConfig | None = None) -> Path:
    """The agent's state folder: as told, as configured, or as `agent run` takes it. Raises as `find_state_dir`."""
    from edgekit.agent.config import find_state_dir

    asked = str(state) if state is not None else (None if settings is None else settings.state_dir)
    return find_state_dir(asked)


@contextlib.contextmanager
def _interruptible() -> Generator[None, None, None]:
    """While inside, SIGTERM and a lost terminal end the work in good order, as Ctrl-C does."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _named(report: InstallReport) -> str:
    return f"{report.name or 'nothing'} release {report.release} ({_short(report.digest)})"


def _short(digest: str | None) -> str:
    return "nothing" if digest is None else digest[:12]
