from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.errors import DataError, UnsupportedOpError
from edgekit.train.curvature import CurvatureConfig, input_columns, measure_curvature


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 3, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 5),
    )


def batches(num: int = 2) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(num):
        yield torch.randn(6, 2, 8, 8, generator=generator)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, (1, 3), dilation=2), nn.Linear(6, 4)],
)
def test_input_columns_times_the_weights_are_the_outputs(layer: nn.Conv2d | nn.Linear) -> None:
    x = torch.randn(2, 6) if isinstance(layer, nn.Linear) else torch.randn(2, 3, 9, 9)
    assert layer.bias is not None
    expected = layer(x).detach()
    by_hand = input_columns(layer, x) @ layer.weight.detach().flatten(1).T + layer.bias.detach()
    expected = expected if expected.ndim == 2 else expected.permute(0, 2, 3, 1).reshape(-1, 4)
    torch.testing.assert_close(by_hand, expected)


def test_every_layer_has_a_curvature_of_its_size(network: nn.Module) -> None:
    curvatures = measure_curvature(network, batches())
    sizes = {name: (each.hessian.shape[0], each.sensitivity.size) for name, each in curvatures.items()}
    assert sizes == {"0": (19, 4), "2": (5, 3), "5": (4, 5)}
    for each in curvatures.values():
        assert np.allclose(each.hessian, each.hessian.T)
        assert np.linalg.eigvalsh(each.hessian).min() > -1e-6
        assert each.sensitivity.min() >= 0


def test_the_bias_has_one_in_every_hessian(network: nn.Module) -> None:
    for each in measure_curvature(network, batches()).values():
        assert each.hessian[-1, -1] == pytest.approx(1)


def test_sensitivity_is_of_the_convolution_not_of_what_works_on_it_in_place(network: nn.Module) -> None:
    with torch.no_grad():
        network.get_submodule("0").get_parameter("bias")[1] = -1000.0  # the ReLU never lets this output through
    sensitivity = measure_curvature(network, batches())["0"].sensitivity
    assert sensitivity[1] == 0
    assert sensitivity[[0, 2, 3]].min() > 0


@pytest.mark.parametrize("name", ["0", "2", "5"])
def test_curvature_foretells_the_divergence_of_a_small_change(network: nn.Module, name: str) -> None:
    # Answers are sampled from the network's own, many times. Positions of layers 0 and 2 pull the same way.
    config = CurvatureConfig(soft_share=0.0, uniform_share=0.0)
    curvature = measure_curvature(network, batches(200), config)[name]
    layer = network.get_submodule(name)
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    change = 0.01 * torch.randn(len(bias), curvature.hessian.shape[0], generator=torch.Generator().manual_seed(4))
    error = change.double().numpy()
    expected = 0.5 * float(curvature.sensitivity @ ((error @ curvature.hessian) * error).sum(1))
    x = torch.cat(list(batches(200)))
    with torch.no_grad():
        before = functional.log_softmax(network(x), 1)
        weight.add_(change[:, :-1].reshape(weight.shape))
        bias.add_(change[:, -1])
        after = functional.log_softmax(network(x), 1)
    divergence = functional.kl_div(after, before, log_target=True, reduction="batchmean").item()
    assert expected / 2 < divergence < 2 * expected


def test_the_same_seed_gives_the_same_curvature(network: nn.Module) -> None:
    config = CurvatureConfig(seed=7)
    one, two = (measure_curvature(network, batches(), config) for _ in range(2))
    assert all(np.array_equal(one[name].hessian, two[name].hessian) for name in one)
    assert not np.array_equal(one["0"].hessian, measure_curvature(network, batches())["0"].hessian)


def test_measuring_leaves_no_hook_and_no_gradient(network: nn.Module) -> None:
    measure_curvature(network, batches())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_a_grouped_convolution_is_an_error_that_names_it() -> None:
    with pytest.raises(UnsupportedOpError, match="1: a convolution of 2 groups"):
        measure_curvature(nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 3, groups=2)), batches())


def test_no_pictures_is_an_error(network: nn.Module) -> None:
    with pytest.raises(DataError, match="no pictures"):
        measure_curvature(network, iter(()))
