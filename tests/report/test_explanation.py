"""An explanation as JSON, page, terminal text and sentences."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import pytest

from edgekit.core.errors import IntegrityError, UsageError
from edgekit.core.explanation import Explanation, GradCam
from edgekit.report import explanation as words
from edgekit.report.explanation_files import read_explanation, write_explanation
from edgekit.report.explanation_page import render_explanation_html
from edgekit.report.explanation_text import render_explanation
from edgekit.report.files import encode_report
from edgekit.report.overlays import COOL, WARM, gradient_png, heat_png, patch_png, picture_png
from explanations import answered, build_explanation, build_maps, occlusion
from page_texts import EVIL, LONG, printed, text_of
from schema_docs import described_structs

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def pair() -> Explanation:
    return build_explanation()


@pytest.fixture(scope="module")
def float_only() -> Explanation:
    return build_explanation(file=False)


@pytest.fixture(scope="module")
def file_only(pair: Explanation) -> Explanation:
    bare = {"float_answer": None, "float_occlusion": None, "occlusion_correlation": None, "grad_cam": None}
    pictures = tuple(msgspec.structs.replace(one, layers=(), **bare) for one in pair.pictures)
    return msgspec.structs.replace(
        pair, float_model=None, gradient=None, pictures=pictures, notes=("Only the file is known.",)
    )


def drawn(explanation: Explanation) -> str:
    return render_explanation_html(explanation, build_maps(explanation))


def pixels(png: str) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[:, :, ::-1].astype(int)


class TestFiles:
    def test_json_reads_back_as_it_was(self, pair: Explanation, tmp_path: Path) -> None:
        files = write_explanation(pair, build_maps(pair), tmp_path)
        assert read_explanation(files.json_path) == read_explanation(tmp_path) == pair
        assert (files.json_path.name, files.html_path.name) == ("explain.json", "explain.html")

    def test_first_version_stays_readable(self) -> None:
        golden = Path(__file__).parent.parent / "golden" / "explain_v1.json"
        found = read_explanation(golden)
        assert encode_report(found) == golden.read_text(encoding="utf-8")
        assert found.pictures[0].occlusion_correlation == 0.93

    def test_newer_version_is_refused(self, pair: Explanation, tmp_path: Path) -> None:
        path = write_explanation(msgspec.structs.replace(pair, version=99), build_maps(pair), tmp_path).json_path
        with pytest.raises(IntegrityError, match="report version 99, expected at most 1"):
            read_explanation(path)

    def test_absent_file_says_what_makes_one(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no report at") as caught:
            read_explanation(tmp_path)
        assert "edgekit explain" in (caught.value.hint or "")

    def test_docs_name_every_struct_and_field_of_the_schema(self, repository: Path) -> None:
        seen = described_structs(repository / "docs" / "explain.md", Explanation)
        assert seen == {
            "Explanation", "PictureExplanation", "Answered", "Occlusion", "GradCam", "LayerResponses", "ChannelResponse"
        }  # fmt: skip


class TestPage:
    @pytest.mark.parametrize(("kind", "num_maps"), [("pair", 6), ("float_only", 5), ("file_only", 2)])
    def test_page_holds_every_map_and_asks_for_nothing(
        self, request: pytest.FixtureRequest, kind: str, num_maps: int
    ) -> None:
        explanation = request.getfixturevalue(kind)
        page = drawn(explanation)
        ids = set(re.findall(r'<section id="([\w-]+)"', page))
        assert ids == {"verdict", "reading", "picture-1", "picture-2", "run"}
        assert set(re.findall(r'href="#([\w-]+)"', page)) <= ids
        assert not re.search(r'(?:src|href)="(?!#|data:image/png;base64,)', page)
        assert page.count("<figure>") == 2 * num_maps
        num_channels = sum(len(layer.channels) for one in explanation.pictures for layer in one.layers)
        assert page.count("<img ") == 2 * num_maps + 2 * num_channels
        assert words.headline(explanation) in text_of(page)

    def test_what_is_missing_is_said(self, file_only: Explanation) -> None:
        text = text_of(drawn(file_only))
        assert "Only the file is known." in text
        assert "Grad-CAM" not in text

    def test_network_without_rectifiers_shows_its_gradient_once(self, float_only: Explanation) -> None:
        page = drawn(msgspec.structs.replace(float_only, gradient="plain"))
        assert page.count("<figure>") == 2 * 4
        assert "Gradient, float" in text_of(page)
        assert "Guided" not in text_of(page)

    def test_deconvolution_that_dies_out_is_said_to(self, float_only: Explanation) -> None:
        maps = build_maps(float_only)
        assert "nothing passes" not in render_explanation_html(float_only, maps)
        dead = tuple(tuple(np.zeros_like(image) for image in layer) for layer in maps[0].channels)
        blank = (msgspec.structs.replace(maps[0], channels=dead), maps[1])
        assert render_explanation_html(float_only, blank).count("nothing passes the rectifiers") == 3

    def test_names_are_escaped(self) -> None:
        page = drawn(build_explanation(names=(EVIL, "dog"), given=EVIL))
        assert "<script>alert" not in page
        assert "\x1b" not in page

    @pytest.mark.parametrize("width", [1280, 820, 390, 320])
    def test_page_never_scrolls_sideways(self, browser: Browser, tmp_path: Path, width: int) -> None:
        explanation = build_explanation(names=(LONG, f"{LONG}2"), given=LONG)
        path = write_explanation(explanation, build_maps(explanation), tmp_path).html_path
        troubles: list[str] = []
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.set_default_timeout(120_000)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        widths = page.eval_on_selector_all(".maps img", "images => images.map(image => image.naturalWidth)")
        page.close()
        assert len(widths) == 12
        assert min(widths) >= 224
        assert troubles == []


class TestGradCam:
    @pytest.mark.parametrize(
        ("values", "said", "drawn_as"),
        [
            (((0.0, 2.0),), "2x1 maps of last", ((0.0, 2.0),)),
            (
                ((6.0, 8.0),),
                "2x1 maps of last: they speak for the class everywhere, at least 75 % of the most",
                ((0.0, 2.0),),
            ),
            (((7.5, 8.0),), "2x1 maps of last: they speak for the class everywhere alike", ((0.0, 0.0),)),
            (((0.0, 0.0),), "2x1 maps of last: nothing in them speaks for the class", ((0.0, 0.0),)),
        ],
        ids=["from zero", "sure", "flat", "nothing"],
    )
    def test_map_is_drawn_from_its_least_value_to_its_largest(
        self, float_only: Explanation, values: tuple[tuple[float, ...], ...], said: str, drawn_as: tuple[Any, ...]
    ) -> None:
        cam = GradCam(layer="last", values=values)
        pictures = tuple(msgspec.structs.replace(one, grad_cam=cam) for one in float_only.pictures)
        explanation = msgspec.structs.replace(float_only, pictures=pictures)
        maps = build_maps(explanation)
        page = render_explanation_html(explanation, maps)
        assert words.cam_caption(cam) == said
        assert said in text_of(page)
        assert heat_png(maps[0].picture, np.array(drawn_as), 2.0, gamma=1.0) in page


class TestOverlays:
    def test_heat_is_warm_where_the_map_is_high_and_cool_where_it_is_low(self) -> None:
        picture = np.full((28, 28, 1), 128, np.uint8)
        values = np.zeros((4, 4))
        values[0, 3], values[3, 0] = 0.5, -0.5
        image = pixels(heat_png(picture, values, 0.5))
        side = len(image)
        assert side >= 224
        plain, warm, cool = image[side // 2, side // 2], image[4, side - 5], image[side - 5, 4]
        assert np.ptp(plain) == 0
        assert abs(warm - WARM).max() < 40
        assert abs(cool - COOL).max() < 40

    def test_flat_map_leaves_the_picture_gray(self) -> None:
        image = pixels(heat_png(np.full((32, 48, 3), (10, 200, 90), np.uint8), np.zeros((4, 6)), 0.0))
        assert np.ptp(image) == 0

    def test_gradient_of_zero_is_middle_gray(self) -> None:
        gradient = np.zeros((16, 16, 1), np.float32)
        assert set(pixels(gradient_png(gradient)).ravel()) == {128}
        gradient[3, 4], gradient[9, 9] = 2.0, -2.0
        image = pixels(gradient_png(gradient, (2, 2, 12, 12)))
        assert image.max() == 255
        assert image.min() == 0

    def test_small_pictures_are_enlarged_pixel_by_pixel(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
        assert np.array_equal(pixels(picture_png(picture))[::8, ::8], picture)
        assert pixels(patch_png(picture, (3, 4, 7, 9))).shape == (112, 140, 3)

    def test_large_parts_are_shrunk(self) -> None:
        picture = np.zeros((600, 900, 3), np.uint8)
        assert pixels(patch_png(picture, (0, 0, 600, 900))).shape == (112, 168, 3)


class TestWords:
    @pytest.mark.parametrize(
        ("correlation", "places"),
        [(0.97, "hang on the same parts"), (0.6, "hang on partly other parts"), (0.1, "hang on other parts")],
    )
    def test_headline_says_whether_both_look_at_the_same(
        self, pair: Explanation, correlation: float, places: str
    ) -> None:
        pictures = tuple(msgspec.structs.replace(one, occlusion_correlation=correlation) for one in pair.pictures)
        headline = words.headline(msgspec.structs.replace(pair, pictures=pictures))
        assert places in headline
        assert headline.endswith(f"correlation {correlation:.2f}")

    def test_headline_of_maps_that_cannot_be_compared(self, pair: Explanation) -> None:
        pictures = tuple(msgspec.structs.replace(one, occlusion_correlation=None) for one in pair.pictures)
        assert "cannot be compared" in words.headline(msgspec.structs.replace(pair, pictures=pictures))

    def test_headline_of_one_model_names_it(self, float_only: Explanation) -> None:
        assert words.headline(float_only) == "What runs/mine looks at in 2 pictures"

    def test_different_answers_are_remarked(self, pair: Explanation) -> None:
        changed = msgspec.structs.replace(pair.pictures[0], file_answer=answered("dog", "cat", 0.6))
        said = words.remarks(msgspec.structs.replace(pair, pictures=(changed, pair.pictures[1])))
        assert said == ["cat.png: the float model answers cat, the file dog. Explained on both is cat."]

    def test_sentence_tells_an_enlarged_picture_and_a_chosen_class(self, pair: Explanation) -> None:
        picture = msgspec.structs.replace(pair.pictures[0], width=20, height=40, is_chosen=True)
        sentence = words.picture_sentence(picture, pair)
        assert sentence.startswith("Explained is cat, the class that was asked for.")
        assert "has 20x40 pixels and was enlarged: the model sees 32x32" in sentence

    def test_map_without_drop_is_said_to_show_nothing(self, pair: Explanation) -> None:
        side = words.sides_of(pair.pictures[0], pair)[0]
        flat = msgspec.structs.replace(side, occlusion=msgspec.structs.replace(occlusion(0), largest_drop=0.004))
        assert words.drop_sentence(flat).startswith("No square of 6 pixels takes more than 1 point from the 90.0 %")
        assert words.drop_sentence(side).startswith("Falls from 90.0 % to ")

    def test_both_maps_have_one_scale(self, pair: Explanation) -> None:
        picture = pair.pictures[0]
        assert picture.float_occlusion is not None
        assert words.strongest_heat(picture) == picture.float_occlusion.largest_drop

    def test_faint_maps_stay_faint(self, float_only: Explanation) -> None:
        faint = msgspec.structs.replace(float_only.pictures[0], float_occlusion=occlusion(0, 0.01))
        assert words.strongest_heat(faint) == 0.1


class TestTerminal:
    @pytest.mark.parametrize("kind", ["pair", "float_only", "file_only"])
    def test_summary_fits_80_columns_and_ends_with_headline(self, request: pytest.FixtureRequest, kind: str) -> None:
        explanation = request.getfixturevalue(kind)
        text = printed(render_explanation(explanation))
        assert max(len(line) for line in text.splitlines()) <= 80
        assert " ".join(text.split()).endswith(" ".join(words.headline(explanation).split()))

    def test_control_characters_never_reach_the_terminal(self) -> None:
        assert "\x1b" not in printed(render_explanation(build_explanation(names=(EVIL, "dog"), given=EVIL)))
