from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto

from edgekit.core.artifact import CARD_KEY, ModelCard
from edgekit.core.errors import GraphError, IntegrityError, UsageError
from edgekit.runtime.classify import Classifier, derive_spec, softmax
from edgekit.runtime.preprocess import read_picture, to_input
from edgekit.runtime.tensor import TensorSpec, TensorType

OnnxMaker = Callable[..., Path]


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)


class TestOwnFiles:
    @pytest.mark.parametrize("name", ["float.onnx", "int8.onnx", "float.tflite", "int8.tflite"])
    def test_classify_answers_with_the_cards_labels(
        self, tiny_models: dict[str, Path], card: ModelCard, picture: np.ndarray, name: str
    ) -> None:
        prediction = Classifier.open(tiny_models[name]).classify(picture, top_k=3)
        assert prediction.label == card.labels[prediction.index] == prediction.top[0][0]
        assert prediction.confidence == prediction.top[0][1]
        chances = [chance for _, chance in prediction.top]
        assert len(chances) == 3
        assert chances == sorted(chances, reverse=True)

    def test_classify_lists_all_classes_when_top_k_is_larger(
        self, tiny_models: dict[str, Path], card: ModelCard, picture: np.ndarray
    ) -> None:
        prediction = Classifier.open(tiny_models["float.onnx"]).classify(picture, top_k=99)
        assert {label for label, _ in prediction.top} == set(card.labels)
        assert sum(chance for _, chance in prediction.top) == pytest.approx(1.0)

    def test_classify_takes_gray_pictures_when_the_model_wants_rgb(
        self, tiny_models: dict[str, Path], picture: np.ndarray
    ) -> None:
        assert Classifier.open(tiny_models["float.onnx"]).classify(picture[:, :, :1]).label

    def test_classify_refuses_top_k_of_zero(self, tiny_models: dict[str, Path], picture: np.ndarray) -> None:
        with pytest.raises(UsageError, match="top_k is 0"):
            Classifier.open(tiny_models["float.onnx"]).classify(picture, top_k=0)

    def test_classify_puts_the_first_class_first_when_classes_tie(self, make_onnx: OnnxMaker, card: ModelCard) -> None:
        three = msgspec.structs.replace(card, labels=("one", "two", "three"))
        path = make_onnx(metadata={CARD_KEY: msgspec.json.encode(three).decode()})
        equal_mean = msgspec.structs.replace(card.preprocess, mean=(0.5,) * 3, std=(0.5,) * 3)
        prediction = Classifier.open(path, spec=equal_mean).classify(np.full((8, 8, 3), 9, np.uint8))
        assert [label for label, _ in prediction.top] == ["one", "two", "three"]
        assert prediction.confidence == pytest.approx(1 / 3)

    def test_open_takes_labels_from_a_file(self, tiny_models: dict[str, Path], tmp_path: Path) -> None:
        labels = tmp_path / "labels.txt"
        labels.write_text("a\nb\nc\nd\ne\nf\ng\n\n", encoding="utf-8")
        assert Classifier.open(tiny_models["float.onnx"], labels=labels).labels == tuple("abcdefg")

    @pytest.mark.parametrize(
        ("content", "message"), [(b"a\nb\n", "7 classes, got 2 labels"), (b"", "empty"), (b"\xff\xfe\0a", "UTF-8")]
    )
    def test_open_refuses_labels_that_cannot_serve(
        self, tiny_models: dict[str, Path], tmp_path: Path, content: bytes, message: str
    ) -> None:
        labels = tmp_path / "labels.txt"
        labels.write_bytes(content)
        with pytest.raises(UsageError, match=message):
            Classifier.open(tiny_models["float.onnx"], labels=labels)

    def test_open_names_the_labels_file_when_it_is_missing(self, tiny_models: dict[str, Path], tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"absent\.txt"):
            Classifier.open(tiny_models["float.onnx"], labels=tmp_path / "absent.txt")

    def test_open_refuses_a_card_of_another_model(self, make_onnx: OnnxMaker, card: ModelCard) -> None:
        path = make_onnx(shape=("n", 3, 9, 9), metadata={CARD_KEY: msgspec.json.encode(card).decode()})
        with pytest.raises(IntegrityError, match=r"card says input \[8, 8, 3\]"):
            Classifier.open(path)

    def test_classify_raises_graph_error_when_the_answer_is_nan(
        self, make_onnx: OnnxMaker, card: ModelCard, picture: np.ndarray
    ) -> None:
        tiny_std = msgspec.structs.replace(card.preprocess, std=(1e-300,) * 3)
        with pytest.raises(GraphError, match="NaN or infinity"), np.errstate(over="ignore"):
            Classifier.open(make_onnx(), spec=tiny_std).classify(picture)


class TestForeignFiles:
    def test_open_needs_preprocessing_when_the_file_is_foreign_and_float(self, make_onnx: OnnxMaker) -> None:
        with pytest.raises(UsageError, match="no edgekit card") as caught:
            Classifier.open(make_onnx())
        assert caught.value.hint is not None
        assert "preprocessing" in caught.value.hint

    def test_open_numbers_the_classes_when_there_are_no_labels(self, make_onnx: OnnxMaker, card: ModelCard) -> None:
        assert Classifier.open(make_onnx(), spec=card.preprocess).labels == ("class 0", "class 1", "class 2")

    def test_open_takes_plain_uint8_as_pixels(self, make_onnx: OnnxMaker, picture: np.ndarray) -> None:
        classifier = Classifier.open(make_onnx(dtype=TensorProto.UINT8))
        assert classifier.classify(picture).top

    @given(
        dtype=st.sampled_from(["int8", "uint8"]),
        scale=st.floats(2**-10, 2.0, width=32),
        zero_pixel=st.integers(0, 255),
    )
    def test_derive_spec_turns_every_pixel_into_itself(self, dtype: TensorType, scale: float, zero_pixel: int) -> None:
        offset = 128 if dtype == "int8" else 0
        tensor = TensorSpec(
            name="x", shape=(1, 16, 16, 1), dtype=dtype, layout="NHWC", scale=scale, zero_point=zero_pixel - offset
        )
        pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
        made = to_input(pixels, derive_spec(tensor, Path("x.tflite")), tensor)
        np.testing.assert_array_equal(made.astype(int) + offset, pixels)

    @pytest.mark.parametrize(
        ("file", "with_background"),
        [("tf2_mobilenet_v2_1.0_224_ptq.tflite", True), ("mobilenet_v2_1.0_224_quant.tflite", True)],
    )
    def test_classify_recognizes_real_photographs_with_a_foreign_quantized_file(
        self, shared_data: Path, file: str, with_background: bool
    ) -> None:
        models = shared_data / "models"
        classifier = Classifier.open(models / file, labels=models / "imagenet_labels.txt")
        photographs = sorted((shared_data / "imagenet-sample").glob("*.jpg"))[::20]
        right = 0
        for path in photographs:
            prediction = classifier.classify(read_picture(path))
            assert 0 < prediction.confidence <= 1
            right += prediction.index - with_background == int(path.name[:4])
        assert len(photographs) == 25
        assert right >= 19  # measured on all 500: 85 to 88 %

    def test_classify_does_not_soften_what_is_softmaxed_already(self, shared_data: Path) -> None:
        classifier = Classifier.open(shared_data / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite")
        picture = read_picture(next(iter(sorted((shared_data / "imagenet-sample").glob("0000_*.jpg")))))
        prediction = classifier.classify(picture)
        assert prediction.label == "class 1"  # tench, behind the background class
        assert prediction.confidence > 0.5  # a second softmax over 1001 classes would leave 0.003


@given(
    npst.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e6, 1e6)),
)
def test_softmax_is_a_distribution_in_the_logits_order(logits: np.ndarray) -> None:
    probabilities = softmax(logits)
    assert probabilities.sum() == pytest.approx(1.0)
    assert (np.diff(probabilities[np.argsort(logits, kind="stable")]) >= 0).all()
