from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.reestimation import ResultMean, reestimate_biases, watch_results
from graphs import GraphBuilder


def _network() -> GraphNetwork:
    build = GraphBuilder((1, 3, 6, 6), seed=4)
    x = build.relu(build.conv("input", 5, 3))
    build.gemm(build.flatten(x), 4)
    return GraphNetwork(build.build())


def _pictures(num: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(num).normal(size=(num, 3, 6, 6)).astype(np.float32))


def _open(network: GraphNetwork) -> None:
    for module in network.modules():
        if isinstance(module, ResultMean):
            module.is_open = True


def test_biases_bring_back_the_means_of_training() -> None:
    network, pictures = _network(), _pictures(40)
    watch_results(network)
    _open(network)
    network.train()(pictures)
    wanted = {name: network.bias(name).detach().clone() for name in network.layers}
    for name in network.layers:
        network.bias(name).data += torch.linspace(-0.5, 0.5, len(network.bias(name)))
    assert reestimate_biases(network, pictures) == pytest.approx(0.5, abs=0.05)
    for name, bias in wanted.items():
        assert torch.allclose(network.bias(name), bias, atol=1e-4), name


def test_biases_stay_when_nothing_was_averaged() -> None:
    network = _network()
    watch_results(network)
    network.train()(_pictures(8))
    before = {name: network.bias(name).detach().clone() for name in network.layers}
    assert reestimate_biases(network, _pictures(8)) == 0.0
    assert all(torch.equal(network.bias(name), bias) for name, bias in before.items())


def test_mean_is_a_moving_average_of_batches() -> None:
    mean = ResultMean(2)
    mean.is_open = True
    mean(torch.tensor([[1.0, 4.0], [3.0, 4.0]]))
    mean(torch.tensor([[4.0, 0.0], [4.0, 0.0]]))
    assert mean.mean.tolist() == [3.0, 2.0]
    mean.eval()(torch.full((1, 2), 100.0))
    assert mean.mean.tolist() == [3.0, 2.0]
