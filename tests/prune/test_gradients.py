"""Importance from gradients, against numbers found by hand or by finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.errors import DataError, RecipeError
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.folded import fold_batch_norms
from edgekit.models.zoo import build_model
from edgekit.prune.choice import ChannelPruning, plan_channels
from edgekit.prune.gradients import squared_gradients, taylor
from edgekit.prune.importance import bn_scale, magnitude

VARIANTS = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v1_x0_25_g3",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "densenet121_w0.25",
)


def make_module(variant: str) -> nn.Module:
    torch.manual_seed(0)
    options = BuildOptions(
        variant=variant, width=0.25 if variant.startswith("mobile") else None, num_classes=5, input_size=32
    )
    return build_model(options)


def make_batches(num: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(4, 3, 32, 32, generator=generator), torch.randint(5, (4,), generator=generator))
        for _ in range(num)
    ]


class Tiny(nn.Module):
    """Convolution, norm, dropout, linear: the first filter is cut off from the output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 3)
        with torch.no_grad():
            self.fc.weight[:, 0] = 0
            self.conv.weight[0] *= 100

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.fc(self.dropout(x))


def tiny_batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(6, 1, 6, 6, generator=generator), torch.arange(6) % 3) for _ in range(2)]


def test_filter_that_nothing_listens_to_matters_least_by_taylor() -> None:
    scores = taylor(Tiny(), tiny_batches())
    assert scores["conv"][0] == 0
    assert (scores["conv"][1:] > 0).all()
    assert scores["conv"].mean() == pytest.approx(1)


def test_taylor_is_the_loss_that_scaling_a_filter_changes() -> None:
    """The sum of gradient times weight is the derivative of the loss by a scale of the filter."""
    module, batches = Tiny().double().eval(), [(x.double(), y) for x, y in tiny_batches()]
    step, expected = 1e-6, np.zeros(4)
    for pictures, labels in batches:
        for channel in range(4):
            losses: list[float] = []
            for factor in (1 + step, 1 - step):
                weight = module.conv.weight.detach().clone()
                with torch.no_grad():
                    module.conv.weight[channel] *= factor
                    losses.append(functional.cross_entropy(module(pictures), labels).item())
                    module.conv.weight.copy_(weight)
            expected[channel] += ((losses[0] - losses[1]) / (2 * step)) ** 2
    np.testing.assert_allclose(taylor(module, batches)["conv"], expected / expected.mean(), rtol=1e-4)


def test_squared_gradients_are_the_mean_over_pictures() -> None:
    module, batches = Tiny(), tiny_batches()
    found = squared_gradients(module, batches)
    assert {name: each.shape for name, each in found.items()} == {"conv": (4, 1, 3, 3), "fc": (3, 4)}
    expected = torch.zeros(3, 4, dtype=torch.float64)
    module.eval()
    for pictures, labels in batches:
        for picture, label in zip(pictures, labels, strict=True):
            module.zero_grad()
            functional.cross_entropy(module(picture[None]), label[None]).backward()
            assert module.fc.weight.grad is not None
            expected += module.fc.weight.grad.double().square()
    np.testing.assert_allclose(found["fc"], expected.numpy() / 12, rtol=1e-6)


def test_squared_gradients_do_not_depend_on_the_batches() -> None:
    module, batches = Tiny(), tiny_batches()
    whole = [(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))]
    for name, each in squared_gradients(module, whole).items():
        np.testing.assert_array_equal(each, squared_gradients(module, batches)[name])


def test_squared_gradients_take_another_loss() -> None:
    module = Tiny()
    found = squared_gradients(module, tiny_batches(), lambda logits, _: logits.sum() * 0)
    assert all(not each.any() for each in found.values())


@pytest.mark.parametrize("score", [taylor, squared_gradients])
def test_network_is_left_as_it_was_and_scores_repeat(score: Any) -> None:
    module = Tiny().train()
    module.norm.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    first, again = (score(module, tiny_batches()) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(weight.grad is None for weight in module.parameters())
    assert module.training
    assert module.dropout.training
    assert not module.norm.training


@pytest.mark.parametrize("score", [taylor, squared_gradients])
def test_no_pictures_are_refused(score: Any) -> None:
    with pytest.raises(DataError, match="at least one picture"):
        score(Tiny(), [])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layer_has_taylor_scores_and_they_make_a_plan(variant: str) -> None:
    module = make_module(variant)
    graph = trace(module, (3, 32, 32), name="m")
    scores = taylor(module, make_batches(1))
    expected = magnitude(graph)
    assert {name: each.shape for name, each in scores.items()} == {name: each.shape for name, each in expected.items()}
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5), scores)
    assert plan.macs[1] < plan.macs[0]


def test_bn_scale_is_the_magnitude_of_gamma() -> None:
    module = make_module("mobilenet_v2")
    graph = trace(module, (3, 32, 32), name="m")
    with torch.no_grad():
        module.get_parameter("features.0.1.weight").copy_(torch.tensor([-3.0, 1.0] * 4))
    scores = bn_scale(module, graph)
    assert scores.keys() == magnitude(graph).keys()
    assert scores["features.0.0"].tolist() == [1.5, 0.5] * 4
    np.testing.assert_array_equal(scores["classifier"], magnitude(graph)["classifier"])
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5), scores)
    assert plan.macs[1] < plan.macs[0]


def test_bn_scale_of_a_network_without_norms_is_refused() -> None:
    module = make_module("mobilenet_v1")
    fold_batch_norms(module)
    with pytest.raises(RecipeError, match="no BatchNorm"):
        bn_scale(module, trace(module, (3, 32, 32), name="m"))
