"""`edgekit verify`: the files of a run folder against the float model, once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import Bars, note, print_json, show, unreadable_lines


def verify(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that `edgekit compress` made.")],
    max_drop: Annotated[float | None, typer.Option(help="Most top-1 points that may be lost.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare the exported files with the float model and with each other; exit code 1 when a bar is missed."""
    from edgekit.pipeline import verify_run

    with Bars() as bars:
        found = verify_run(run_dir, max_drop, bars)
    for line in unreadable_lines(found.unreadable, found.num_unreadable):
        note(line)
    if as_json:
        document = {"passed": found.passed, "num_pictures": found.num_pictures, "checks": found.checks}
        print_json({**document, "accuracy": found.accuracy, "agreement": found.agreement, "sqnr_db": found.sqnr_db})
    else:
        for check in found.checks:
            layer = f" (layer {check.layer})" if check.layer else ""
            show(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.measured}; bar: {check.bar}{layer}")
    if not found.passed:
        raise typer.Exit(1)
