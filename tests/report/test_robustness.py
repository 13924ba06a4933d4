"""A robustness measurement as JSON, page, terminal text and sentences."""

from __future__ import annotations

import itertools
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import pytest

from edgekit.core.errors import IntegrityError, UsageError
from edgekit.core.robustness import Robustness
from edgekit.evaluate.balance import measure_balance
from edgekit.report import robustness as words
from edgekit.report.files import encode_report
from edgekit.report.formatting import DASH
from edgekit.report.line_charts import NUM_DASHES, NUM_TONES, SHAPES, line_chart, line_styles
from edgekit.report.robustness_charts import attack_charts, corruption_families, movement_charts
from edgekit.report.robustness_files import read_robustness, write_robustness
from edgekit.report.robustness_page import render_robustness_html
from edgekit.report.robustness_text import render_robustness
from evaluations import NAMES
from page_texts import EVIL, LONG, printed, text_of
from robustnesses import build_robustness
from schema_docs import described_structs

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def pair() -> Robustness:
    return build_robustness("float", "runs/mine", notes=("The float model is the run's origin, mobilenet.",))


@pytest.fixture(scope="module")
def alone() -> Robustness:
    return build_robustness("mobilenet")


@pytest.fixture(scope="module")
def trio() -> Robustness:
    return build_robustness("float", "runs/mine", "runs/mine")


@pytest.fixture(scope="module")
def seven() -> Robustness:
    return build_robustness("float", *(f"runs/{name}" for name in ("w8", "w6", "w4", "pruned", "shared", "w8")))


@pytest.fixture(scope="module")
def uneven(pair: Robustness) -> Robustness:
    """Most pictures are of ants, and few of what is right is not."""
    shares = ((0.61, (0.55, 0.67)), (0.52, (0.45, 0.58)))
    return msgspec.structs.replace(
        pair,
        balance=measure_balance(np.repeat((0, 3), (170, 20)), NAMES),
        models=tuple(
            msgspec.structs.replace(model, balanced_accuracy=share, balanced_ci95=ci95)
            for model, (share, ci95) in zip(pair.models, shares, strict=True)
        ),
    )


@pytest.fixture(scope="module")
def blind() -> Robustness:
    return build_robustness("mine.tflite", has_gradient=False, threshold=None, notes=("No float model is at hand.",))


class TestFiles:
    def test_json_reads_back_as_it_was(self, pair: Robustness, tmp_path: Path) -> None:
        files = write_robustness(pair, tmp_path)
        assert read_robustness(files.json_path) == read_robustness(tmp_path) == pair
        assert (files.json_path.name, files.html_path.name) == ("robustness.json", "robustness.html")

    def test_first_version_stays_readable(self) -> None:
        golden = Path(__file__).parent.parent / "golden" / "robustness_v1.json"
        found = read_robustness(golden)
        before = json.loads(golden.read_text(encoding="utf-8"))
        models = [{**model, "balanced_accuracy": None, "balanced_ci95": None} for model in before["models"]]
        assert json.loads(encode_report(found)) == {**before, "models": models, "balance": None}
        assert words.names(found) == ("float", "mine")
        assert found.corruptions[1].error == (None, None)
        assert found.fooling[1].fooled[0].num_unknown is None
        assert [model.suggestion.threshold for model in found.models] == [0.71234, None]
        assert words.headline(found) in text_of(render_robustness_html(found))

    def test_newer_version_is_refused(self, alone: Robustness, tmp_path: Path) -> None:
        path = write_robustness(msgspec.structs.replace(alone, version=99), tmp_path).json_path
        with pytest.raises(IntegrityError, match="report version 99, expected at most 1"):
            read_robustness(path)

    def test_absent_file_says_what_makes_one(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no report at") as caught:
            read_robustness(tmp_path)
        assert "--robustness" in (caught.value.hint or "")

    def test_docs_name_every_struct_and_field_of_the_schema(self, repository: Path) -> None:
        seen = described_structs(repository / "docs" / "robustness.md", Robustness)
        assert {"Robustness", "Outcome", "Fooled", "Suggestion", "ShownAnswer"} <= seen


class TestPage:
    @pytest.mark.parametrize("kind", ["alone", "pair", "trio", "seven", "blind"])
    def test_page_holds_every_section_and_asks_for_nothing(self, request: pytest.FixtureRequest, kind: str) -> None:
        robustness = request.getfixturevalue(kind)
        page = render_robustness_html(robustness)
        ids = set(re.findall(r'<section id="(\w+)"', page))
        assert ids == {"verdict", "findings", "attacks", "fooling", "movements", "corruptions", "confidence", "run"}
        assert set(re.findall(r'href="#(\w+)"', page)) <= ids
        assert not re.search(r'(?:src|href)="(?!#|data:image/png;base64,)', page)
        assert words.headline(robustness) in text_of(page)
        assert page.count("<polyline") == len(robustness.models) * (
            len(robustness.attacks) + len(robustness.movements) + len(robustness.corruptions)
        )

    def test_amounts_of_movements_read_as_words(self, pair: Robustness) -> None:
        by_name = {sweep.name: sweep for sweep in pair.movements}
        assert words.movement_words(by_name["translation"], 0.25) == "translation by 0.25 of the side"
        assert words.movement_words(by_name["rotation"], -30.0) == "rotation \N{MINUS SIGN}30 degrees"
        assert "`" not in text_of(render_robustness_html(pair))

    def test_imbalance_is_told_with_balanced_accuracy_on_unchanged_pictures(
        self, pair: Robustness, uneven: Robustness
    ) -> None:
        said = (
            "The classes are unevenly filled: ant has 8.5 times the pictures of dog, and always answering ant would be "
            "right on 89.5 %. Balanced accuracy, the mean over classes, on unchanged pictures: float 61.0 %, mine 52.0 "
            "%. All other shares count every picture alike."
        )
        row = ("unchanged, balanced accuracy", ("61.0 % (55.0 to 67.0)", "52.0 % (45.0 to 58.0)"))

        assert words.remarks(uneven) == [said]
        assert words.table(uneven)[0] == row
        for text in (text_of(render_robustness_html(uneven)), " ".join(printed(render_robustness(uneven)).split())):
            assert said in text
        assert "balanced 52.0 %" in text_of(render_robustness_html(uneven))
        even = msgspec.structs.replace(pair, balance=measure_balance(np.repeat(np.arange(4), 50), NAMES))
        for robustness in (pair, even):
            assert words.remarks(robustness) == []
            assert "balanced" not in text_of(render_robustness_html(robustness))

    def test_tiles_name_the_model_of_the_headline_when_there_are_several(self, seven: Robustness) -> None:
        text = text_of(render_robustness_html(seven))
        assert words.headline(seven).startswith("On corrupted pictures w8 (1) loses")
        assert "w8 (1) ; unchanged 89.0 %" in text.replace("w8 (1);", "w8 (1) ;")
        assert "40.9 % on w8 (1) itself, epsilon 8/255" in text.replace("40.9  %", "40.9 %")

    def test_picture_of_a_finding_stands_before_and_after(self, pair: Robustness) -> None:
        text = text_of(render_robustness_html(pair))
        assert (
            "as it was epsilon 8/255 one of attacks ant , picture 17 as it was changed float ant 80 % ✓ right" in text
        )

    def test_page_without_gradient_says_so(self, blind: Robustness) -> None:
        text = text_of(render_robustness_html(blind))
        assert "there is no FGSM and no PGD: No float model is at hand." in text

    def test_names_are_escaped(self) -> None:
        evil = build_robustness(EVIL, EVIL, class_names=(EVIL, "bee", "cat", "dog"), notes=(EVIL,))
        page = render_robustness_html(evil)
        assert "<script>alert" not in page
        assert "\x1b" not in page
        assert "\x1b" not in printed(render_robustness(evil))

    def test_what_is_no_picture_is_not_put_on_the_page(self, pair: Robustness) -> None:
        broken = msgspec.structs.replace(pair.shown[0], changed_png='"><b>')
        page = render_robustness_html(msgspec.structs.replace(pair, shown=(broken,)))
        assert "picture cannot be shown" in page
        assert '"><b>' not in page

    @pytest.mark.parametrize("width", [1280, 820, 390, 320])
    def test_page_never_scrolls_sideways(self, browser: Browser, tmp_path: Path, width: int) -> None:
        robustness = build_robustness(LONG, f"{LONG}2", class_names=tuple(f"{LONG}{index}" for index in range(4)))
        path = write_robustness(robustness, tmp_path).html_path
        troubles: list[str] = []
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.set_default_timeout(120_000)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.close()
        assert troubles == []


class TestStyles:
    def test_up_to_35_curves_are_told_apart_without_colour(self) -> None:
        styles = line_styles(NUM_DASHES * len(SHAPES))
        assert len({(style.dash, style.shape) for style in styles}) == len(styles) == 35
        for before, after in itertools.pairwise(styles):
            assert before.tone != after.tone
            assert before.dash != after.dash
            assert before.shape != after.shape

    def test_one_and_two_curves_need_no_marks(self) -> None:
        assert [style.shape for count in (1, 2) for style in line_styles(count)] == [None] * 3
        assert line_styles(1) == (line_styles(2)[1],)

    def test_every_style_is_in_the_style_sheet(self) -> None:
        css = (files("edgekit.report") / "templates" / "robustness.css").read_text(encoding="utf-8")
        assert set(re.findall(r"^\.tone-(\d+) ", css, re.MULTILINE)) == {str(index) for index in range(NUM_TONES)}
        assert set(re.findall(r"^\.dash-(\d+) ", css, re.MULTILINE)) == {str(index) for index in range(NUM_DASHES)}

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_browser_draws_every_curve_in_its_own_stroke_and_mark(
        self, browser: Browser, seven: Robustness, tmp_path: Path, scheme: Literal["light", "dark"]
    ) -> None:
        path = write_robustness(seven, tmp_path).html_path
        page = browser.new_page(color_scheme=scheme)
        page.set_default_timeout(120_000)
        page.goto(path.as_uri())
        chart = page.locator("#movements figure.square").first
        strokes = chart.locator("polyline").evaluate_all(
            "lines => lines.map(line => [getComputedStyle(line).stroke, getComputedStyle(line).strokeDasharray])"
        )
        marks = chart.locator("use").evaluate_all(
            "marks => marks.map(mark => [getComputedStyle(mark).stroke, mark.getAttribute('href')])"
        )
        # A mark has as many pixels upwards as sideways, however wide the chart is; one that is not found has none.
        sizes = chart.locator("use").evaluate_all(
            "marks => marks.map(mark => { const box = mark.getBoundingClientRect(); return [box.width, box.height]; })"
        )
        legend = page.locator("#movements .legend use").evaluate_all("marks => marks.map(m => m.getAttribute('href'))")
        page.close()
        num_points = len(seven.movements[0].levels)
        assert len({tuple(stroke) for stroke in strokes}) == len(strokes) == 7
        assert sorted(stroke for stroke, _ in strokes) == sorted(stroke for stroke, _ in marks[::num_points])
        assert [dashes == "none" for _, dashes in strokes] == [True] * 2 + [False] * 5  # the others go over them
        assert [shape for _, shape in marks[::num_points]] == legend
        assert len(set(legend)) == 7
        for width, height in sizes:
            assert 5 < width < 10
            assert height == pytest.approx(width, rel=0.2)


class TestCharts:
    def test_curves_keep_their_box(self, trio: Robustness) -> None:
        charts = [*attack_charts(trio), *movement_charts(trio)]
        charts += [chart for family in corruption_families(trio) for chart in family.charts]
        assert len(charts) == 5 + 3 + 15
        for chart in charts:
            assert len(chart.lines) == 3
            for dot in (dot for line in chart.lines for dot in line.dots):
                assert 0 <= dot.at <= 100
                assert 0 <= dot.top <= 100

    def test_points_lie_where_their_values_are(self) -> None:
        chart = line_chart("t", "a", [(0.0, "0"), (1.0, ""), (4.0, "4")], [("one", [1.0, 0.5, 0.0])])
        assert chart.lines[0].path == "0,0 25,50 100,100"
        assert [(tick.word, tick.at) for tick in chart.ticks] == [("0", 0.0), ("4", 100.0)]
        assert chart.lines[0].dots[1].words == "one: 50.0 % at 1"

    def test_single_point_stands_in_the_middle(self) -> None:
        assert line_chart("t", "a", [(3.0, "3")], [("one", [0.25])]).lines[0].path == "50,75"

    def test_errors_of_all_but_the_first_stand_beside_a_corruption(
        self, alone: Robustness, pair: Robustness, seven: Robustness
    ) -> None:
        notes = [corruption_families(each)[0].charts[0].note for each in (alone, pair, seven)]
        assert notes == ["", "error 104.5", "errors " + ", ".join(["104.5"] * 6)]

    def test_corruption_begins_at_the_unchanged_pictures(self, pair: Robustness) -> None:
        chart = corruption_families(pair)[0].charts[0]
        assert [tick.word for tick in chart.ticks] == ["0", "1", "2", "3", "4", "5"]
        assert chart.lines[0].dots[0].top == pytest.approx(10.0)


class TestWords:
    def test_headline_says_whether_they_are_told_apart(self, pair: Robustness, alone: Robustness) -> None:
        assert words.headline(pair).startswith("On corrupted pictures mine loses 3.00 points against float")
        better = build_robustness("float", "runs/mine", difference=0.02)
        assert "mine gains 2.00 points against float" in words.headline(better)
        tied = build_robustness("float", "runs/mine", difference=-0.005)
        assert "is not told apart from float" in words.headline(tied)
        assert words.headline(alone) == "Right on 70.0 % of corrupted pictures, on 90.0 % of unchanged ones"

    def test_models_of_one_name_are_numbered(self, trio: Robustness) -> None:
        assert words.names(build_robustness("a/x.ekz", "b/x.ekz")) == ("a/x.ekz", "b/x.ekz")
        assert words.names(trio) == ("float", "mine (1)", "mine (2)")

    def test_sentences_tell_attacked_and_transferred_apart(self, pair: Robustness) -> None:
        said = "\n".join(words.sentences(pair))
        assert "PGD on float, epsilon 8/255: 42.9 % right; transferred: mine 40.9 %." in said
        assert "Square attack on mine, epsilon 8/255: 40.9 % right; transferred: float 42.9 %." in said
        assert "15 fool float at more than 99 %; mine gives 15 the same class, 14 at more than 99 %." in said
        assert "Mean corruption error, float = 100: float 100.0, mine 109.0." in said

    def test_each_square_attack_is_its_own_in_the_table(self, pair: Robustness) -> None:
        rows = dict(words.table(pair))
        assert rows["square attack 8/255, on each itself"] == ("42.9 %", "40.9 %")
        assert rows["relative mean corruption error"] == ("100.0", DASH)

    def test_threshold_is_never_rounded_up(self) -> None:
        assert words.threshold_words(build_robustness("a").models[0].suggestion) == "0.712"
        sure = build_robustness("a", threshold=0.9999).models[0].suggestion
        assert words.threshold_words(sure) == "0.999"
        needless = build_robustness("a", threshold=0.0).models[0].suggestion
        assert "no threshold is needed" in words.suggestion_sentence(needless, "a")
        helpless = build_robustness("a", threshold=None).models[0].suggestion
        assert "no threshold makes 95 % of the accepted answers right" in words.suggestion_sentence(helpless, "a")


class TestTerminal:
    @pytest.mark.parametrize("kind", ["alone", "pair", "trio", "seven", "blind"])
    def test_summary_fits_80_columns_and_ends_with_headline(self, request: pytest.FixtureRequest, kind: str) -> None:
        robustness = request.getfixturevalue(kind)
        text = printed(render_robustness(robustness))
        assert max(len(line) for line in text.splitlines()) <= 80
        assert " ".join(text.split()).endswith(words.headline(robustness))

    def test_more_models_than_a_table_holds_get_another_one_beside_the_first(self, seven: Robustness) -> None:
        lines = printed(render_robustness(seven)).splitlines()
        titles = [line.split()[1:] for line in lines if line.startswith("robustness ")]
        assert titles == [
            ["float", "w8", "(1)", "w6", "w4"],
            ["float", "pruned", "shared", "w8", "(2)"],
        ]
