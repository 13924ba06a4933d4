"""Learning rate and weight averaging."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgekit.train.schedule import WeightAverage, learning_rate_at


@given(num_steps=st.integers(2, 500), share=st.floats(0, 0.9), peak=st.floats(1e-4, 1))
def test_learning_rate_rises_to_the_peak_then_falls_towards_zero(num_steps: int, share: float, peak: float) -> None:
    num_warmup = int(share * num_steps)

    rates = [learning_rate_at(step, peak=peak, num_steps=num_steps, num_warmup=num_warmup) for step in range(num_steps)]

    rising, falling = rates[: num_warmup + 1], rates[num_warmup:]
    assert rising == pytest.approx(sorted(rising))
    assert falling == pytest.approx(sorted(falling, reverse=True))
    assert max(rates) == pytest.approx(peak)
    assert min(rates) > 0


def make_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_average_is_the_recursive_mean_of_the_states() -> None:
    module = make_module()
    average = WeightAverage(module, decay=0.5)
    weight = module.state_dict()["0.weight"]
    expected = weight.clone()

    for step in range(30):
        weight.add_(1.0)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight

    torch.testing.assert_close(average.shadow["0.weight"], expected)


def test_average_covers_batchnorm_and_counts_its_batches() -> None:
    module = make_module()
    average = WeightAverage(module, decay=0.9)
    before = average.shadow["1.running_mean"].clone()

    for step in range(3):
        module(torch.randn(8, 3) + 5)
        average.update(step)

    assert not torch.equal(average.shadow["1.running_mean"], before)
    assert int(average.shadow["1.num_batches_tracked"]) == 3
    assert average.shadow["1.num_batches_tracked"].dtype == torch.int64


def test_average_shares_no_memory_with_the_module() -> None:
    module = make_module()
    average = WeightAverage(module, decay=0.9)

    module.state_dict()["0.weight"].zero_()

    assert float(average.shadow["0.weight"].abs().sum()) > 0


def test_average_goes_on_after_it_was_restored() -> None:
    module = make_module()
    first, second = WeightAverage(module, decay=0.9), WeightAverage(module, decay=0.9)
    module.state_dict()["0.weight"].add_(1)
    first.update(0)
    saved = {name: tensor.clone() for name, tensor in first.shadow.items()}

    second.restore(saved)
    for average in (first, second):
        average.update(1)

    assert all(torch.equal(first.shadow[name], second.shadow[name]) for name in first.shadow)
