"""Losses."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from edgekit.core.recipe import TrainSection
from edgekit.train.augment import Mixed
from edgekit.train.loss import classification_loss, distillation_loss, total_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
FIRST, SECOND = torch.tensor([0, 2]), torch.tensor([1, 2])


def test_mixed_loss_is_cross_entropy_with_the_blended_target() -> None:
    blended = 0.3 * functional.one_hot(FIRST, 3) + 0.7 * functional.one_hot(SECOND, 3)

    loss = classification_loss(LOGITS, Mixed(FIRST, SECOND, 0.3), smoothing=0.1)

    torch.testing.assert_close(loss, functional.cross_entropy(LOGITS, blended, label_smoothing=0.1))


def test_distillation_loss_is_zero_for_the_teachers_own_answer() -> None:
    assert float(distillation_loss(LOGITS, LOGITS + 5.0, temperature=4.0)) == pytest.approx(0, abs=1e-6)


def test_distillation_loss_keeps_its_gradients_scale_when_the_temperature_rises() -> None:
    # Hinton et al. 2015, section 2: gradients of soft targets scale as 1 / T^2, so the loss is multiplied by T^2.
    norms: list[float] = []
    for temperature in (20.0, 40.0):
        logits = LOGITS.clone().requires_grad_()
        distillation_loss(logits, torch.zeros_like(LOGITS), temperature).backward()
        assert logits.grad is not None
        norms.append(float(logits.grad.norm()))

    assert norms[0] == pytest.approx(norms[1], rel=0.05)


def test_total_loss_shares_out_between_labels_and_teacher() -> None:
    target, teacher = Mixed(FIRST, FIRST, 1.0), torch.randn(2, 3)
    config = TrainSection(distill_weight=0.25, distill_temperature=2.0)

    loss = total_loss(LOGITS, target, teacher, config)

    expected = 0.75 * classification_loss(LOGITS, target, 0.0) + 0.25 * distillation_loss(LOGITS, teacher, 2.0)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(total_loss(LOGITS, target, None, config), classification_loss(LOGITS, target, 0.0))
