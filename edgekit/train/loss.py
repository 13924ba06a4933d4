"""Losses: smoothed cross-entropy on mixed targets, and distillation."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgekit.core.recipe import TrainSection
from edgekit.train.augment import Mixed


def classification_loss(logits: Tensor, target: Mixed, smoothing: float) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2016), weighted over the two mixed targets."""
    loss = functional.cross_entropy(logits, target.first, label_smoothing=smoothing)
    if target.weight == 1.0:
        return loss
    other = functional.cross_entropy(logits, target.second, label_smoothing=smoothing)
    return target.weight * loss + (1 - target.weight) * other


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL divergence to the teacher's softened answers, times temperature squared (Hinton et al. 2015, section 2)."""
    student = functional.log_softmax(logits / temperature, dim=1)
    teacher = functional.log_softmax(teacher_logits / temperature, dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def total_loss(logits: Tensor, target: Mixed, teacher_logits: Tensor | None, config: TrainSection) -> Tensor:
    """The loss that is optimized: labels, and the teacher's answers where there is one."""
    loss = classification_loss(logits, target, config.label_smoothing)
    if teacher_logits is None:
        return loss
    soft = distillation_loss(logits, teacher_logits, config.distill_temperature)
    return (1 - config.distill_weight) * loss + config.distill_weight * soft
