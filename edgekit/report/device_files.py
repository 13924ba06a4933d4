"""A board's report as a file, and on a terminal."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.device_record import DeviceRecord, read_record
from edgekit.core.report import Report
from edgekit.core.storage import write_text
from edgekit.report.device import DeviceReport, build_device_report
from edgekit.report.device_page import render_device_html
from edgekit.report.files import read_report, without_surrogates

DEVICE_HTML_NAME = "device.html"


class DeviceFiles(msgspec.Struct, frozen=True, kw_only=True):
    """A board's report, and where its page was written.

    Args:
        report: What the board recorded.
        host: Report of the run beside it; None when none was given.
        html_path: The page.
    """

    report: DeviceReport
    host: Report | None
    html_path: Path


def write_device_report(record_path: Path, run_dir: Path | None = None, out: Path | None = None) -> DeviceFiles:
    """Read a record, put it together, and write its page, atomically.

    Args:
        record_path: A record file, or the agent's state folder.
        run_dir: Run folder that made the model, to stand beside it; None for none.
        out: File of the page; None for `device.html` beside the record.

    Raises:
        UsageError: There is no record, or no run.
        IntegrityError: The record or the run's report is damaged, or of a newer edgekit.
        OutputError: The page cannot be written.
    """
    record: DeviceRecord = read_record(record_path)
    host = None if run_dir is None else without_surrogates(read_report(run_dir))
    report = build_device_report(record, host)
    folder = record_path if record_path.is_dir() else record_path.parent
    html_path = out or folder / DEVICE_HTML_NAME
    write_text(html_path, render_device_html(report, host))
    return DeviceFiles(report=report, host=host, html_path=html_path)
