"""What fine-tuning takes from the training, and what it changes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgekit.core.errors import DataError, UsageError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Silent
from edgekit.core.recipe import AugmentSection, DataSection, FinetuneSection, ModelSection, Recipe, TrainSection
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard
from edgekit.shrink.finetuning import Finetuner, Stage, find_training_pictures
from edgekit.shrink.request import ShrinkRequest
from edgekit.train.splits import make_spec, open_splits
from toy_pictures import write_folder, write_mnist

STAGE = Stage(name="zeros", epochs=5, optimizer="sgd", learning_rate=0.03)
RECIPE = Recipe(
    model=ModelSection(name="my-run"),
    data=DataSection(name="mnist"),
    augment=AugmentSection(flip=True, crop_padding=1),
    train=TrainSection(epochs=99, batch_size=64, weight_decay=1e-3, label_smoothing=0.1, warmup_epochs=3),
)


@pytest.fixture
def toy_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    write_mnist(tmp_path / "data", num_train=40, num_test=20)
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "data"))
    return "mnist"


def card(spec: PreprocessSpec) -> CheckpointCard:
    options = BuildOptions(variant="lenet_300_100", num_classes=10, in_channels=1, input_size=28)
    return CheckpointCard(options=options, labels=(), preprocess=spec, dataset="mnist", num_epochs=1)


def tuner(
    recipe: Recipe, data: str, tmp_path: Path, spec: PreprocessSpec | None = None, labels: tuple[str, ...] = ()
) -> Finetuner:
    about = msgspec.structs.replace(card(spec or make_spec(recipe, open_splits(data))), labels=labels)
    return Finetuner(ShrinkRequest(recipe=recipe, data=data, work_dir=tmp_path / "work"), about, data, Silent())


def test_training_settings_go_on(toy_mnist: str, tmp_path: Path) -> None:
    made = tuner(RECIPE, toy_mnist, tmp_path)._recipe(STAGE, toy_mnist, "start")

    assert (made.train.batch_size, made.train.weight_decay, made.train.label_smoothing) == (64, 1e-3, 0.1)
    assert (made.train.epochs, made.train.learning_rate, made.train.init) == (5, 0.03, "start")
    assert made.train.teacher == "my-run"
    assert made.train.warmup_epochs == 0.5
    assert made.augment == RECIPE.augment
    assert made.model.name == "lenet_300_100"


def test_finetune_section_changes_what_it_names(toy_mnist: str, tmp_path: Path) -> None:
    config = FinetuneSection(
        teacher="better", batch_size=16, weight_decay=0.0, ema_decay=0.9, crop_padding=0, mixup=0.3, distill_weight=0.8
    )
    made = tuner(msgspec.structs.replace(RECIPE, finetune=config), toy_mnist, tmp_path)._recipe(
        STAGE, toy_mnist, "start"
    )

    assert made.train.teacher == "better"
    assert (made.train.batch_size, made.train.weight_decay, made.train.ema_decay) == (16, 0.0, 0.9)
    assert (made.augment.crop_padding, made.augment.mixup, made.augment.flip) == (0, 0.3, True)
    assert made.train.distill_weight == 0.8


def test_no_distillation_needs_no_teacher(toy_mnist: str, tmp_path: Path) -> None:
    plain = msgspec.structs.replace(RECIPE, finetune=FinetuneSection(distill_weight=0.0))

    assert tuner(plain, toy_mnist, tmp_path)._recipe(STAGE, toy_mnist, "start").train.teacher is None


def test_shared_weights_do_not_decay(toy_mnist: str, tmp_path: Path) -> None:
    stage = msgspec.structs.replace(STAGE, decays_weights=False)

    assert tuner(RECIPE, toy_mnist, tmp_path)._recipe(stage, toy_mnist, "start").train.weight_decay == 0.0


def test_pictures_prepared_another_way_are_refused(toy_mnist: str, tmp_path: Path) -> None:
    spec = PreprocessSpec(input_size=(28, 28), num_channels=1, mean=(0.9,), std=(0.9,))

    with pytest.raises(UsageError, match="prepared"):
        tuner(RECIPE, toy_mnist, tmp_path, spec)._recipe(STAGE, toy_mnist, "start")


def test_pictures_of_classes_in_another_order_are_refused(toy_mnist: str, tmp_path: Path) -> None:
    labels = tuple(str(digit) for digit in reversed(range(10)))

    with pytest.raises(DataError, match="class 0 is '0', the model's '9'"):
        tuner(RECIPE, toy_mnist, tmp_path, labels=labels)._recipe(STAGE, toy_mnist, "start")


def test_gradients_are_of_the_models_classes_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "some", {"train": 6, "test": 2}, num_classes=2)
    names = open_splits(str(tmp_path / "some")).train.class_names
    labels = tuple(f"other {index}" for index in range(8)) + names[::-1]
    spec = PreprocessSpec(input_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)

    batches = list(tuner(RECIPE, str(tmp_path / "some"), tmp_path, spec, labels).gradient_batches())

    assert sorted(label for _, numbers in batches for label in numbers.tolist()) == [8, 8, 8, 9, 9, 9]


def test_training_pictures_are_the_first_that_are_here(toy_mnist: str) -> None:
    assert find_training_pictures((None, "fashion_mnist_mini", "nowhere", toy_mnist)) == toy_mnist
    assert find_training_pictures(("fashion_mnist_mini", None)) is None
