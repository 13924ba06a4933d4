"""A network to distil from answers to the student's batches as to its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekit.core.errors import UsageError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard, save_checkpoint
from edgekit.models.zoo import build_model
from edgekit.train.teacher import Teacher, load_teacher

STUDENT = PreprocessSpec(input_size=(28, 28), num_channels=1, mean=(0.3,), std=(0.35,))
OWN = PreprocessSpec(input_size=(28, 28), num_channels=1, mean=(0.5,), std=(0.2,))


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """An untrained teacher of two classes."""
    torch.manual_seed(0)
    options = BuildOptions(variant="mobilenet_v1", width=0.125, num_classes=2, in_channels=1, input_size=28)
    card = CheckpointCard(options=options, labels=("a", "b"), preprocess=OWN, dataset="toy", num_epochs=1)
    save_checkpoint(tmp_path / "t.safetensors", build_model(options).state_dict(), card)
    return str(tmp_path / "t.safetensors")


def test_teacher_sees_the_picture_in_its_own_normalization(checkpoint: str) -> None:
    teacher = load_teacher(checkpoint, ("a", "b"), STUDENT)
    pictures = torch.rand(3, 1, 28, 28)

    answers = teacher((pictures - 0.3) / 0.35)

    torch.testing.assert_close(answers, teacher.module((pictures - 0.5) / 0.2), rtol=1e-4, atol=1e-4)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_teacher_sees_the_picture_in_its_own_size() -> None:
    sizes: list[torch.Size] = []

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(x.shape)
            return x

    student = PreprocessSpec(input_size=(14, 14), num_channels=1, mean=(0.5,), std=(0.2,))

    Teacher(Spy(), OWN, student)(torch.zeros(2, 1, 14, 14))

    assert sizes == [torch.Size([2, 1, 28, 28])]


@pytest.mark.parametrize("names", [("a",), ("b", "a"), ("a", "b", "c")])
def test_teacher_of_other_classes_is_refused(checkpoint: str, names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="knows 2 classes"):
        load_teacher(checkpoint, names, STUDENT)


def test_teacher_of_other_channels_is_refused(checkpoint: str) -> None:
    colour = PreprocessSpec(input_size=(28, 28), num_channels=3, mean=(0.5,) * 3, std=(0.2,) * 3)

    with pytest.raises(UsageError, match="takes 1 channels, the dataset has 3"):
        load_teacher(checkpoint, ("a", "b"), colour)
