"""A network and a run small enough to be trained in every test."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Progress, Silent
from edgekit.core.recipe import AugmentSection, TrainSection
from edgekit.train.device import place
from edgekit.train.feed import BatchMaker, MemoryFeed
from edgekit.train.loop import Hooks, Trainer
from edgekit.train.validation import validate_on
from toy_pictures import toy_source

SPEC = PreprocessSpec(input_size=(12, 12), num_channels=1, mean=(0.3,), std=(0.3,))


class TinyNet(nn.Module):
    """Convolution, BatchNorm, dropout, linear: one of each thing that has a state."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(8 * 25, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.classifier(self.dropout(torch.flatten(x, 1)))


def make_trainer(
    config: TrainSection,
    augment: AugmentSection | None = None,
    *,
    teacher: nn.Module | None = None,
    progress: Progress | None = None,
    num_pictures: int = 50,
) -> Trainer:
    """Make a trainer of a TinyNet on toy pictures."""
    torch.manual_seed(config.seed)
    module = place(TinyNet(), torch.device("cpu"))
    maker = BatchMaker(SPEC, augment or AugmentSection(), torch.device("cpu"))
    feed = MemoryFeed(toy_source(num_pictures, size=12), maker, config.batch_size, config.seed)
    validate = validate_on(toy_source(20, split="test", size=12, seed=9), maker)
    hooks = Hooks(validate=validate, progress=progress or Silent(), on_epoch=lambda _: None)
    return Trainer(module, feed, config, hooks, teacher)
