"""Small trained networks to attack."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.preprocessing import PreprocessSpec
from edgekit.perturb.gradient import LossGradient
from edgekit.perturb.square import Predict
from edgekit.perturb.torch_gradient import make_loss_gradient
from edgekit.runtime.preprocess import normalize
from toy_pictures import draw_pictures

SPECS = {
    1: PreprocessSpec(input_size=(12, 12), num_channels=1, mean=(0.3,), std=(0.3,)),
    3: PreprocessSpec(input_size=(12, 12), num_channels=3, mean=(0.3, 0.25, 0.2), std=(0.3, 0.2, 0.25)),
}


class Toy(msgspec.Struct, frozen=True, kw_only=True):
    """A trained network, pictures that it was not trained on, and how to ask it."""

    module: nn.Module
    spec: PreprocessSpec
    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    gradient_of: LossGradient
    predict: Predict

    def accuracy(self, pictures: npt.NDArray[np.uint8]) -> float:
        return float((self.predict(pictures).argmax(axis=1) == self.labels).mean())


class ToyNet(nn.Module):
    """Convolution, BatchNorm, dropout, linear."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_channels, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(8 * 25, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.classifier(self.dropout(torch.flatten(x, 1)))


def make_toy(num_channels: int) -> Toy:
    """Train for a second."""
    spec = SPECS[num_channels]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = ToyNet(num_channels)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        pictures, labels = draw_pictures(200, size=12, num_channels=num_channels, seed=1)
        inputs, targets = torch.from_numpy(normalize(pictures, spec)), torch.from_numpy(labels)
        for _ in range(40):
            optimizer.zero_grad()
            functional.cross_entropy(module(inputs), targets).backward()
            optimizer.step()
    module.eval()

    @torch.inference_mode()
    def predict(given: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return module(torch.from_numpy(normalize(given, spec))).numpy()

    pictures, labels = draw_pictures(40, size=12, num_channels=num_channels, seed=2)
    return Toy(
        module=module,
        spec=spec,
        pictures=pictures,
        labels=labels,
        gradient_of=make_loss_gradient(module, spec),
        predict=predict,
    )
