"""Evaluations as `edgekit evaluate` makes them, from random answers."""

from __future__ import annotations

import numpy as np

from edgekit.core.evaluation import Evaluated, EvaluatedModel, Evaluation
from edgekit.core.report import ReportDataset
from edgekit.evaluate.balance import measure_balance
from edgekit.evaluate.comparison import compare_answers
from edgekit.evaluate.scoring import score_model

NAMES = ("ant", "bee", "cat", "dog")


def random_logits(labels: np.ndarray, num_classes: int, *, seed: int, strength: float = 2.0) -> np.ndarray:
    """Answers that are right more often than not, rounded so that some tie."""
    noise = np.random.default_rng(seed).standard_normal((len(labels), num_classes))
    return (noise + strength * np.eye(num_classes)[labels]).round(1).astype(np.float32)


def about(name: str) -> EvaluatedModel:
    return EvaluatedModel(
        given=name,
        file="model.tflite",
        model="mobilenet_v2_w0.5",
        scheme="static_wi8_ai8",
        runtime="litert 2.3.0",
        size_bytes=657_000,
        sha256="ab" * 32,
    )


def build_evaluation(
    counts: tuple[int, ...] = (50, 50, 50, 50),
    *,
    names: tuple[str, ...] = NAMES,
    model: str = "runs/mine/model.tflite",
    other: str | None = None,
    num_left_out: int = 0,
) -> Evaluation:
    """An evaluation on `counts` pictures of each class; beside another model where one is named."""
    labels = np.repeat(np.arange(len(counts)), counts)
    logits = random_logits(labels, len(counts), seed=0)
    beside = random_logits(labels, len(counts), seed=1, strength=1.0)
    return Evaluation(
        dataset=ReportDataset(
            name="animals",
            split="test",
            n=len(labels),
            labelled=True,
            class_names=names,
            num_left_out=num_left_out,
        ),
        balance=measure_balance(labels, names),
        model=Evaluated(about=about(model), scores=score_model(logits, labels, names)),
        other=None if other is None else Evaluated(about=about(other), scores=score_model(beside, labels, names)),
        comparison=None if other is None else compare_answers(logits, beside, labels),
        environment={"numpy": "2.4.6"},
        command=f"edgekit evaluate {model} --data animals",
        created="2025-01-31T12:05:09+00:00",
    )
