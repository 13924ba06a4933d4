"""The page of a board's record: well-formed, self-contained, nothing of it trusted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from device_records import bare, day, status
from edgekit.core.device_record import DeviceRecord
from edgekit.core.report import Report
from edgekit.report.device import DeviceReport, build_device_report
from edgekit.report.device_markdown import render_device_markdown
from edgekit.report.device_page import render_device_html
from edgekit.report.formatting import TIMES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VOID = {"meta", "rect", "line", "polyline", "wbr"}
PAYLOAD = "<script>alert(1)</script>\"'|`*&\x1b[2J"
PATIENCE_MS = 120_000


class Parsed(HTMLParser):
    """Tags, attributes and text of a page; fails on a tag that is closed by another."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words = re.sub(r"[\s\u00a0]+", " ", self.words + data)


@pytest.fixture
def kitchen(report: Report) -> DeviceReport:
    return build_device_report(day(), report)


def poisoned() -> DeviceRecord:
    """A record whose every name is an attack."""

    def poison(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {name: poison(item, name) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [poison(item, key) for item in value]
        fixed = {"stage", "state", "time_source", "outbox"}
        return PAYLOAD if isinstance(value, str) and key not in fixed else value

    statuses = msgspec.convert(poison(msgspec.to_builtins(day(40).statuses)), tuple[type(status(0)), ...])
    return DeviceRecord(statuses=statuses, num_damaged=0, num_newer=0)


def test_page_says_what_was_recorded(kitchen: DeviceReport, report: Report) -> None:
    page = Parsed(render_device_html(kitchen, report))

    for words in (
        "kitchen", "raspberry_pi_4b", "661 kB", "25.4 ms", "slowed down in 12.6 %", "the camera was lost",
        "end to end", "Beside the host", "Drifted: classes", "2 damaged lines", "litert 2.3.0, 2 threads",
        "14.2", "4.57 W", "2025-06-15", f"34.5{TIMES} the host",
    ):  # fmt: skip
        assert words in page.words, words
    assert len(page.ids) == len(set(page.ids))
    links = [value for name, value in page.attributes if name == "href"]
    assert {link[1:] for link in links} <= set(page.ids)


@pytest.mark.parametrize("build", [bare, day, poisoned])
def test_page_asks_for_nothing_and_runs_nothing(build: Callable[[], DeviceRecord]) -> None:
    page = Parsed(render_device_html(build_device_report(build())))

    assert "script" not in page.tags
    assert not {"src", "srcset", "action", "xlink:href"} & {name for name, _ in page.attributes}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "\x1b" not in page.words


def test_page_without_a_run_has_no_host(kitchen: DeviceReport) -> None:
    page = Parsed(render_device_html(msgspec.structs.replace(kitchen, host=None)))

    assert "Beside the host" not in page.words
    assert "float ONNX" not in page.words


def test_page_of_a_bare_record_says_what_is_missing() -> None:
    page = Parsed(render_device_html(build_device_report(bare())))

    for words in (
        "The agent is starting",
        "No model was loaded",
        "No frame was answered",
        "Not one window",
        "no sensor",
    ):
        assert words in page.words


def test_withheld_percentiles_say_why() -> None:
    few = build_device_report(DeviceRecord(statuses=(status(0),), num_damaged=0, num_newer=0))
    page = Parsed(render_device_html(few))

    assert ("title", "p99 needs at least 662 queries to be proven; 280 were made") in page.attributes


@pytest.mark.parametrize("build", [bare, day, poisoned])
def test_markdown_is_tables_that_no_name_breaks(build: Callable[[], DeviceRecord], report: Report) -> None:
    text = render_device_markdown(build_device_report(build(), report), report)

    tables = [block.splitlines() for block in re.split(r"\n\n", text) if block.startswith("|")]
    assert tables
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "<script>" not in text
    assert "\x1b" not in text


def test_markdown_has_the_numbers_of_the_page(kitchen: DeviceReport, report: Report) -> None:
    text = render_device_markdown(kitchen, report)

    assert "# kitchen: Answers 30.0 frames a second" in text
    assert "| end to end | 50,400 | 26.4 | 25.4 | 33.0 | 48.3 | 58.4 |" in text
    assert "| packed (.ekz) | 661 kB | 661 kB |" in text
    assert f"Median: 34.5{TIMES} the host." in text


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Callable[[str], Page]]:
    troubles: list[str] = []
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("request", lambda request: None if request.url.startswith("file:") else troubles.append(request.url))
    page.on("console", lambda message: troubles.append(message.text))

    def open_html(html: str) -> Page:
        path = tmp_path / "device.html"
        path.write_text(html, encoding="utf-8")
        page.goto(path.as_uri())
        return page

    yield open_html
    page.close()
    assert troubles == []


@pytest.mark.parametrize("build", [bare, day, poisoned])
def test_page_never_scrolls_sideways(
    open_page: Callable[[str], Page], build: Callable[[], DeviceRecord], report: Report
) -> None:
    page = open_page(render_device_html(build_device_report(build(), report), report))
    for width in (1280, 820, 390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_curves_are_drawn_over_the_whole_width(open_page: Callable[[str], Page], kitchen: DeviceReport) -> None:
    page = open_page(render_device_html(kitchen))
    page.set_viewport_size({"width": 1280, "height": 800})
    widths = page.eval_on_selector_all(
        ".times svg", "drawings => drawings.map(d => [...d.querySelectorAll('.curve.strong')]"
        ".reduce((sum, c) => sum + c.getBoundingClientRect().width, 0) / d.getBoundingClientRect().width)",
    )  # fmt: skip

    assert len(widths) == 4
    assert all(width > 0.9 for width in widths)
    assert page.locator(".times .slowed").count() > 0
    assert page.locator(".times .loss").count() == 8
