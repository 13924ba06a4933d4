"""Auxiliary classifiers: they pull on the loss of training and on nothing else."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgekit.export.torch_graph import trace
from edgekit.models.counting import count_params
from edgekit.models.layers import AuxiliaryHead
from edgekit.models.zoo import build_model, parse_model_name, with_sizes
from edgekit.prune.choice import ChannelPruning, plan_channels
from edgekit.prune.module import cut_module
from edgekit.train.augment import Mixed
from edgekit.train.auxiliary import AUXILIARY_WEIGHT, AuxiliaryLoss

LABELS = torch.tensor([0, 1, 2, 3])
TARGET = Mixed(first=LABELS, second=LABELS, weight=1.0)


def googlenet() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(with_sizes(parse_model_name("googlenet_w0.25"), input_size=32, num_classes=5))


def heads_of(module: torch.nn.Module) -> list[AuxiliaryHead]:
    return [part for part in module.modules() if isinstance(part, AuxiliaryHead)]


def test_heads_get_gradients_and_their_loss_counts_three_tenths() -> None:
    module = googlenet().train()
    auxiliary = AuxiliaryLoss(module)
    seen: list[torch.Tensor] = []

    def note(_layer: torch.nn.Module, _inputs: object, logits: torch.Tensor) -> None:
        seen.append(logits)

    for head in heads_of(module):
        head.dropout.p = 0.0
        head.register_forward_hook(note)

    with auxiliary.watching():
        module(torch.randn(4, 3, 32, 32))
        loss = auxiliary.take(TARGET, 0.0)

    assert isinstance(loss, torch.Tensor)
    loss.backward()
    expected = sum(AUXILIARY_WEIGHT * functional.cross_entropy(logits, LABELS) for logits in seen)
    assert len(seen) == 2
    torch.testing.assert_close(loss, expected)
    assert all(weight.grad is not None for head in heads_of(module) for weight in head.parameters())
    assert module.get_parameter("inceptions.4a.branch1.0.weight").grad is not None
    assert module.get_parameter("inceptions.5b.branch1.0.weight").grad is None


def test_nothing_is_watched_outside_training_and_without_heads() -> None:
    module = googlenet()
    auxiliary = AuxiliaryLoss(module)
    module(torch.randn(2, 3, 32, 32))
    assert auxiliary.take(TARGET, 0.0) == 0.0

    plain = build_model(with_sizes(parse_model_name("resnet18_w0.25"), input_size=32))
    other = AuxiliaryLoss(plain)
    with other.watching():
        plain(torch.randn(2, 3, 32, 32))
        assert other.take(TARGET, 0.0) == 0.0


def test_heads_are_neither_exported_nor_counted() -> None:
    module = googlenet()
    graph = trace(module, (3, 32, 32), name="m")

    assert not [name for name in graph.constants if name.startswith("heads")]
    heads = sum(weight.numel() for head in heads_of(module) for weight in head.parameters())
    assert count_params(module) + heads == sum(weight.numel() for weight in module.parameters())


def test_head_of_a_pruned_layer_is_left_out() -> None:
    module = googlenet().train()
    cut_module(module, plan_channels(trace(module, (3, 32, 32), name="m"), ChannelPruning(pruning_ratio=0.5)))
    auxiliary = AuxiliaryLoss(module)
    with auxiliary.watching():
        module(torch.randn(4, 3, 32, 32))
        assert auxiliary.take(TARGET, 0.0) == 0.0
