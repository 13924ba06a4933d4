"""Models, the pictures they are tried on, and how they stand when these are changed."""

from __future__ import annotations

import zlib

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.robustness import ChangeLevel, Outcome, RobustnessSettings, ShownAnswer, ShownPicture
from edgekit.evaluate.metrics import accuracy, agreement, answers
from edgekit.evaluate.probabilities import to_probabilities
from edgekit.verify.answers import Logits
from edgekit.verify.contenders import Contender
from edgekit.verify.png import encode_png

Pictures = npt.NDArray[np.uint8]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried.

    Args:
        contenders: The models, the one that others are compared with first.
        pictures: uint8 [n, h, w, c], fitted.
        labels: int64 [n].
        indices: int64 [n], positions in the dataset.
        class_names: In label order.
        plain: Answers of each model to the unchanged pictures, float32 [n, classes].
        settings: How much is measured.
    """

    contenders: tuple[Contender, ...]
    pictures: Pictures
    labels: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    plain: tuple[Logits, ...]
    settings: RobustnessSettings

    def rng(self, what: str) -> np.random.Generator:
        """Randomness that depends on nothing but the seed and what it is for."""
        return np.random.default_rng([self.settings.seed, zlib.crc32(what.encode())])

    def ask(self, changed: Pictures) -> tuple[Logits, ...]:
        """Answers of every model to pictures."""
        return tuple(contender.predict(changed) for contender in self.contenders)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The first pictures of a trial, changed in one way, and the answers to them.

    Args:
        section: Of the report.
        title: What was done, in words.
        amount: How much.
        words: The same in words.
        pictures: uint8 [m, h, w, c], changed.
        asked: Answers of each model, float32 [m, classes].
    """

    section: str
    title: str
    amount: float
    words: str
    pictures: Pictures
    asked: tuple[Logits, ...]


def judge_level(trial: Trial, change: Change) -> ChangeLevel:
    """How the models stand."""
    labels = trial.labels[: len(change.pictures)]
    outcomes = []
    for plain, changed in zip(trial.plain, change.asked, strict=True):
        found = accuracy(changed, labels)
        outcomes.append(
            Outcome(
                top1=found.top1,
                ci95=found.ci95,
                flipped=float((answers(plain[: len(labels)]) != answers(changed)).mean()),
                agreement=agreement(changed, change.asked[0]).top1,
            )
        )
    return ChangeLevel(amount=change.amount, outcomes=tuple(outcomes))


def show_one(trial: Trial, change: Change) -> ShownPicture:
    """The picture that shows best what a change did.

    First choice: all models were right, and the change turns one of the others but not the first (that is what
    compression did); then one that turns the first; then one that turns any. Of several the one whose turned answer is
    surest.
    """
    labels = trial.labels[: len(change.pictures)]
    plain_right = np.stack([answers(logits[: len(labels)]) == labels for logits in trial.plain])
    changed_right = np.stack([answers(logits) == labels for logits in change.asked])
    turned = plain_right & ~changed_right
    rank = np.where(
        plain_right.all(axis=0) & changed_right[0] & turned[1:].any(axis=0),
        3,
        np.where(plain_right.all(axis=0) & turned[0], 2, np.where(turned.any(axis=0), 1, 0)),
    )
    sureness = np.max(
        [to_probabilities(logits).max(axis=1) * lost for logits, lost in zip(change.asked, turned, strict=True)], axis=0
    )
    best = int(np.lexsort((np.arange(len(labels)), -sureness, -rank))[0])
    return ShownPicture(
        section=change.section,
        title=change.title,
        amount=change.words,
        index=int(trial.indices[best]),
        label=trial.class_names[int(trial.labels[best])],
        original_png=encode_png(trial.pictures[best]),
        changed_png=encode_png(change.pictures[best]),
        plain=tuple(name_answer(trial, logits[best]) for logits in trial.plain),
        changed=tuple(name_answer(trial, logits[best]) for logits in change.asked),
    )


def name_answer(trial: Trial, logits: Logits) -> ShownAnswer:
    """The answer to one picture, logits [classes]."""
    best = int(answers(logits[np.newaxis])[0])
    return ShownAnswer(name=trial.class_names[best], confidence=float(to_probabilities(logits[np.newaxis])[0, best]))
