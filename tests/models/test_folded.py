"""BatchNorm folded in the module: the same answers, the same hub graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from catalogue import quick_names
from edgekit.core.errors import GraphError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint
from edgekit.models.folded import fold_batch_norms, fold_structure
from edgekit.models.zoo import build_model, parse_model_name
from edgekit.prune.choice import ChannelPruning, plan_channels
from edgekit.prune.module import cut_module


def lively(variant: str) -> nn.Module:
    """A network whose norms do something."""
    torch.manual_seed(0)
    module = build_model(options(variant))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module.eval()


def options(variant: str) -> BuildOptions:
    parsed = parse_model_name(variant)
    return BuildOptions(variant=parsed.variant, width=parsed.width, num_classes=10, input_size=32)


def num_norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


@pytest.mark.parametrize("variant", quick_names())
def test_folded_module_is_the_same_network_in_the_hub(variant: str) -> None:
    module = lively(variant)
    before = trace(module, (3, 32, 32), name="m")
    pictures = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = module(pictures)

    fold_batch_norms(module)

    after = trace(module, (3, 32, 32), name="m")
    assert num_norms(module) == 0
    assert after.shapes == before.shapes
    for node, same in zip(after.nodes, before.nodes, strict=True):
        assert (node.name, node.op, node.outputs, node.attrs) == (same.name, same.op, same.outputs, same.attrs)
        for name, counterpart in zip(node.inputs, same.inputs, strict=True):
            if name in after.constants:
                assert np.array_equal(after.constants[name], before.constants[counterpart])
            else:
                assert name == counterpart
    with torch.inference_mode():
        torch.testing.assert_close(module(pictures), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("variant", ["mobilenet_v2_w0.5", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_folded_weights_come_back_from_a_checkpoint(variant: str, tmp_path: Path) -> None:
    module = lively(variant)
    widths = cut_module(module, plan_channels(trace(module, (3, 32, 32), name="m"), ChannelPruning(pruning_ratio=0.4)))
    fold_batch_norms(module)
    save_checkpoint(tmp_path / "c.safetensors", module.state_dict(), make_card(variant, widths=widths, folded=True))

    again, card = load_checkpoint(tmp_path / "c.safetensors")

    assert card.folded
    assert again.state_dict().keys() == module.state_dict().keys()
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_folded_module_can_be_cut_and_loaded(tmp_path: Path) -> None:
    module = lively("mobilenet_v1_w0.25")
    fold_batch_norms(module)
    widths = cut_module(module, plan_channels(trace(module, (3, 32, 32), name="m"), ChannelPruning(pruning_ratio=0.4)))
    card = make_card("mobilenet_v1_w0.25", widths=widths, folded=True)
    save_checkpoint(tmp_path / "c.safetensors", module.state_dict(), card)

    again, _ = load_checkpoint(tmp_path / "c.safetensors")

    pictures = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again(pictures), module.eval()(pictures))


def make_card(variant: str, **fields: object) -> CheckpointCard:
    return CheckpointCard(
        options=options(variant),
        labels=(),
        preprocess=PreprocessSpec(input_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3),
        dataset="none",
        num_epochs=0,
        **fields,  # pyright: ignore[reportArgumentType]
    )


def test_every_weight_of_a_folded_module_gets_a_gradient() -> None:
    module = lively("shufflenet_v1_x0_25_g3").train()
    fold_batch_norms(module)
    module(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert [name for name, weight in module.named_parameters() if weight.grad is None] == []


def test_folding_keeps_channels_last_memory_and_norms_without_affine() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False), nn.ReLU())
    module = module.to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    expected = module(torch.ones(1, 3, 8, 8))
    fold_batch_norms(module)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(module(torch.ones(1, 3, 8, 8)), expected)


def test_folding_twice_changes_nothing_more() -> None:
    module = lively("mobilenet_v1_w0.25")
    fold_batch_norms(module)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fold_batch_norms(module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


class PreActivation(nn.Module):
    """BatchNorm before the convolution (He et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.relu(self.norm(x)))


class ReadTwice(nn.Module):
    """A convolution whose output goes around its norm too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x + self.norm(x)


def test_norm_before_a_convolution_becomes_a_depthwise_one() -> None:
    module = PreActivation().eval()
    assert module.norm.running_mean is not None
    nn.init.uniform_(module.norm.weight, 0.5, 1.5)
    nn.init.normal_(module.norm.running_mean)
    pictures = torch.randn(2, 3, 8, 8)
    expected = module(pictures)
    empty = PreActivation()

    fold_batch_norms(module)
    fold_structure(empty)

    torch.testing.assert_close(module(pictures), expected)
    empty.load_state_dict(module.state_dict())
    torch.testing.assert_close(empty(pictures), expected)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (ReadTwice(), "norm cannot be folded: conv is read elsewhere too"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
            "1 cannot be folded: it keeps no running statistics",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.BatchNorm1d(4)), "2 cannot be folded"),
    ],
)
def test_norm_that_cannot_be_folded_is_named_and_nothing_changes(module: nn.Module, message: str) -> None:
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for fold in (fold_batch_norms, fold_structure):
        with pytest.raises(GraphError, match=message):
            fold(module)
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
