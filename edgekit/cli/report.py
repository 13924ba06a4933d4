"""`edgekit report`: what a run measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import print_document, show, write_text


def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Show a run's summary, and draw its report.html anew."""
    from edgekit.report.files import read_report, write_report

    content = read_report(run_dir / "report.json")
    files = write_report(content, run_dir)
    if as_json:
        print_document(files.json_path.read_bytes())
    elif markdown:
        from edgekit.report.markdown import render_markdown

        write_text(sys.stdout, render_markdown(content))
    else:
        from edgekit.report.text import render_summary

        show(render_summary(content))
        show(f"\n{files.html_path}")
