"""`edgekit publish`: a bundle into the signed repository that boards fetch from."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import note, print_json, show
from edgekit.cli.keys import PASSPHRASE_VARIABLE, open_keyring
from edgekit.core.errors import UsageError


def publish(
    bundle: Annotated[Path | None, typer.Argument(metavar="[BUNDLE]", help="The .ekb file; none with --renew.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="DIR", help="Folder that a web server or CDN shows to boards.")
    ] = None,
    keys: Annotated[Path, typer.Option(help="Folder of the keys, from edgekit keys init.")] = Path("keys"),
    channel: Annotated[str, typer.Option(help="Which boards get it: those that follow this channel.")] = "stable",
    renew: Annotated[bool, typer.Option("--renew", help="Sign again what is there; for a weekly timer.")] = False,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help=f"File whose first line is the passphrase.  [default: ${PASSPHRASE_VARIABLE}, else asked]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Sign a bundle and write it into a static repository, in an order in which boards may read at any moment."""
    if to is None:
        raise UsageError("--to DIR is missing", hint="name the folder that the web server shows")
    if (bundle is None) != renew:
        raise UsageError("name a bundle, or --renew, one of the two")
    keyring = open_keyring(keys, passphrase_file)
    from edgekit.deploy.trust.publishing import publish as publish_bundle
    from edgekit.deploy.trust.repository import check_place

    done = publish_bundle(check_place(to), keyring, datetime.now(timezone.utc), bundle_path=bundle, channel=channel)
    for line in done.notes:
        note(line)
    if as_json:
        print_json(done)
        return
    for path in done.targets:
        show(f"published {path}")
    versions = ", ".join(f"{role} {version} until {done.expires[role][:10]}" for role, version in done.versions.items())
    show(f"{done.folder}: {versions}")
