"""`edgekit verify`: the files of a run folder against the float model, once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import Bars, note, print_json, show, unreadable_lines


def verify(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `edgekit compress` or `embed`.")],
    max_drop: Annotated[
        float | None, typer.Option(help="Most points of top-1 (of an extractor: of precision at 1) that may be lost.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare the exported files with the float model and with each other; exit code 1 when a bar is missed."""
    from edgekit.embedding import is_extractor, verify_extractor
    from edgekit.pipeline import verify_run

    section = None
    with Bars() as bars:
        if is_extractor(run_dir):
            features = verify_extractor(run_dir, max_drop, bars)
            found, section = features.verification, features.section
        else:
            found = verify_run(run_dir, max_drop, bars)
    for line in unreadable_lines(found.unreadable, found.num_unreadable):
        note(line)
    if as_json:
        document = {"passed": found.passed, "num_pictures": found.num_pictures, "checks": found.checks}
        document |= {"accuracy": found.accuracy, "agreement": found.agreement, "sqnr_db": found.sqnr_db}
        print_json({**document, "features": section})
    else:
        for check in found.checks:
            layer = f" (layer {check.layer})" if check.layer else ""
            show(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.measured}; bar: {check.bar}{layer}")
    if not found.passed:
        raise typer.Exit(1)
