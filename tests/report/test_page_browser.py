"""The page in a real browser: what it asks for, whether it fits, whether sorting works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import pytest

from edgekit.core.report import Report
from edgekit.report.files import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]
LAPTOP, PHONE = 1280, 390
PATIENCE_MS = 120_000
"""Machines are shared: a browser that is slow to answer is no failure."""


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """`open_page(report, width)`; at the end nothing may have been requested, and no script may have failed."""
    troubles: list[str] = []
    contexts = []

    def open_report(report: Report, width: int = LAPTOP, scheme: Literal["dark", "light"] = "light") -> Page:
        path = write_report(report, tmp_path).html_path
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: troubles.append(request.url) if request.url[:5] not in _LOCAL else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.goto(path.as_uri())
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert troubles == []


_LOCAL = ("file:", "data:")


def long_names(report: Report) -> Report:
    """Every name that a user chooses, very long and without a place to break."""
    name = "a_name_without_any_place_to_break_" * 8
    names = tuple(f"{name}{i}" for i in range(len(report.dataset.class_names)))
    return msgspec.structs.replace(
        report,
        model=name,
        command=f"edgekit compress {name}",
        scheme=name,
        dataset=msgspec.structs.replace(report.dataset, name=name, class_names=names),
        layers=tuple(msgspec.structs.replace(layer, name=f"{name}{i}") for i, layer in enumerate(report.layers)),
        first_divergent_layer=f"{name}3",
        checks=tuple(
            msgspec.structs.replace(check, layer=name, measured=name, passed=False) for check in report.checks
        ),
        latency=tuple(msgspec.structs.replace(row, file=name, runtime=name) for row in report.latency),
        stages=tuple(msgspec.structs.replace(stage, name=name) for stage in report.stages),
        environment={name: name},
        disagreements=tuple(
            msgspec.structs.replace(picture, label=name, float_answer=(name, 0.5), int8_answer=(f"{name}2", 0.5))
            for picture in report.disagreements
        ),
    )


def many_classes(report: Report) -> Report:
    count = 30
    return msgspec.structs.replace(
        report,
        confusion=tuple(tuple(97 if i == j else int(j == i + 1) for j in range(count)) for i in range(count)),
        dataset=msgspec.structs.replace(report.dataset, class_names=tuple(f"class number {i}" for i in range(count))),
    )


@pytest.mark.parametrize("bend", [None, long_names, many_classes], ids=["plain", "long_names", "many_classes"])
def test_page_never_scrolls_sideways(report: Report, open_page: Open, bend: Callable[[Report], Report] | None) -> None:
    page = open_page(bend(report) if bend else report)
    for width in (LAPTOP, 820, 768, PHONE, 320):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("kind", ["unlabelled", "bare", "failed", "mixed"])
def test_page_fits_a_phone_whatever_is_missing(request: pytest.FixtureRequest, open_page: Open, kind: str) -> None:
    page = open_page(request.getfixturevalue(kind), PHONE, "dark")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE


def column(page: Page, position: int) -> list[str]:
    return page.eval_on_selector_all(
        f"#layer-table tbody tr > :nth-child({position})", "cells => cells.map(cell => cell.dataset.value)"
    )


def test_layers_sort_by_number_both_ways_with_the_missing_last(report: Report, open_page: Open) -> None:
    layers = (msgspec.structs.replace(report.layers[0], sqnr_db=None), *report.layers[1:])
    page = open_page(msgspec.structs.replace(report, layers=layers))
    header = page.locator("#layer-table th", has_text="SQNR dB")
    known = sorted(layer.sqnr_db for layer in layers if layer.sqnr_db is not None)

    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    *values, last = column(page, 3)
    assert [float(value) for value in values] == known
    assert last == ""

    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    *values, last = column(page, 3)
    assert [float(value) for value in values] == known[::-1]
    assert last == ""
    assert page.locator("#layer-table [aria-sort]").count() == 1


def test_layers_sort_from_the_keyboard(report: Report, open_page: Open) -> None:
    page = open_page(report)
    button = page.locator("#layer-table th", has_text="Layer").locator("button")
    button.focus()
    page.keyboard.press("Enter")
    names = sorted(
        (layer.name for layer in report.layers),
        key=lambda name: [int(p) if p.isdigit() else p for p in name.split(".")],
    )
    assert column(page, 2) == names
    page.keyboard.press("Space")
    assert column(page, 2) == names[::-1]
    back = page.locator("#layer-table th").first.locator("button")
    back.click()
    assert column(page, 1) == [str(i + 1) for i in range(len(report.layers))]


def test_hostile_names_run_nothing(report: Report, open_page: Open) -> None:
    payload = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script>"
    names = tuple(payload for _ in report.dataset.class_names)
    page = open_page(
        msgspec.structs.replace(
            report, model=payload, dataset=msgspec.structs.replace(report.dataset, class_names=names)
        )
    )
    assert page.evaluate("window.hacked") is None
    assert page.locator("h1").inner_text() == payload


def test_every_picture_is_drawn(report: Report, open_page: Open) -> None:
    page = open_page(report)
    widths = page.eval_on_selector_all(".card img", "pictures => pictures.map(picture => picture.naturalWidth)")
    assert widths == [8] * len(report.disagreements)


def test_plot_of_sizes_lies_in_its_figure_with_words_beside_the_dots(mixed: Report, open_page: Open) -> None:
    page = open_page(mixed)
    for width in (LAPTOP, PHONE):
        page.set_viewport_size({"width": width, "height": 800})
        outside = page.evaluate("""() => {
          const box = document.querySelector(".pareto").getBoundingClientRect();
          return [...document.querySelectorAll(".pareto circle, .pareto text, .pareto .ticks span")].filter(mark => {
            const at = mark.getBoundingClientRect();
            return at.left < box.left || at.right > box.right + 1 || at.top < box.top || at.bottom > box.bottom + 24;
          }).length;
        }""")
        assert outside == 0
    assert page.locator(".pareto text").all_text_contents() == ["chosen", "int8", "float"]


def test_text_has_contrast_in_light_and_dark(report: Report, open_page: Open) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 for ink, soft text, accent and alarm on paper and on raised boxes."""
    script = """() => {
      const style = getComputedStyle(document.documentElement);
      const light = name => {
        const [r, g, b] = style.getPropertyValue(name).trim().split(/ +/)
          .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return ["--ink", "--soft", "--accent", "--alarm"].flatMap(
        front => ["--paper", "--raised"].map(back => ratio(light(front), light(back))));
    }"""
    assert min(open_page(report, LAPTOP, "light").evaluate(script)) >= 4.5
    assert min(open_page(report, LAPTOP, "dark").evaluate(script)) >= 4.5


def test_details_open_for_print_and_paper_is_white(report: Report, open_page: Open) -> None:
    page = open_page(msgspec.structs.replace(report, disagreements=report.disagreements * 4), LAPTOP, "dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.querySelector('details').open") is True
    assert page.locator("nav").is_hidden()


def test_keys_of_a_legend_stay_beside_their_words(report: Report, open_page: Open) -> None:
    page = open_page(report, PHONE)
    for width in (PHONE, 320):
        page.set_viewport_size({"width": width, "height": 800})
        loose = page.eval_on_selector_all(".legend .key", "keys => keys.map(key => key.closest('.n') === null)")
        assert loose
        assert not any(loose)
