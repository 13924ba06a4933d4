"""From a recipe to a trained run folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec
import torch
from torch import nn

from edgekit.core.errors import RecipeError, TrainingError
from edgekit.core.history import EpochRow
from edgekit.core.progress import Progress, Silent
from edgekit.core.recipe import Recipe
from edgekit.core.recipe_files import dump_recipe, load_recipe, override_recipe
from edgekit.core.storage import write_text
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard, read_card, save_checkpoint
from edgekit.models.counting import sketch
from edgekit.models.weights import CHECKPOINT_NAME, resolve_options
from edgekit.models.zoo import build_model, check_options, find_architecture, with_sizes, with_squeeze_excite
from edgekit.train.device import choose_device, place
from edgekit.train.feed import BatchMaker, MemoryFeed
from edgekit.train.logs import HISTORY_NAME, RunLog
from edgekit.train.loop import Constraint, Hooks, Trainer
from edgekit.train.norms import plain_batches, reestimate_norms
from edgekit.train.pace import with_pace
from edgekit.train.splits import Splits, fit_in_memory, make_spec, open_splits
from edgekit.train.start import Start, as_initialized, start_from
from edgekit.train.stream import StreamFeed
from edgekit.train.teacher import load_teacher
from edgekit.train.validation import validate_on

RECIPE_NAME = "recipe.toml"
STATE_NAME = "train_state.safetensors"

OnEpoch: TypeAlias = Callable[[list[EpochRow], Path], None]
_LOG = logging.getLogger(__name__)


class RunHooks(msgspec.Struct, frozen=True, kw_only=True):
    """What is called while a run is trained.

    Args:
        progress: Shows how far it is.
        on_epoch: Receives the history so far and the run folder after every epoch (the command line draws curves).
        constraint: What the weights must hold to (pruned ones stay zero); None for nothing.
        reestimate_norms: Measure BatchNorm's statistics anew on the trained weights, before they are saved.
    """

    progress: Progress = msgspec.field(default_factory=Silent)
    on_epoch: OnEpoch | None = None
    constraint: Constraint | None = None
    reestimate_norms: bool = False


class TrainedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What training made.

    Args:
        run_dir: Run folder.
        checkpoint_path: Weights, with their card beside them.
        card: The card.
        history: One row per epoch.
        notes: What was done otherwise than asked (bf16 that the device lacks, unreadable pictures), for people.
    """

    run_dir: Path
    checkpoint_path: Path
    card: CheckpointCard
    history: list[EpochRow]
    notes: tuple[str, ...] = ()


def train(
    recipe: Recipe,
    run_dir: Path,
    *,
    resume: bool = False,
    command: str = "",
    hooks: RunHooks | None = None,
) -> TrainedRun:
    """Train a network and leave a run folder: recipe, checkpoint, history, TensorBoard logs, resumable state.

    The state is written after every epoch, so an interrupted run (Ctrl-C, a power cut) continues with `resume` where
    its last whole epoch ended, and gives the same weights as an uninterrupted one.

    Args:
        recipe: What to train, on what, and how.
        run_dir: Folder for the results; made if it does not exist.
        resume: Continue the run in the folder, if there is one.
        command: The command that made the run, for the checkpoint's card.
        hooks: What is called meanwhile; None for nothing.

    Raises:
        RecipeError: A value out of range.
        UnknownNameError: No such architecture or dataset.
        UsageError: Sizes that make no network, or a teacher of other classes.
        DataError: Pictures or labels are missing, or of one class only.
        TrainingError: The loss is not finite, or the run to resume has another recipe.
        CheckpointError: The state to resume from is damaged.
        OutputError: The folder cannot be written.
    """
    recipe = override_recipe(recipe, ())  # checks the ranges of a recipe that was made in Python
    hooks = hooks or RunHooks()
    plan = _make_plan(recipe)
    recipe = plan.recipe
    _open_run_dir(run_dir, recipe, resume=resume)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(recipe.train.seed)
        module = build_model(plan.options)
        start = Start() if recipe.train.init is None else start_from(module, plan.options, recipe.train.init)
        module = place(module, plan.maker.device)
        feed = _make_feed(plan)
        validate = None if plan.splits.validation is None else validate_on(plan.splits.validation, plan.maker)

        def log_epoch(history: list[EpochRow]) -> None:
            log.add(history)
            if hooks.on_epoch is not None:
                hooks.on_epoch(history, run_dir)

        loop_hooks = Hooks(validate=validate, progress=hooks.progress, on_epoch=log_epoch, constraint=hooks.constraint)
        trainer = Trainer(module, feed, recipe.train, loop_hooks, _find_teacher(plan))
        with RunLog(run_dir) as log:
            state = trainer.run(run_dir / STATE_NAME, resume=resume)
    module.load_state_dict(state)
    last_top1 = trainer.history[-1].val_top1
    if hooks.reestimate_norms:
        plain = plain_batches(plan.splits.train, plan.maker, recipe.train.batch_size, recipe.train.seed)
        reestimate_norms(module, plain)
        state, last_top1 = module.state_dict(), None
    card = _make_card(plan, module.eval(), len(trainer.history), last_top1, command)
    card = msgspec.structs.replace(card, widths=start.widths, folded=start.folded)
    checkpoint_path = run_dir / CHECKPOINT_NAME
    save_checkpoint(checkpoint_path, state, card)
    return TrainedRun(
        run_dir=run_dir,
        checkpoint_path=checkpoint_path,
        card=read_card(checkpoint_path),
        history=trainer.history,
        notes=_collect_notes(plan, trainer, feed),
    )


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe whose names are resolved, and in which nothing is left open."""

    recipe: Recipe
    options: BuildOptions
    splits: Splits
    maker: BatchMaker


def _make_plan(recipe: Recipe) -> _Plan:
    options = resolve_options(recipe.model.name)
    if recipe.model.squeeze_excite:
        options = with_squeeze_excite(options)
    if recipe.train.init is not None:
        options = as_initialized(options, recipe.train.init)
    splits = open_splits(recipe.data.name)
    spec = make_spec(recipe, splits)
    options = with_sizes(
        options,
        width=recipe.model.width,
        num_classes=len(splits.train.class_names),
        in_channels=spec.num_channels,
        input_size=spec.input_size[0],
        dropout=recipe.model.dropout,
    )
    check_options(options, find_architecture(options.variant))
    if recipe.augment.crop_padding >= options.input_size:
        raise RecipeError(
            f"augment.crop_padding is {recipe.augment.crop_padding}, pictures have {options.input_size} pixels",
            hint="pad by an eighth of the picture or so",
        )
    recipe = msgspec.structs.replace(recipe, train=with_pace(recipe.train, sketch(options)))
    return _Plan(recipe=recipe, options=options, splits=splits, maker=BatchMaker(spec, recipe.augment, choose_device()))


def _open_run_dir(run_dir: Path, recipe: Recipe, *, resume: bool) -> None:
    """Write the recipe; resuming, check that it is the same, otherwise remove what an earlier run left."""
    recipe_path = run_dir / RECIPE_NAME
    if resume and recipe_path.is_file():
        saved = load_recipe(recipe_path)
        for section in ("model", "data", "augment", "train"):
            if getattr(saved, section) != getattr(recipe, section):
                raise TrainingError(
                    f"cannot resume {run_dir}: [{section}] of its {RECIPE_NAME} is another than asked for",
                    hint="resume with the run folder's own recipe.toml, or train into a new folder",
                )
    write_text(recipe_path, dump_recipe(recipe))
    if not resume:
        for name in (STATE_NAME, HISTORY_NAME, CHECKPOINT_NAME):
            (run_dir / name).unlink(missing_ok=True)


def _make_feed(plan: _Plan) -> MemoryFeed | StreamFeed:
    train, config = plan.splits.train, plan.recipe.train
    fitted = fit_in_memory(train, plan.maker.spec)
    if fitted is not None:
        return MemoryFeed(fitted, plan.maker, config.batch_size, config.seed)
    return StreamFeed(train, plan.maker, config.batch_size, config.seed)


def _find_teacher(plan: _Plan) -> nn.Module | None:
    name = plan.recipe.train.teacher
    if name is None:
        return None
    return place(load_teacher(name, plan.splits.train.class_names, plan.maker.spec), plan.maker.device)


def _make_card(
    plan: _Plan, module: nn.Module, num_epochs: int, last_top1: float | None, command: str
) -> CheckpointCard:
    """Describe the weights; their accuracy is measured on the test pictures, unless these weights' is known already."""
    test, top1 = plan.splits.test, None
    if test is not None and test is plan.splits.validation and last_top1 is not None:
        top1 = last_top1
    elif test is not None:
        _, top1 = validate_on(test, plan.maker)(module)
    return CheckpointCard(
        options=plan.options,
        labels=plan.splits.train.class_names,
        preprocess=plan.maker.spec,
        dataset=plan.splits.train.name,
        num_epochs=num_epochs,
        test_top1=top1,
        num_test=0 if test is None else len(test),
        command=command,
    )


def _collect_notes(plan: _Plan, trainer: Trainer, feed: MemoryFeed | StreamFeed) -> tuple[str, ...]:
    notes: list[str] = []
    if plan.recipe.train.precision == "bf16" and not trainer.uses_bf16:
        notes.append(f"device {plan.maker.device.type} has no bf16 arithmetic: trained in float32")
    if plan.splits.validation is None:
        notes.append("no labelled pictures to validate on: accuracy was not measured")
    if isinstance(feed, StreamFeed) and feed.unreadable.num_pictures:
        lines = "; ".join(feed.unreadable.reasons)
        notes.append(f"{feed.unreadable.num_pictures} readings of unreadable pictures were left out: {lines}")
    for note in notes:
        _LOG.warning(note)
    return tuple(notes)
