from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser

import msgspec
import pytest

from edgekit.core.report import Disagreement, Report
from edgekit.report.page import outcome, render_html

Build = Callable[..., Report]
VOID = {"meta", "img", "br", "link", "input", "hr", "rect", "line", "circle", "wbr"}
FETCHING = {"src", "srcset", "href", "xlink:href", "data", "action", "formaction", "poster", "background", "ping"}


class Page(HTMLParser):
    """What a page is made of; fails on a tag that is closed by another."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.script = ""
        self.style = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.script += data
        elif self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", self.text)


def poison(value: object, payload: str, key: str = "") -> object:
    """The payload in place of every string but pictures."""
    if isinstance(value, str):
        return value if key == "png_base64" else payload
    if isinstance(value, dict):
        return {name if key != "environment" else payload: poison(item, payload, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [poison(item, payload) for item in value]
    return value


@pytest.fixture(params=["report", "failed", "unlabelled", "bare", "shrunk"])
def any_report(request: pytest.FixtureRequest) -> Report:
    return request.getfixturevalue(request.param)


def test_page_asks_for_nothing_from_outside(any_report: Report) -> None:
    html = render_html(any_report)
    page = Page(html)
    assert not re.search(r"https?:|//[a-z0-9]", html.replace("http-equiv", ""))
    for tag, name, value in page.attributes:
        if name in FETCHING:
            assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:80])
    assert not re.search(r"url\(|@import|expression\(", page.style)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.tags)


def test_page_allows_only_its_own_script(report: Report) -> None:
    page = Page(render_html(report))
    policy = next(
        value for tag, name, value in page.attributes if tag == "meta" and name == "content" and "src" in value
    )
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert page.tags.count("script") == 1
    assert not any(name.startswith("on") for _, name, _ in page.attributes)


def test_page_links_lead_somewhere_and_ids_are_unique(any_report: Report) -> None:
    page = Page(render_html(any_report))
    assert len(page.ids) == len(set(page.ids))
    targets = {value for _, name, value in page.attributes if name in {"href", "aria-labelledby", "data-copy"}}
    assert {target.removeprefix("#") for target in targets} <= set(page.ids)


@pytest.mark.parametrize(
    "payload",
    [
        "<script>window.hacked = 1</script>",
        "\"><img src=x onerror='window.hacked = 1'>",
        "' onmouseover='window.hacked = 1",
        "</style></script><script>window.hacked = 1</script>",
        "{{ 7 * 7 }}{% raw %}",
        "http://example.org/</title>",
    ],
)
def test_page_shows_hostile_names_as_text(failed: Report, payload: str) -> None:
    clean = Page(render_html(failed))
    poisoned = msgspec.convert(poison(msgspec.to_builtins(failed), payload), Report)
    poisoned = msgspec.structs.replace(poisoned, first_divergent_layer=payload)
    page = Page(render_html(poisoned))
    assert payload in page.text
    assert page.script == clean.script
    assert page.style == clean.style
    assert set(page.tags) <= set(clean.tags)
    assert {name for _, name, _ in page.attributes} <= {name for _, name, _ in clean.attributes} | {"style"}


def test_page_leaves_out_a_picture_that_is_no_png(report: Report, change: Build) -> None:
    broken = msgspec.structs.replace(report.disagreements[0], png_base64='x" onerror="alert(1)')
    page = Page(render_html(change(disagreements=(broken,))))
    assert "picture cannot be shown" in page.words
    assert "img" not in page.tags


def test_page_of_a_labelled_run_answers_in_order(report: Report) -> None:
    words = Page(render_html(report)).words
    places = [
        words.index(part)
        for part in (
            "Passed: all 6 checks met their bars",
            "3.8\N{MULTIPLICATION SIGN} smaller",
            "93.80→93.70%",
            "Every check",
            "order-0 limit",
            "The axis does not start at zero",
            "How often each file gives the answer",
            "p50 is the median",
            "Three bit-widths",
            "Every layer with weights",
            "Which classes are mixed up",
            "Where int8 and float disagree",
            "edgekit compress mobilenet --bits 8",
            "peak 612 MiB",
            "x86-64, 2 cores",
        )
    ]
    assert places == sorted(places)


def test_page_gives_every_number_its_condition(report: Report) -> None:
    words = Page(render_html(report)).words
    for part in (
        "1,000 pictures of fashion_mnist test",
        "litert 2.3.0",
        "host_cpu, 1 thread, 1,024 queries",
        "95 % interval 92.02 to 95.05 %",
        "The packed file is 1.4 % above the limit.",
    ):
        assert part in words


def test_page_names_what_failed_and_marks_the_layer(failed: Report) -> None:
    page = Page(render_html(failed))
    assert "Failed: 1 of 6 checks missed its bar" in page.words
    assert "measured -3.20 points, the bar is at most 1.0 lost; first suspect is layer features.3.conv.1" in page.words
    assert page.words.count("diverges first") == 1
    assert ("tr", "class", "divergent") in page.attributes
    assert "failed" in next(value for tag, name, value in page.attributes if tag == "section" and name == "class")


def test_page_puts_agreement_on_top_when_unlabelled(unlabelled: Report) -> None:
    page = Page(render_html(unlabelled))
    assert "Agreement with float 99.10%" in page.words
    assert "accuracy is unknown" in page.words
    assert "not packed yet" in page.words
    assert "There is no torch model" in page.words
    assert "confusion" not in page.ids
    assert "Which classes are mixed up" not in page.words
    assert "float is right" not in page.words


def test_page_says_in_words_what_is_not_there(bare: Report) -> None:
    words = Page(render_html(bare)).words
    for part in (
        "Not verified",
        "The weights are random (--untrained)",
        "No file was timed in this run.",
        "No layer with weights was recorded.",
        "They differ on 9 pictures, but none was kept",
    ):
        assert part in words
    assert "None" not in words
    assert "nan" not in words.lower().split()


def test_page_says_so_when_nothing_differs(bare: Report) -> None:
    assert bare.agreement is not None
    same = msgspec.structs.replace(bare.agreement.tflite, top1=1.0)
    words = Page(
        render_html(msgspec.structs.replace(bare, agreement=msgspec.structs.replace(bare.agreement, tflite=same)))
    ).words
    assert "both give the same top-1 answer on all 1,000 pictures" in words


def test_page_explains_each_withheld_percentile(report: Report) -> None:
    titles = [value for tag, name, value in Page(render_html(report)).attributes if tag == "abbr" and name == "title"]
    assert "p99 needs at least 662 queries to be proven; 100 were made" in titles
    assert "p90 needs at least 64 queries to be proven; 32 were made" in titles


def test_page_lists_confused_pairs_when_classes_are_too_many_for_a_matrix(change: Build, report: Report) -> None:
    count = 31
    matrix = tuple(tuple(5 if i == j else int(j == i + 1) for j in range(count)) for i in range(count))
    names = tuple(f"class {i}" for i in range(count))
    page = Page(
        render_html(change(confusion=matrix, dataset=msgspec.structs.replace(report.dataset, class_names=names)))
    )
    assert "With 31 classes a matrix is no longer readable (the limit here is 30)" in page.words
    assert not any("matrix" in value for tag, name, value in page.attributes if tag == "table" and name == "class")
    assert "Most confused" in page.words


def test_page_folds_pictures_away_when_they_are_many(report: Report, change: Build) -> None:
    page = Page(render_html(change(disagreements=report.disagreements * 3)))
    assert page.tags.count("img") == 27
    assert "3 more pictures" in page.words


def test_page_explains_6_bit_grids(report: Report, change: Build) -> None:
    layers = tuple(msgspec.structs.replace(layer, grid_bits=6) for layer in report.layers)
    words = Page(render_html(change(layers=layers, scheme="static_wi6_ai8"))).words
    assert "6 bits How fine the weights are: each is one of at most 64 levels." in words
    assert "a smaller grid saves download and flash, not time" in words


@pytest.mark.parametrize(
    ("label", "float_answer", "int8_answer", "words"),
    [
        (None, "a", "b", "no label"),
        ("a", "a", "b", "float is right"),
        ("b", "a", "b", "int8 is right"),
        ("c", "a", "b", "both are wrong"),
    ],
)
def test_outcome_says_who_is_right(label: str | None, float_answer: str, int8_answer: str, words: str) -> None:
    picture = Disagreement(
        index=0, png_base64="", label=label, float_answer=(float_answer, 0.5), int8_answer=(int8_answer, 0.5)
    )
    assert outcome(picture) == words
