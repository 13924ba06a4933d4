"""Training what was cut, from weights to weights, each stage in a folder of its own that can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import torch
from torch import Tensor

from edgekit.core.errors import DataError, UsageError
from edgekit.core.progress import Progress
from edgekit.core.recipe import DataSection, ModelSection, Recipe
from edgekit.data.drawing import draw_order
from edgekit.data.opening import open_at_hand, open_source
from edgekit.data.reading import iterate_batches
from edgekit.models.checkpoint import CheckpointCard, save_checkpoint
from edgekit.models.weights import CHECKPOINT_NAME, load_weights
from edgekit.runtime.preprocess import normalize
from edgekit.shrink.request import ShrinkRequest
from edgekit.train.loop import Constraint
from edgekit.train.run import RunHooks, train
from edgekit.train.splits import check_trainable, make_spec, open_splits
from edgekit.verify.answers import check_classes
from edgekit.verify.matching import match_classes

ValueT = TypeVar("ValueT")

NUM_GRADIENT_PICTURES = 512
_GRADIENT_BATCH = 64


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One fine-tuning.

    Args:
        name: Of its folder.
        epochs: Passes over the training pictures.
        optimizer: "sgd" or "adamw".
        learning_rate: Peak rate.
        decays_weights: Whether the recipe's weight decay applies.
        reestimate_norms: Whether BatchNorm's statistics are measured anew at the end.
    """

    name: str
    epochs: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    decays_weights: bool = True
    reestimate_norms: bool = True


def find_training_pictures(names: tuple[str | None, ...]) -> str | None:
    """The first of some datasets that has labelled training pictures on this machine; nothing is downloaded."""
    for name, source in open_at_hand(names, "train"):
        try:
            check_trainable(source)
        except DataError:
            continue
        return name
    return None


class Finetuner:
    """Trains the stages of one shrinking.

    Args:
        request: What is asked for.
        card: Of the model as it was; it becomes the teacher.
        data: Training pictures; None when there are none, then nothing is trained.
        progress: Shows how far it is.
    """

    def __init__(self, request: ShrinkRequest, card: CheckpointCard, data: str | None, progress: Progress) -> None:
        self.request = request
        self.card = card
        self.data = data
        self.progress = progress
        self.num_epochs = 0

    def run(self, stage: Stage, init_dir: Path | str, constraint: Constraint | None) -> Path:
        """Train from the weights in `init_dir`; without training pictures or epochs only the constraint is applied.

        Returns:
            The folder of the stage, with its weights as a checkpoint.
        """
        folder = self.request.work_dir / stage.name
        if self.data is None or stage.epochs == 0:
            return self._apply(folder, init_dir, constraint)
        recipe = self._recipe(stage, self.data, init_dir)
        hooks = RunHooks(progress=self.progress, constraint=constraint, reestimate_norms=stage.reestimate_norms)
        train(recipe, folder, resume=self.request.resume, command=self.request.command, hooks=hooks)
        self.num_epochs += stage.epochs
        return folder

    def gradient_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalized training pictures [n, c, h, w] with their labels, always the same ones.

        Raises:
            UsageError: There are no training pictures.
            DataError: They are of other classes.
        """
        if self.data is None:
            raise UsageError(
                "gradients need labelled training pictures, and there are none", hint="give them by --data"
            )
        source = match_classes(open_source(self.data, "train"), self.card.labels)
        check_classes(source, self.card.labels, self.card.options.num_classes)
        chosen = draw_order(len(source), seed=self.request.recipe.train.seed)[:NUM_GRADIENT_PICTURES]
        for batch in iterate_batches(source, self.card.preprocess, batch_size=_GRADIENT_BATCH, indices=chosen):
            if batch.labels is not None:
                yield torch.from_numpy(normalize(batch.pictures, self.card.preprocess)), torch.from_numpy(batch.labels)

    def _apply(self, folder: Path, init_dir: Path | str, constraint: Constraint | None) -> Path:
        module, card = load_weights(str(init_dir))
        state = module.state_dict()
        if constraint is not None:
            constraint.attach(module)
            constraint.after_step(1, 1)
            constraint.hold(state)
        save_checkpoint(folder / CHECKPOINT_NAME, state, card)
        return folder

    def _recipe(self, stage: Stage, data: str, init_dir: Path | str) -> Recipe:
        asked, options = self.request.recipe, self.card.options
        config, own = asked.finetune, asked.train
        decay = _given(config.weight_decay, own.weight_decay)
        recipe = Recipe(
            model=ModelSection(
                name=options.variant, width=options.width, input_size=options.input_size, dropout=options.dropout
            ),
            data=DataSection(name=data),
            augment=msgspec.structs.replace(
                asked.augment,
                crop_padding=_given(config.crop_padding, asked.augment.crop_padding),
                mixup=_given(config.mixup, asked.augment.mixup),
            ),
            train=msgspec.structs.replace(
                own,
                epochs=stage.epochs,
                batch_size=config.batch_size or own.batch_size,
                optimizer=stage.optimizer,
                learning_rate=stage.learning_rate,
                weight_decay=decay if stage.decays_weights else 0.0,
                warmup_epochs=min(own.warmup_epochs, 0.1 * stage.epochs),
                ema_decay=_given(config.ema_decay, own.ema_decay),
                init=str(init_dir),
                teacher=(config.teacher or asked.model.name) if config.distill_weight else None,
                distill_weight=config.distill_weight,
                distill_temperature=config.distill_temperature,
            ),
        )
        splits = open_splits(data)
        # Training numbers classes as the folder does, and goes on from the outputs of the model.
        check_classes(splits.train, self.card.labels, self.card.options.num_classes)
        spec = make_spec(recipe, splits)
        if spec != self.card.preprocess:
            raise UsageError(
                f"{asked.model.name} takes its pictures prepared as {self.card.preprocess}, training on {data} would "
                f"prepare them as {spec}",
                hint="fine-tune on what it was trained on, or not at all: --epochs 0",
            )
        return recipe


def _given(value: ValueT | None, otherwise: ValueT) -> ValueT:
    return otherwise if value is None else value
