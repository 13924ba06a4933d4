"""The LeNets are those that Deep Compression was measured on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgekit.export.torch_graph import trace
from edgekit.models.architectures.lenet import map_size
from edgekit.models.zoo import build_model, parse_model_name, with_sizes


@pytest.mark.parametrize(
    ("variant", "weights", "macs"),
    [
        # Han et al. 2015, tables 3 and 4, weights and half of the FLOP, in thousands
        ("lenet_300_100", {"fc1": 235.2, "fc2": 30, "classifier": 1}, 266.2),
        ("lenet5", {"conv1": 0.5, "conv2": 25, "fc1": 400, "classifier": 5}, 2293),
    ],
)
def test_layers_have_the_weights_of_the_papers_tables(variant: str, weights: dict[str, float], macs: float) -> None:
    module = build_model(parse_model_name(variant)).eval()

    graph = trace(module, (1, 28, 28), name=variant)

    counts = {name: parameter.numel() for name, parameter in module.named_parameters() if name.endswith("weight")}
    assert counts == {f"{layer}.weight": 1000 * count for layer, count in weights.items()}
    assert graph.num_macs == 1000 * macs


@torch.inference_mode()
def test_lenet5_rectifies_behind_its_first_linear_layer_only() -> None:
    torch.manual_seed(0)
    module = build_model(parse_model_name("lenet5")).eval()
    w = dict(module.named_parameters())
    x = torch.randn(2, 1, 28, 28)

    def convolve(maps: Tensor, layer: str) -> Tensor:
        maps = functional.conv2d(maps, w[f"{layer}.weight"], w[f"{layer}.bias"])
        return functional.max_pool2d(maps, 2)

    maps = convolve(convolve(x, "conv1"), "conv2")
    hidden = functional.linear(maps.flatten(1), w["fc1.weight"], w["fc1.bias"]).clamp(min=0)
    logits = functional.linear(hidden, w["classifier.weight"], w["classifier.bias"])

    assert float(maps.min()) < 0
    torch.testing.assert_close(module(x), logits)


@pytest.mark.parametrize("size", [24, 25, 28, 29, 31, 32, 64])
def test_lenet5_takes_any_size_even_where_a_pooling_meets_an_odd_map(size: int) -> None:
    options = with_sizes(parse_model_name("lenet5"), input_size=size, in_channels=3, num_classes=4)
    module = build_model(options).eval()

    assert module(torch.randn(1, 3, size, size)).shape == (1, 4)
    assert module.get_parameter("fc1.weight").shape[1] == 50 * map_size(size) ** 2


@pytest.mark.parametrize("variant", ["lenet_300_100", "lenet5"])
def test_random_weights_keep_the_scale_of_the_input(variant: str) -> None:
    torch.manual_seed(0)
    module = build_model(parse_model_name(variant)).eval()

    logits = module(torch.randn(64, 1, 28, 28))

    assert 0.1 < float(logits.detach().std()) < 10
