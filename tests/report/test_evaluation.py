"""An evaluation as JSON, page, terminal text and sentences."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from edgekit.core.errors import IntegrityError, UsageError
from edgekit.core.evaluation import Evaluation
from edgekit.report import evaluation as words
from edgekit.report.evaluation_charts import reliability_bars, roc_lines
from edgekit.report.evaluation_files import read_evaluation, write_evaluation
from edgekit.report.evaluation_page import render_evaluation_html
from edgekit.report.evaluation_text import render_evaluation
from edgekit.report.files import encode_report
from evaluations import build_evaluation
from page_texts import EVIL, LONG, printed, text_of
from schema_docs import described_structs

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def alone() -> Evaluation:
    return build_evaluation()


@pytest.fixture(scope="module")
def pair() -> Evaluation:
    return build_evaluation(other="squeezenet")


@pytest.fixture(scope="module")
def imbalanced() -> Evaluation:
    return build_evaluation((300, 40, 20, 0), num_left_out=2)


@pytest.fixture(scope="module")
def one_class() -> Evaluation:
    return build_evaluation((9, 0, 0, 0))


class TestFiles:
    def test_json_reads_back_as_it_was(self, pair: Evaluation, tmp_path: Path) -> None:
        files = write_evaluation(pair, tmp_path)
        assert read_evaluation(files.json_path) == read_evaluation(tmp_path) == pair
        assert (files.json_path.name, files.html_path.name) == ("evaluate.json", "evaluate.html")

    def test_first_version_stays_readable(self) -> None:
        golden = Path(__file__).parent.parent / "golden" / "evaluate_v1.json"
        found = read_evaluation(golden)
        assert encode_report(found) == golden.read_text(encoding="utf-8")
        assert found.other is not None
        assert found.comparison is not None
        assert found.comparison.n == found.model.scores.accuracy.n == 200
        assert words.headline(found) in text_of(render_evaluation_html(found))

    def test_newer_version_is_refused(self, alone: Evaluation, tmp_path: Path) -> None:
        path = write_evaluation(msgspec.structs.replace(alone, version=99), tmp_path).json_path
        with pytest.raises(IntegrityError, match="report version 99, expected at most 1"):
            read_evaluation(path)

    def test_absent_file_says_what_makes_one(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no report at") as caught:
            read_evaluation(tmp_path)
        assert "edgekit evaluate" in (caught.value.hint or "")

    def test_docs_name_every_struct_and_field_of_the_schema(self, repository: Path) -> None:
        seen = described_structs(repository / "docs" / "evaluate.md", Evaluation)
        assert {"Evaluation", "ReliabilityBin", "RocCurve", "Comparison", "TopK"} <= seen


class TestPage:
    @pytest.mark.parametrize("kind", ["alone", "pair", "imbalanced", "one_class"])
    def test_page_holds_every_section_and_asks_for_nothing(self, request: pytest.FixtureRequest, kind: str) -> None:
        evaluation = request.getfixturevalue(kind)
        page = render_evaluation_html(evaluation)
        ids = set(re.findall(r'<section id="(\w+)"', page))
        expected = {"verdict", "accuracy", "classes", "roc", "calibration", "confusion", "run"}
        assert ids == expected | ({"comparison"} if evaluation.other else set())
        assert set(re.findall(r'href="#(\w+)"', page)) <= ids
        assert not re.search(r'(?:src|href)="(?!#)', page)
        assert words.headline(evaluation) in text_of(page)

    def test_pair_shows_who_was_right(self, pair: Evaluation) -> None:
        assert pair.comparison is not None
        text = text_of(render_evaluation_html(pair))
        assert f"squeezenet right wrong runs/mine/model.tflite right {pair.comparison.num_both_right}" in text.replace(
            "/ ", "/"
        ).replace("model. tflite", "model.tflite")
        assert "runs/mine/model.tflite is right more often than squeezenet" in text

    def test_names_are_escaped(self) -> None:
        page = render_evaluation_html(build_evaluation(names=(EVIL, "bee", "cat", "dog"), model=EVIL, other=EVIL))
        assert "<script>alert" not in page
        assert "\x1b" not in page

    def test_classes_without_curve_are_said_to_have_none(self, one_class: Evaluation) -> None:
        assert "so there is no curve" in text_of(render_evaluation_html(one_class))

    @pytest.mark.parametrize("width", [1280, 820, 390, 320])
    def test_page_never_scrolls_sideways(self, browser: Browser, tmp_path: Path, width: int) -> None:
        names = tuple(f"{LONG}{index}" for index in range(4))
        evaluation = build_evaluation((30, 5, 5, 5), names=names, model=LONG, other=f"{LONG}2")
        path = write_evaluation(evaluation, tmp_path).html_path
        troubles: list[str] = []
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.set_default_timeout(120_000)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.locator("#class-table th", has_text="Recall").locator("button").click()
        cells = page.locator("#class-table tbody tr > :nth-child(4)")
        values = [float(cells.nth(index).get_attribute("data-value") or "nan") for index in range(cells.count())]
        page.close()
        assert values == sorted(values)
        assert len(values) == 4
        assert troubles == []


class TestCharts:
    def test_macro_curve_is_drawn_above_the_others_from_corner_to_corner(self, alone: Evaluation) -> None:
        lines = roc_lines(alone.model.scores)
        assert [line.is_macro for line in lines] == [False] * 4 + [True]
        for line in lines:
            assert line.path.startswith("0.000,100.000 ")
            assert line.path.endswith(" 100.000,0.000")

    def test_reliability_bars_are_the_bins_that_hold_pictures(self, alone: Evaluation) -> None:
        calibration = alone.model.scores.calibration
        bars = reliability_bars(calibration)
        assert len(bars) == sum(row.num_pictures > 0 for row in calibration.bins)
        assert max(bar.share_height for bar in bars) == 100.0
        for bar in bars:
            assert 0 <= bar.high <= bar.top <= bar.low <= 100


class TestWords:
    def test_balanced_accuracy_comes_first_when_imbalanced(self, imbalanced: Evaluation, alone: Evaluation) -> None:
        assert words.headline(imbalanced).startswith("Balanced accuracy")
        assert words.headline(alone).startswith("Top-1 accuracy")
        assert words.average_rows(imbalanced)[0][0] == "balanced accuracy"
        assert words.average_rows(alone)[0][0] == "top-1"

    def test_remarks_say_what_to_mind(self, imbalanced: Evaluation) -> None:
        said = " ".join(words.remarks(imbalanced))
        assert "ant has 15.0 times the pictures of cat" in said
        assert "always answering ant would be right on 83.3 %" in said
        assert "1 class has no pictures here: dog" in said
        assert "2 unreadable pictures were left out" in said

    def test_comparison_is_named_from_the_winner(self, pair: Evaluation) -> None:
        assert pair.comparison is not None
        swapped = msgspec.structs.replace(pair.comparison, difference=-pair.comparison.difference)
        assert words.comparison_sentence(swapped, "mine", "theirs").startswith("theirs is right more often than mine")
        tied = msgspec.structs.replace(pair.comparison, p_value=0.05)
        assert words.comparison_sentence(tied, "mine", "theirs").startswith("Not told apart")

    def test_p_value_is_not_printed_as_zero(self) -> None:
        assert words.format_p(1e-300) == "p < 0.0001"


class TestTerminal:
    @pytest.mark.parametrize("kind", ["alone", "pair", "imbalanced", "one_class"])
    def test_summary_fits_80_columns_and_ends_with_headline(self, request: pytest.FixtureRequest, kind: str) -> None:
        evaluation = request.getfixturevalue(kind)
        lines = printed(render_evaluation(evaluation)).splitlines()
        assert max(len(line) for line in lines) <= 80
        assert " ".join(lines[-1].split()) == words.headline(evaluation)

    def test_summary_lists_the_ten_classes_found_least(self) -> None:
        names = tuple(f"kind {index}" for index in range(30))
        text = printed(render_evaluation(build_evaluation((10,) * 30, names=names)))
        assert "10 classes found least" in text
        assert len(re.findall(r"^kind \d+", text, flags=re.MULTILINE)) == 10

    def test_summary_says_nothing_of_the_least_when_every_class_with_pictures_is_listed(self) -> None:
        text = printed(render_evaluation(build_evaluation((9, 0, 0, 0))))
        assert "found least" not in text
        assert len(re.findall(r"^class +pictures", text, flags=re.MULTILINE)) == 1

    def test_control_characters_never_reach_the_terminal(self) -> None:
        assert "\x1b" not in printed(
            render_evaluation(build_evaluation(names=(EVIL, "bee", "cat", "dog"), model=EVIL, other=EVIL))
        )
