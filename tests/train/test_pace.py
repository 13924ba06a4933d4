"""How far each step goes where the recipe leaves it open."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.recipe import DataSection, ModelSection, Recipe, TrainSection
from edgekit.core.recipe_files import load_recipe
from edgekit.models.counting import sketch
from edgekit.models.zoo import parse_model_name, with_sizes
from edgekit.train.pace import ATTENTIVE, NORMALIZED, PLAIN, Pace, choose_pace
from edgekit.train.run import train
from toy_pictures import write_folder


def usual(name: str, input_size: int = 32) -> Pace:
    options = with_sizes(parse_model_name(name), input_size=input_size)
    return choose_pace(TrainSection(), sketch(options))


@pytest.mark.parametrize(
    ("name", "input_size", "expected"),
    [
        ("mobilenet_v2", 32, NORMALIZED),
        ("vgg16", 32, NORMALIZED),  # the small-image form has BatchNorm
        ("vgg16", 224, PLAIN),
        ("googlenet", 224, PLAIN),
        ("lenet5", 28, PLAIN),
        ("vit_ti_16_w0.33_d4", 32, ATTENTIVE),
    ],
)
def test_pace_is_that_of_the_kind_of_network(name: str, input_size: int, expected: Pace) -> None:
    assert usual(name, input_size) == expected


def test_what_the_recipe_says_is_kept() -> None:
    network = sketch(with_sizes(parse_model_name("lenet5"), input_size=28))

    assert choose_pace(TrainSection(learning_rate=0.05), network) == Pace(
        optimizer="sgd", learning_rate=0.05, weight_decay=5e-4, grad_clip=0.0
    )
    assert choose_pace(TrainSection(optimizer="adamw", grad_clip=2.0), network) == Pace(
        optimizer="adamw", learning_rate=1e-3, weight_decay=5e-4, grad_clip=2.0
    )
    transformer = sketch(with_sizes(parse_model_name("vit_ti_16_w0.33_d4"), input_size=32))
    assert choose_pace(TrainSection(optimizer="sgd"), transformer).learning_rate == PLAIN.learning_rate


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet5", "vit_ti_16_w0.33_d4"])
def test_networks_without_batch_norm_learn_without_a_recipe(name: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"train": 256, "test": 64}, size=32, num_classes=4)
    recipe = Recipe(
        model=ModelSection(name=name, input_size=32),
        data=DataSection(name=str(tmp_path / "data")),
        train=TrainSection(epochs=10, batch_size=16),
    )

    made = train(recipe, tmp_path / "run")

    assert made.history[-1].train_loss < 0.75 * made.history[0].train_loss
    written = load_recipe(tmp_path / "run" / "recipe.toml").train
    assert None not in (written.optimizer, written.learning_rate, written.weight_decay, written.grad_clip)
