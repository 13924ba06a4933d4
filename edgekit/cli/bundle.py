"""`edgekit bundle`: a run folder into the one file that boards receive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.console import Bars, print_json, show
from edgekit.core.errors import UsageError

if TYPE_CHECKING:
    from edgekit.bundle.reading import Bundle

DATE_VARIABLE = "SOURCE_DATE_EPOCH"
"""Seconds since 1970 that stand for "now" in what a build makes (reproducible-builds.org)."""


def bundle(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that `edgekit compress` made.")],
    boards: Annotated[
        list[str], typer.Option("--for", metavar="BOARD", help="Board that may install it; may be given again.")
    ],
    out: Annotated[Path | None, typer.Option(help="Target: .ekb, or a folder.  [default: RUN/bundle.ekb]")] = None,
    release: Annotated[int, typer.Option(min=0, help="Release number; boards take only higher ones.")] = 1,
    name: Annotated[
        str | None, typer.Option(help="What its releases replace one another as.  [default: MODEL-DATA]")
    ] = None,
    p90_ms: Annotated[float | None, typer.Option(help="Most that nine of ten inferences may take there.")] = None,
    rss_mib: Annotated[float | None, typer.Option(help="Most memory that the agent may take there.")] = None,
    created: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Stated date, since 1970.  [default: $SOURCE_DATE_EPOCH]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Make what a board receives: packed model, labels, golden pictures with their answers, needs, budgets, hashes.

    The same run and options make the same bytes.
    """
    from edgekit.bundle.manifest import Budgets
    from edgekit.deploy.bundling import BundleRequest, make_bundle

    request = BundleRequest(
        run_dir=run_dir,
        boards=tuple(boards),
        release=release,
        name=name,
        created_unix_s=date_of_environment() if created is None else created,
        budgets=Budgets(p90_ms=p90_ms, rss_mib=rss_mib),
    )
    with Bars() as bars:
        made = make_bundle(request, out or run_dir / "bundle.ekb", bars)
    show_bundle(made, as_json=as_json)


def show_bundle(made: Bundle, *, as_json: bool) -> None:
    """Print what is in a bundle."""
    if as_json:
        print_json(bundle_document(made))
        return
    for line in bundle_lines(made):
        show(line)


def bundle_document(made: Bundle) -> dict[str, Any]:
    """What `--json` prints."""
    return {"path": made.path, "digest": made.digest, "size_bytes": made.size_bytes, "manifest": made.manifest}


def bundle_lines(made: Bundle) -> list[str]:
    """A bundle for people."""
    manifest = made.manifest
    model, golden, compatible = manifest.model, manifest.golden, manifest.compatible
    height, width = model.input_size
    runtimes = " or ".join(f"{need.name} {need.at_least}" for need in compatible.runtimes)
    files = ", ".join(f"{entry.name} {entry.size_bytes:,}" for entry in manifest.files)
    bars = [
        f"p90 at most {manifest.budgets.p90_ms:g} ms" if manifest.budgets.p90_ms else "",
        f"at most {manifest.budgets.rss_mib:g} MiB resident" if manifest.budgets.rss_mib else "",
    ]
    kind = "test pictures" if golden.origin == "test_pictures" else "generated pictures"
    asked = ", ".join(made.labels[index] for index in golden.top1)
    described = f"{model.name} {model.scheme}, {width}x{height}, {model.num_classes} classes"
    python = ".".join(map(str, compatible.python_at_least))
    return [
        f"{made.path}: {manifest.name} release {manifest.release}, {made.size_bytes:,} bytes",
        f"digest     {made.digest}",
        f"model      {described}; {model.format} of {model.size_bytes:,} bytes, SHA-256 {model.sha256[:16]}",
        f"boards     {', '.join(compatible.boards)} ({', '.join(compatible.architectures) or 'any processor'})",
        f"runs with  Python {python}; {runtimes}",
        f"needs      {manifest.needs.ram_mib} MiB of memory, {manifest.needs.disk_mib} MiB of disk",
        f"budgets    {', '.join(filter(None, bars)) or 'none'}",
        f"golden     {len(golden.top1)} {kind} ({golden.source}): {asked}",
        f"           logits within {golden.tolerance:g} of {golden.judge}",
        f"baseline   {'none' if manifest.baseline is None else 'class histogram of test pictures'}",
        f"files      {files}",
    ]


def date_of_environment() -> int | None:
    """The date that builds are to state; None when nobody says one.

    Raises:
        UsageError: The variable holds no number.
    """
    given = os.environ.get(DATE_VARIABLE, "")
    if not given:
        return None
    if not (given.isascii() and given.isdecimal()):
        raise UsageError(f"{DATE_VARIABLE} is {given!r}, expected seconds since 1970", hint="unset it, or set a number")
    return int(given)
