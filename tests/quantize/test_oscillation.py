from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QuantizeSection
from edgekit.quantize.lsq import along
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.oscillation import GuardConfig, OscillationGuard, Swings, swinging_layers
from edgekit.quantize.qat import make_trainable, weight_grids
from graphs import GraphBuilder, quantize_for_test


def _start(bits: int = 4) -> QuantizedGraph:
    build = GraphBuilder((1, 2, 6, 6), seed=2)
    x = build.relu(build.conv("input", 8, 1))
    x = build.relu(build.conv(x, 8, 3, group=8))
    build.gemm(build.flatten(build.global_pool(x)), 3)
    pictures = np.random.default_rng(0).normal(size=(16, 2, 6, 6)).astype(np.float32)
    section = QuantizeSection(scheme=f"static_wi{bits}_ai8", ranges="minmax", bias_correction=False)
    return quantize_for_test(build.build(), pictures, section)


def _guard(network: GraphNetwork, *, damping: float = 0.0, freeze_threshold: float = 0.0) -> OscillationGuard:
    layers = swinging_layers(network)
    return OscillationGuard(network, GuardConfig(layers=layers, damping=damping, freeze_threshold=freeze_threshold))


@pytest.mark.parametrize(("bits", "num_depthwise", "num_all"), [(4, 1, 3), (5, 1, 1), (6, 0, 0)])
def test_layers_of_few_bits_are_guarded(bits: int, num_depthwise: int, num_all: int) -> None:
    network = make_trainable(_start(bits))
    assert len(swinging_layers(network)) == num_depthwise
    assert len(swinging_layers(network, all_layers=True)) == num_all


def test_weight_that_swings_is_frozen_and_one_that_moves_on_is_not() -> None:
    swings = Swings(torch.zeros(2))
    for step in range(40):
        swings.update(torch.tensor([step % 2, min(step // 6, 7)]), threshold=0.3)
    assert swings.frozen.tolist() == [1, 0]
    assert int(swings.level[0]) in (0, 1)
    assert int(swings.level[1]) == 6
    assert float(swings.frequency[1]) == 0.0


def test_frozen_weight_holds_its_level_whatever_training_does() -> None:
    network = make_trainable(_start())
    guard = _guard(network, freeze_threshold=0.02)
    (layer,) = guard.config.layers
    grid = weight_grids(network)[layer]
    weight = network.weight(layer)
    low, high = 1.4 / grid.qmax, 1.6 / grid.qmax
    for step in range(200):
        weight.data[0, 0, 0, 0] = high if step % 2 else low
        guard.after_step(step + 1, 200)
    assert guard.num_frozen == 1
    level = int(grid.levels(weight.detach())[0, 0, 0, 0])
    weight.data[0, 0, 0, 0] = 5.0 / grid.qmax
    grid.ratio.data.mul_(1.25)
    guard.after_step(200, 200)
    assert int(grid.levels(weight.detach())[0, 0, 0, 0]) == level
    state = {name: value.clone() for name, value in network.state_dict().items()}
    averaged = guard._weight_names[layer]
    state[averaged].fill_(0.0)
    guard.hold(state)
    assert int(grid.levels(state[averaged])[0, 0, 0, 0]) == level


def test_damping_draws_weights_to_their_levels() -> None:
    network = make_trainable(_start())
    guard = _guard(network, damping=0.5)
    (layer,) = guard.config.layers
    weight, grid = network.weight(layer), weight_grids(network)[layer]
    guard.after_step(1, 1)  # the end of training, where damping is strongest
    before = (weight - grid(weight) / along(grid.unit, weight)).abs().detach()
    weight.grad = torch.zeros_like(weight)
    guard.before_step()
    weight.data.sub_(weight.grad * 0.5)
    after = (weight - grid(weight) / along(grid.unit, weight)).abs().detach()
    assert float(after.mean()) == pytest.approx(0.5 * float(before.mean()), rel=0.05)


def test_damping_is_none_at_the_beginning() -> None:
    network = make_trainable(_start())
    guard = _guard(network, damping=0.5)
    guard.before_epoch(1, 4)
    weight = network.weight(guard.config.layers[0])
    weight.grad = torch.zeros_like(weight)
    guard.before_step()
    assert float(weight.grad.abs().max()) == 0.0


def test_step_that_would_turn_negative_is_held() -> None:
    network = make_trainable(_start())
    guard = _guard(network)
    grid = weight_grids(network)[guard.config.layers[0]]
    grid.ratio.data[0] = -0.5
    guard.after_step(1, 10)
    assert float(grid.ratio[0].detach()) > 0


def test_weights_that_begin_at_zero_stay_zero_when_asked() -> None:
    start = _start(4)
    network = make_trainable(start)
    guard = OscillationGuard(network, GuardConfig(layers=(), keeps_zeros=True))
    zeros = {name: grid.levels(network.weight(name).detach()) == 0 for name, grid in weight_grids(network).items()}
    assert sum(int(each.sum()) for each in zeros.values()) > 0
    for name in network.layers:
        network.weight(name).data += 10.0

    guard.after_step(1, 10)
    state = {key: value + 10.0 for key, value in network.state_dict().items()}
    guard.hold(state)

    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for name, is_zero in zeros.items():
        weight = network.weight(name)
        assert bool((weight[is_zero] == 0).all())
        assert bool((weight[~is_zero] != 0).all())
        assert bool((state[names[id(weight)]][is_zero] == 0).all())
