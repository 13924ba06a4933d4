"""From a recipe to a run folder."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from edgekit.core.errors import CheckpointError, EdgekitError, OutputError, RecipeError, TrainingError, UsageError
from edgekit.core.history import EpochRow
from edgekit.core.recipe import AugmentSection, DataSection, ModelSection, Recipe, TrainSection
from edgekit.core.recipe_files import load_recipe, override_recipe
from edgekit.models.checkpoint import load_checkpoint, save_checkpoint
from edgekit.models.folded import fold_batch_norms
from edgekit.prune.masking import GradualMasks
from edgekit.prune.sparsity import LayerSparsity, SparsityPlan
from edgekit.train.device import choose_device, has_bf16, place
from edgekit.train.feed import BatchMaker
from edgekit.train.run import CHECKPOINT_NAME, RECIPE_NAME, STATE_NAME, RunHooks, train
from edgekit.train.splits import make_spec, open_splits
from edgekit.train.validation import validate_on
from toy_pictures import write_folder

TINY = ModelSection(name="mobilenet_v1", width=0.125)


def make_recipe(data: str, *overrides: str, **settings: float) -> Recipe:
    config = TrainSection(**{"epochs": 2, "batch_size": 16, "learning_rate": 0.05} | settings)  # type: ignore[arg-type]
    return override_recipe(Recipe(model=TINY, data=DataSection(name=data), train=config), overrides)


def interrupt(*_: object) -> None:
    """Ctrl-C after the first epoch."""
    raise KeyboardInterrupt


def test_training_leaves_a_complete_run_folder(toy_mnist: str, tmp_path: Path) -> None:
    recipe = make_recipe(toy_mnist)
    calls: list[tuple[int, Path]] = []

    def on_epoch(history: list[EpochRow], run_dir: Path) -> None:
        calls.append((len(history), run_dir))

    run = train(recipe, tmp_path / "run", command="edgekit train mobilenet_v1", hooks=RunHooks(on_epoch=on_epoch))

    assert calls == [(1, tmp_path / "run"), (2, tmp_path / "run")]
    written = load_recipe(tmp_path / "run" / RECIPE_NAME)
    pace = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 5e-4, "grad_clip": 0.0}
    left_open = {key: value for key, value in pace.items() if getattr(recipe.train, key) is None}
    train_section = msgspec.structs.replace(recipe.train, **left_open)
    assert written == msgspec.structs.replace(recipe, train=train_section)
    module, card = load_checkpoint(run.checkpoint_path)
    assert card == run.card
    assert (card.dataset, card.num_epochs, card.num_test, card.command) == (
        "mnist",
        2,
        40,
        "edgekit train mobilenet_v1",
    )
    assert card.test_top1 == run.history[-1].val_top1
    assert (card.options.num_classes, card.options.in_channels, card.options.input_size) == (10, 1, 28)
    assert module(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    history = msgspec.json.decode((tmp_path / "run" / "history.json").read_bytes(), type=list[EpochRow])
    assert history == run.history
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_training_learns(toy_mnist: str, tmp_path: Path) -> None:
    run = train(make_recipe(toy_mnist, epochs=14), tmp_path / "run")

    assert run.card.test_top1 is not None
    assert run.card.test_top1 > 0.9


def test_run_folder_says_the_same_twice_and_leaves_randomness_alone(toy_mnist: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)

    first = train(make_recipe(toy_mnist), tmp_path / "first")
    after = torch.rand(3)
    again = train(make_recipe(toy_mnist), tmp_path / "again")
    other = train(make_recipe(toy_mnist, seed=1), tmp_path / "other")

    assert torch.equal(after, expected)
    assert first.card.sha256 == again.card.sha256 != other.card.sha256


def test_interrupted_run_resumes_to_the_same_weights(toy_mnist: str, tmp_path: Path) -> None:
    recipe = make_recipe(toy_mnist, ema_decay=0.9)
    expected = train(recipe, tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", hooks=RunHooks(on_epoch=interrupt))
    assert not (tmp_path / "cut" / CHECKPOINT_NAME).exists()
    actual = train(recipe, tmp_path / "cut", resume=True)

    assert actual.card.sha256 == expected.card.sha256
    assert [row.val_loss for row in actual.history] == [row.val_loss for row in expected.history]


def test_finished_run_is_resumed_without_training(toy_mnist: str, tmp_path: Path) -> None:
    recipe = make_recipe(toy_mnist)
    first = train(recipe, tmp_path)

    again = train(recipe, tmp_path, resume=True)

    assert again.card.sha256 == first.card.sha256
    assert again.history == first.history


def test_resuming_where_nothing_is_starts_anew(toy_mnist: str, tmp_path: Path) -> None:
    assert len(train(make_recipe(toy_mnist), tmp_path / "new", resume=True).history) == 2


def test_resuming_with_another_recipe_is_refused(toy_mnist: str, tmp_path: Path) -> None:
    train(make_recipe(toy_mnist), tmp_path)

    with pytest.raises(TrainingError, match=r"\[augment\] of its recipe\.toml"):
        train(make_recipe(toy_mnist, "augment.flip=true"), tmp_path, resume=True)


def test_resuming_from_a_damaged_state_is_refused(toy_mnist: str, tmp_path: Path) -> None:
    train(make_recipe(toy_mnist), tmp_path)
    (tmp_path / STATE_NAME).write_bytes(b"damaged")

    with pytest.raises(CheckpointError, match="is no training state"):
        train(make_recipe(toy_mnist), tmp_path, resume=True)


def test_absurd_learning_rate_is_a_clear_error(toy_mnist: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss is") as caught:
        train(make_recipe(toy_mnist, learning_rate=1e30, warmup_epochs=0.0, epochs=4), tmp_path)

    assert "learning_rate" in str(caught.value.hint)
    assert not (tmp_path / CHECKPOINT_NAME).exists()


def test_folder_trains_from_its_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"train": 24, "val": 8, "test": 6})
    (tmp_path / "data" / "train" / "class_0" / "0000.png").write_bytes(b"damaged")

    run = train(make_recipe(str(tmp_path / "data"), "model.input_size=32", epochs=1), tmp_path / "run")

    assert (run.card.labels, run.card.num_test) == (("class_0", "class_1"), 6)
    assert run.card.preprocess.crop_fraction == 0.875
    assert run.card.test_top1 is not None
    assert run.history[0].val_top1 is not None
    assert any("unreadable" in note and "0000.png" in note for note in run.notes)


def test_folder_resumes_exactly(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"train": 24, "test": 4})
    recipe = make_recipe(str(tmp_path / "data"), "model.input_size=32", "augment.flip=true")
    expected = train(recipe, tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", hooks=RunHooks(on_epoch=interrupt))

    assert train(recipe, tmp_path / "cut", resume=True).card.sha256 == expected.card.sha256


def test_run_learns_from_an_earlier_run(toy_mnist: str, tmp_path: Path) -> None:
    train(make_recipe(toy_mnist), tmp_path / "teacher")
    recipe = make_recipe(toy_mnist, f"train.teacher={tmp_path / 'teacher'}", "model.width=0.0625")

    run = train(recipe, tmp_path / "student")

    assert run.card.options.width == 0.0625


def test_bf16_falls_back_with_a_note_when_the_device_lacks_it(
    toy_mnist: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.train.loop.has_bf16", lambda _: False)

    run = train(make_recipe(toy_mnist, "train.precision=bf16", epochs=1), tmp_path)

    assert any("no bf16" in note for note in run.notes)


def test_bf16_trains_when_the_device_has_it(toy_mnist: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every device computes bf16; the question asked of it is whether that pays.
    monkeypatch.setattr("edgekit.train.loop.has_bf16", lambda _: True)

    run = train(make_recipe(toy_mnist, "train.precision=bf16"), tmp_path)

    assert run.notes == ()
    assert run.history[-1].train_loss < 3
    module, _ = load_checkpoint(run.checkpoint_path)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_device_is_one_that_computes() -> None:
    device = choose_device()

    assert float(torch.ones(2, device=device).sum()) == 2
    assert has_bf16(device) in {True, False}


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("train.epochs=0", RecipeError, "train.epochs"),
        ("model.name=mobilenet_v3", UsageError, "unknown model"),
        ("model.width=0", UsageError, r"width 0\.0"),
        ("model.input_size=8", UsageError, "input size 8"),
        ("augment.crop_padding=28", RecipeError, "crop_padding"),
        ("train.teacher=nobody", UsageError, "unknown model 'nobody'"),
    ],
)
def test_bad_value_is_refused_before_anything_is_trained(
    toy_mnist: str, tmp_path: Path, override: str, error: type[EdgekitError], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(make_recipe(toy_mnist, override), tmp_path / "run")

    assert not (tmp_path / "run" / CHECKPOINT_NAME).exists()


def test_recipe_made_in_python_is_checked_too(toy_mnist: str, tmp_path: Path) -> None:
    recipe = Recipe(model=TINY, data=DataSection(name=toy_mnist), train=TrainSection(batch_size=0))

    with pytest.raises(RecipeError, match="batch_size"):
        train(recipe, tmp_path)


def test_run_folder_that_cannot_be_written_is_an_output_error(toy_mnist: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError):
        train(make_recipe(toy_mnist), tmp_path / "file" / "run")


def test_run_from_folded_weights_leaves_a_folded_checkpoint(toy_mnist: str, tmp_path: Path) -> None:
    first = train(make_recipe(toy_mnist, epochs=1), tmp_path / "first")
    module, card = load_checkpoint(first.checkpoint_path)
    fold_batch_norms(module)
    folded_path = tmp_path / "folded.safetensors"
    save_checkpoint(folded_path, module.state_dict(), msgspec.structs.replace(card, folded=True))

    run = train(make_recipe(toy_mnist, f"train.init={folded_path}", epochs=1), tmp_path / "second")

    again, card = load_checkpoint(run.checkpoint_path)
    assert card.folded
    assert again.state_dict().keys() == module.state_dict().keys()


def test_reestimated_norms_are_saved_and_measured_and_masks_hold(toy_mnist: str, tmp_path: Path) -> None:
    recipe = make_recipe(toy_mnist)
    layer = LayerSparsity(layer="classifier", num_weights=1280, sparsity=0.5)

    def hooks(*, reestimate: bool, stop: bool = False) -> RunHooks:
        constraint = GradualMasks(SparsityPlan(layers=(layer,)))
        return RunHooks(constraint=constraint, reestimate_norms=reestimate, on_epoch=interrupt if stop else None)

    plain = train(recipe, tmp_path / "plain", hooks=hooks(reestimate=False))
    anew = train(recipe, tmp_path / "anew", hooks=hooks(reestimate=True))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", hooks=hooks(reestimate=True, stop=True))
    resumed = train(recipe, tmp_path / "cut", resume=True, hooks=hooks(reestimate=True))

    before, after = (load_checkpoint(run.checkpoint_path)[0].state_dict() for run in (plain, anew))
    changed = [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
    assert changed
    assert all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in changed)
    assert int((after["classifier.weight"] == 0).sum()) == 640
    assert resumed.card.sha256 == anew.card.sha256
    splits = open_splits(toy_mnist)
    assert splits.test is not None
    maker = BatchMaker(make_spec(recipe, splits), AugmentSection(), choose_device())
    module, card = load_checkpoint(anew.checkpoint_path)
    assert card.test_top1 == validate_on(splits.test, maker)(place(module, maker.device))[1]
