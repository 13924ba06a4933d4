"""Which pictures a run learns from, and at which size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import DataError, UnknownNameError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import DataSection, ModelSection, Recipe
from edgekit.data.memory import MemorySource
from edgekit.runtime.preprocess import fit_picture
from edgekit.train import splits
from edgekit.train.splits import check_trainable, fit_in_memory, make_spec, open_splits
from toy_pictures import draw_pictures, toy_source, write_folder


def recipe(name: str, input_size: int | None = None) -> Recipe:
    return Recipe(model=ModelSection(name="mobilenet_v1", input_size=input_size), data=DataSection(name=name))


def test_catalogue_dataset_is_validated_on_its_test_pictures(toy_mnist: str) -> None:
    opened = open_splits(toy_mnist)

    assert opened.validation is opened.test
    assert (len(opened.train), opened.test and len(opened.test)) == (96, 40)
    spec = make_spec(recipe(toy_mnist), opened)
    assert (spec.input_size, spec.num_channels, spec.crop_fraction) == ((28, 28), 1, 1.0)


@pytest.mark.parametrize(
    ("parts", "validation", "test"),
    [
        ({"train": 6, "val": 4, "test": 2}, "val", "test"),
        ({"train": 6, "test": 2}, "test", "test"),
        ({"train": 6, "val": 4}, "val", "test"),  # the folder reader gives `val` as test pictures
    ],
)
def test_folder_is_validated_on_val_else_test(
    tmp_path: Path, parts: dict[str, int], validation: str, test: str
) -> None:
    write_folder(tmp_path, parts)

    opened = open_splits(str(tmp_path))

    assert opened.validation is not None
    assert opened.test is not None
    assert (opened.validation.split, opened.test.split) == (validation, test)
    spec = make_spec(recipe(str(tmp_path)), opened)
    assert (spec.input_size, spec.num_channels, spec.crop_fraction) == ((224, 224), 3, 0.875)
    assert make_spec(recipe(str(tmp_path), 96), opened).input_size == (96, 96)


def test_folder_named_like_a_dataset_is_still_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "mnist", {"train": 4, "test": 2})
    monkeypatch.chdir(tmp_path)

    assert len(open_splits("./mnist").train) == 4


def test_folder_with_training_pictures_only_has_no_validation_when_its_hash_gives_none(tmp_path: Path) -> None:
    # Names whose hash says "train"; see edgekit.data.folder.hash_split.
    write_folder(tmp_path / "other", {"": 2})
    for label in (0, 1):
        source = tmp_path / "other" / f"class_{label}" / f"{label:04d}.png"
        target = tmp_path / "set" / f"class_{label}" / "0001.jpg"
        target.parent.mkdir(parents=True)
        source.rename(target)

    opened = open_splits(str(tmp_path / "set"))

    assert opened.validation is None
    assert opened.test is None


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 4, "test": 4}, num_classes=1)

    with pytest.raises(DataError, match="at least 2 classes"):
        open_splits(str(tmp_path))


@pytest.mark.parametrize(("labels", "message"), [(None, "have none"), (np.zeros(3, np.int64), "show 1")])
def test_pictures_that_teach_nothing_are_refused(labels: np.ndarray | None, message: str) -> None:
    pictures, _ = draw_pictures(3)
    source = MemorySource(name="toy", split="train", class_names=("a", "b"), pictures=pictures, labels=labels)

    with pytest.raises(DataError, match=message):
        check_trainable(source)


def test_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        open_splits("fashion_mnits")

    assert caught.value.suggestion in {"fashion_mnist", "fashion_mnist_mini"}


def test_memory_is_resized_once_as_the_board_resizes() -> None:
    source = toy_source(5)
    spec = PreprocessSpec(input_size=(40, 40), num_channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)

    fitted = fit_in_memory(source, spec)

    assert fitted is not None
    assert fitted.pictures.shape == (5, 40, 40, 3)
    np.testing.assert_array_equal(fitted.pictures[3], fit_picture(source.pictures[3], spec))
    assert fitted.labels is source.labels


def test_memory_of_the_right_size_is_taken_as_it_is() -> None:
    source = toy_source(5)
    spec = PreprocessSpec(input_size=(28, 28), num_channels=1, mean=(0.5,), std=(0.5,))

    assert fit_in_memory(source, spec) is source


def test_memory_that_would_become_too_large_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = PreprocessSpec(input_size=(224, 224), num_channels=1, mean=(0.5,), std=(0.5,))
    monkeypatch.setattr(splits, "MAX_RESIZED_BYTES", 5 * 224 * 224)

    assert fit_in_memory(toy_source(5), spec) is not None
    assert fit_in_memory(toy_source(6), spec) is None
