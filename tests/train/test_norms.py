"""BatchNorm statistics, measured anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from edgekit.core.errors import DataError
from edgekit.core.recipe import AugmentSection
from edgekit.train.feed import BatchMaker
from edgekit.train.norms import plain_batches, reestimate_norms
from toy_pictures import toy_source
from toy_training import SPEC, TinyNet

# Augmentation that would show, were it applied.
MAKER = BatchMaker(SPEC, AugmentSection(crop_padding=2, flip=True, erase=1.0), torch.device("cpu"))


def make_batches(num: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(10, 1, 12, 12, generator=generator) for _ in range(num)]


def test_statistics_are_the_average_over_the_batches() -> None:
    torch.manual_seed(0)
    module = TinyNet()
    batches = make_batches()
    with torch.no_grad():
        maps = [module.conv(batch).transpose(0, 1).flatten(1) for batch in batches]

    reestimate_norms(module, batches)

    torch.testing.assert_close(module.norm.running_mean, torch.stack([each.mean(1) for each in maps]).mean(0))
    torch.testing.assert_close(module.norm.running_var, torch.stack([each.var(1) for each in maps]).mean(0))


def test_nothing_but_statistics_changes_and_the_result_repeats() -> None:
    torch.manual_seed(0)
    module = TinyNet().train()
    module.dropout.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    reestimate_norms(module, make_batches())
    first = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    reestimate_norms(module, make_batches())

    assert all(torch.equal(tensor, first[name]) for name, tensor in module.state_dict().items())
    changed = [name for name, tensor in first.items() if not torch.equal(tensor, before[name])]
    assert changed == ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert module.norm.momentum == 0.1
    assert module.training
    assert module.norm.training
    assert not module.dropout.training


def test_no_batches_are_refused_and_nothing_changes() -> None:
    module = TinyNet()
    reestimate_norms(module, make_batches())
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(DataError, match="at least one batch"):
        reestimate_norms(module, [])
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_network_without_norms_looks_at_no_picture() -> None:
    def batches() -> Iterator[Tensor]:
        raise DataError("looked")
        yield

    reestimate_norms(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)), batches())


def test_plain_batches_are_normalized_pictures_without_augmentation() -> None:
    source = toy_source(20, size=12)
    batches = list(plain_batches(source, MAKER, batch_size=8, seed=3))
    assert [batch.shape for batch in batches] == [(8, 1, 12, 12)] * 2
    expected = MAKER.normalize(torch.from_numpy(source.pictures).permute(0, 3, 1, 2))
    given = torch.cat(batches)
    places = [int((expected == picture).flatten(1).all(1).nonzero()) for picture in given]
    assert len(set(places)) == 16
    assert places != sorted(places)


def test_plain_batches_are_drawn_by_the_seed_and_no_more_than_asked() -> None:
    source = toy_source(40, size=12)
    first, again, other = (
        torch.cat(list(plain_batches(source, MAKER, batch_size=8, seed=seed, num_batches=2))) for seed in (1, 1, 2)
    )
    assert len(first) == 16
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_batch_is_given_even_when_it_is_small() -> None:
    assert [len(batch) for batch in plain_batches(toy_source(5, size=12), MAKER, batch_size=8, seed=0)] == [5]
