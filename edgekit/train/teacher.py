"""The network to distil from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.errors import UsageError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.models.checkpoint import CheckpointCard
from edgekit.models.weights import load_weights


class Teacher(nn.Module):
    """A trained network that answers to the student's batches: normalized and sized again as it was trained."""

    def __init__(self, module: nn.Module, own: PreprocessSpec, student: PreprocessSpec) -> None:
        super().__init__()
        self.module = module
        self.input_size = own.input_size
        # own input = (picture - own mean) / own std, and picture = student input * student std + student mean
        own_std, own_mean = torch.tensor(own.std), torch.tensor(own.mean)
        gain = torch.tensor(student.std) / own_std
        offset = (torch.tensor(student.mean) - own_mean) / own_std
        self.register_buffer("gain", gain[:, None, None])
        self.register_buffer("offset", offset[:, None, None])
        self.is_same = own.mean == student.mean and own.std == student.std
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Student's input [n, c, h, w] -> logits [n, classes]."""
        if not self.is_same:
            x = x * self.get_buffer("gain") + self.get_buffer("offset")
        if tuple(x.shape[2:]) != self.input_size:
            x = functional.interpolate(x, self.input_size, mode="bilinear", antialias=True)
        return self.module(x)


def load_teacher(name: str, class_names: tuple[str, ...], spec: PreprocessSpec) -> Teacher:
    """Load a teacher and check that it answers the same question.

    Args:
        name: Alias, run folder or checkpoint.
        class_names: The student's classes, in order.
        spec: The student's preprocessing.

    Raises:
        UsageError: Other classes or another number of channels.
        EdgekitError: As `load_weights`.
    """
    module, card = load_weights(name)
    _check_same_question(name, card, class_names, spec)
    return Teacher(module, card.preprocess, spec)


def _check_same_question(name: str, card: CheckpointCard, class_names: tuple[str, ...], spec: PreprocessSpec) -> None:
    hint = "train.teacher must be a network that was trained on the same classes and channels"
    if card.labels != class_names:
        raise UsageError(
            f"teacher {name} knows {len(card.labels)} classes ({', '.join(card.labels[:3])} ...), "
            f"expected the dataset's {len(class_names)} ({', '.join(class_names[:3])} ...) in the same order",
            hint=hint,
        )
    if card.preprocess.num_channels != spec.num_channels:
        raise UsageError(
            f"teacher {name} takes {card.preprocess.num_channels} channels, the dataset has {spec.num_channels}",
            hint=hint,
        )
