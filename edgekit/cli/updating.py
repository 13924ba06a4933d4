"""`edgekit agent update`: look for a signed release, fetch it, and let the installer try it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edgekit.cli.console import print_json, show
from edgekit.cli.installing import (
    JsonOption,
    StateOption,
    find_folder,
    install_bundle,
    is_serving,
    read_frames,
    report_lines,
)

if TYPE_CHECKING:
    from edgekit.agent.config import AgentConfig
    from edgekit.agent.install.installer import InstallReport
    from edgekit.agent.install.overview import Overview
    from edgekit.agent.update.client import UpdateClient
    from edgekit.agent.update.offers import Offer, Seen

DOWNLOADS = "downloads"
"""In the update client's folder: what is fetched, until the installer has said what it thinks of it."""


def update_command(
    state: StateOption = None,
    config: Annotated[
        Path | None, typer.Option(help="The agent's TOML file: [update], model, camera and page as it has them.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="What edgekit publish wrote, as a web server shows it.")
    ] = None,
    channel: Annotated[str | None, typer.Option(help="Which releases.  [default: stable]")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only look; fetch and change nothing.")] = False,
    no_camera: Annotated[
        bool, typer.Option("--no-camera", help="Try it without live frames; that is written down.")
    ] = False,
    soak: Annotated[float, typer.Option(min=0, help="Seconds that it has to live.")] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Install the newest signed release, when it is newer than what serves; for a timer.

    Exit code 1 when it did not pass the gate, now or before; 2 when it must not be trusted; 3 for the network.
    """
    from edgekit.agent.install.installer import InstallRequest
    from edgekit.agent.install.messages import TrialSettings
    from edgekit.agent.install.overview import read_overview
    from edgekit.cli.agent_options import read_settings

    settings = read_settings(config)
    folder = find_folder(state, settings)
    client = _client(settings, folder, url, channel)
    overview = read_overview(folder)
    offer = client.refresh(_installed(overview))
    if offer is None or check:
        _say(offer, None, client, as_json=as_json)
        return
    _refuse_quarantined(offer, overview)
    path = client.fetch(offer, _clear_downloads(folder, offer))
    frames = read_frames(settings, (None, None, None), no_camera=no_camera, num=10)
    trial = TrialSettings(
        model=settings.model, frames=frames, soak_s=soak, deadline_s=TrialSettings().deadline_s + soak
    )
    report = install_bundle(path, folder, InstallRequest(trial=trial))
    if report.result != "failed":  # what could not be tried is tried again, and need not be fetched again
        path.unlink(missing_ok=True)
    _say(offer, report, client, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the command to `edgekit agent`."""
    app.command("update")(update_command)


def _client(settings: AgentConfig, folder: Path, url: str | None, channel: str | None) -> UpdateClient:
    """The update client of this board.

    Raises:
        UsageError: Nobody says where updates are.
    """
    from edgekit.agent.facts import read_facts
    from edgekit.agent.update.client import UpdateClient
    from edgekit.agent.update.config import UpdateSection
    from edgekit.core.errors import UsageError

    section = settings.update
    if url is not None:
        section = UpdateSection(url=url) if section is None else msgspec.structs.replace(section, url=url)
    if section is None:
        raise UsageError("nobody says where updates are", hint="--url URL, or url in [update] of the agent's TOML file")
    if channel is not None:
        section = msgspec.structs.replace(section, channel=channel)
    return UpdateClient(section.resolve(read_facts(folder).board), folder / "update")


def _installed(overview: Overview) -> Seen | None:
    """What the board has; None when that was not released."""
    from edgekit.agent.update.offers import Seen

    current = next((one for one in overview.releases if one.role == "current"), None)
    if current is None or not current.release:
        return None
    return Seen(name=current.name, release=current.release, digest=current.digest)


def _refuse_quarantined(offer: Offer, overview: Overview) -> None:
    """Fetch nothing that was not good enough before. Raises BarNotMetError."""
    from edgekit.core.errors import BarNotMetError

    for bad in overview.quarantine:
        if bad.digest == offer.digest:
            raise BarNotMetError(
                f"{offer.name} release {offer.release} ({offer.digest[:12]}) is in quarantine: {bad.reason}",
                hint="publish a better one under a higher number; agent install --again tries this one once more",
            )


def _clear_downloads(folder: Path, offer: Offer) -> Path:
    """The folder for downloads, without bundles that nobody wants any more."""
    downloads = folder / "update" / DOWNLOADS
    for path in downloads.glob("*.ekb"):
        if path.name != offer.file_name:
            path.unlink(missing_ok=True)
    return downloads


def _say(offer: Offer | None, report: InstallReport | None, client: UpdateClient, *, as_json: bool) -> None:
    """Say how it ended, and leave with 1 when the gate was not passed."""
    num_bytes = client.status.num_bytes
    if as_json:
        print_json(
            {
                "offer": offer,
                "install": report,
                "num_bytes": num_bytes,
                "is_clock_behind": client.status.is_clock_behind,
            }
        )
    elif offer is None:
        show("nothing newer is published")
    elif report is None:
        show(f"{offer.name} release {offer.release} ({offer.digest[:12]}) is there, {offer.size_bytes:,} bytes")
    else:
        show(f"fetched {offer.path}: {num_bytes:,} bytes")
        for line in report_lines(report):
            show(line)
    if report is not None and not is_serving(report):
        raise typer.Exit(1)
