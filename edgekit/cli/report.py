"""`edgekit report`: what a run measured, or what a board recorded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.console import plain_table, print_document, print_json, show, write_text
from edgekit.core.errors import UsageError


def report(
    run_dir: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder; with --device, the one to stand beside.")
    ] = None,
    device: Annotated[
        Path | None, typer.Option("--device", metavar="RECORD", help="What a board recorded: file or state folder.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="With --device: the run that made its model.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="With --device: the page; device.html beside the record."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers, one JSON document.")] = False,
) -> None:
    """Show a run's summary, and draw its report.html anew; or a board's record, with --device."""
    if device is not None:
        if run_dir is not None and run is not None:
            raise UsageError(f"two runs to stand beside the board: {run_dir} and {run}", hint="name one")
        _report_device(device, run or run_dir, out, markdown=markdown, as_json=as_json)
        return
    if run is not None or out is not None:
        raise UsageError("--run and --out go with --device", hint="edgekit report --device RECORD --run RUN")
    if run_dir is None:
        raise UsageError("nothing to report on", hint="name a run folder, or --device RECORD")
    _report_run(run_dir, markdown=markdown, as_json=as_json)


def _report_run(run_dir: Path, *, markdown: bool, as_json: bool) -> None:
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


def _report_device(record: Path, run_dir: Path | None, out: Path | None, *, markdown: bool, as_json: bool) -> None:
    from edgekit.report import device_findings as words
    from edgekit.report.device_files import write_device_report

    files = write_device_report(record, run_dir, out)
    if as_json:
        print_json(files.report)
    elif markdown:
        from edgekit.report.device_markdown import render_device_markdown

        write_text(sys.stdout, render_device_markdown(files.report, files.host))
    else:
        show(f"{words.printable(files.report.device_id)}: {words.headline(files.report)}")
        for remark in words.remarks(files.report):
            show(remark)
        show(plain_table(words.STAGE_TITLES, words.stage_rows(files.report), left=("stage",)))
        show(f"\n{files.html_path}")
