from __future__ import annotations

import json
from pathlib import Path

import pytest

import bench_adversarial
from bench_adversarial import main, recipe_for, train_and_attack, with_attack
from edgekit.core.errors import UsageError
from edgekit.core.recipe import DataSection, ModelSection, Recipe, TrainSection
from toy_pictures import write_mnist

TOY = Recipe(
    model=ModelSection(name="lenet_300_100"),
    data=DataSection(name="mnist"),
    train=TrainSection(epochs=3, batch_size=16, learning_rate=0.05),
)


@pytest.fixture
def toy_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "data", num_train=96, num_test=40)
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "data"))


@pytest.mark.usefixtures("toy_mnist")
def test_attacks_never_leave_more_right_answers_than_there_were(tmp_path: Path) -> None:
    figures = train_and_attack(with_attack(TOY, "plain", 0.3), tmp_path, 40, 20)

    clean, under_pgd, under_square = (figures[f"{name}_top1_percent"] for name in ("clean", "pgd", "square"))
    assert isinstance(clean, float)
    assert isinstance(under_pgd, float)
    assert isinstance(under_square, float)
    assert (figures["clean_n"], figures["pgd_n"], figures["square_n"]) == (40, 40, 20)
    assert under_pgd < clean
    assert under_square <= clean


def test_plain_is_attacked_with_the_same_epsilon_and_trained_without() -> None:
    plain, robust = (with_attack(TOY, method, 0.2).train for method in ("plain", "pgd"))

    assert (plain.adversarial, robust.adversarial) == (None, "pgd")
    assert plain.adversarial_epsilon == robust.adversarial_epsilon == 0.2


@pytest.mark.usefixtures("toy_mnist")
def test_quick_run_prints_one_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bench_adversarial, "recipe_for", lambda *_: TOY)
    monkeypatch.setattr(bench_adversarial, "NUM_QUERIES", 10)

    code = main(["--quick", "--data", "mnist", "--runs", str(tmp_path / "runs")])

    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {"plain_pgd_top1_percent", "fgsm_pgd_top1_percent", "fgsm_square_top1_high_percent"} <= document.keys()
    assert (tmp_path / "runs" / "fgsm" / "recipe.toml").is_file()


def test_shipped_recipe_gets_another_number_of_epochs_and_nothing_else() -> None:
    recipe = recipe_for("lenet5", "fashion_mnist", 2)

    assert (recipe.model.name, recipe.train.epochs, recipe.train.adversarial) == ("lenet5", 2, None)
    with pytest.raises(UsageError, match="no shipped recipe"):
        recipe_for("lenet5", "nowhere", 2)
