from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from edgekit.core.errors import CheckpointError, GraphError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint
from edgekit.models.folded import following_norms
from edgekit.models.widths import LayerWidth, resize_layers
from edgekit.models.zoo import build_model, parse_model_name
from edgekit.prune.choice import ChannelPruning, plan_channels
from edgekit.prune.cutting import apply_plan
from edgekit.prune.module import cut_module
from edgekit.prune.plan import LayerCut

VARIANTS = (
    "squeezenet1_1",
    "mobilenet_v1",
    "mobilenet_v2",
    "shufflenet_v1_x1_0_g3",
    "shufflenet_v2_x0_5",
    "efficientnet_lite0",
    "lenet_300_100",
    "lenet5",
    "vgg16_w0.125",
    "resnet50_w0.25",
    "se_resnet18_w0.25",
    "densenet121_w0.25",
    "mobilenet_v3_small",
)


def options(variant: str) -> BuildOptions:
    parsed = parse_model_name(variant)
    return BuildOptions(variant=parsed.variant, width=parsed.width, num_classes=10, input_size=32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cut_module_is_the_network_that_the_plan_counted(variant: str, tmp_path: Path) -> None:
    module = build_model(options(variant)).eval()
    graph = trace(module, (3, 32, 32), name=variant)
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5))

    widths = cut_module(module, plan)

    after, expected = trace(module, (3, 32, 32), name=variant), apply_plan(graph, plan)
    assert (after.num_params, after.num_macs) == (plan.num_params[1], plan.macs[1])
    assert after.shapes == expected.shapes
    for name, constant in expected.constants.items():
        assert np.allclose(after.constants[name], constant, rtol=1e-5, atol=1e-7)
    pictures = torch.randn(2, 3, 32, 32)
    module.train()(pictures).sum().backward()  # it can be trained

    module.eval()
    card = CheckpointCard(
        options=options(variant),
        labels=(),
        preprocess=PreprocessSpec(input_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3),
        dataset="none",
        num_epochs=0,
        widths=widths,
    )
    save_checkpoint(tmp_path / "cut.safetensors", module.state_dict(), card)
    again, loaded_card = load_checkpoint(tmp_path / "cut.safetensors")
    assert loaded_card.widths == widths
    torch.testing.assert_close(again(pictures), module(pictures))


@pytest.mark.parametrize("variant", ["mobilenet_v2", "lenet5"])
def test_weights_that_stay_are_unchanged(variant: str) -> None:
    module = build_model(options(variant))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    plan = plan_channels(trace(module, (3, 32, 32), name="m"), ChannelPruning(pruning_ratio=0.5))
    cut_module(module, plan)
    after = module.state_dict()
    for cut in plan.cuts:
        whole = before[f"{cut.layer}.weight"]
        if whole.shape[1] == len(cut.kept_inputs) or whole.shape[1] == 1:
            continue
        expected = whole[list(cut.kept_outputs)][:, list(cut.kept_inputs)]
        assert torch.equal(after[f"{cut.layer}.weight"], expected)


def test_every_batch_norm_follows_a_convolution() -> None:
    module = build_model(options("mobilenet_v1"))
    norms = [path for paths in following_norms(module).values() for path in paths]
    assert len(norms) == len(set(norms)) == 27


def test_plan_of_another_model_is_refused() -> None:
    plan = plan_channels(
        trace(build_model(options("mobilenet_v1")), (3, 32, 32), name="m"), ChannelPruning(pruning_ratio=0)
    )
    odd = msgspec.structs.replace(plan, cuts=(LayerCut(layer="no.such", kept_inputs=(0,), kept_outputs=(0,)),))
    with pytest.raises(GraphError, match=r"no\.such"):
        cut_module(build_model(options("mobilenet_v1")), odd)


@pytest.mark.parametrize(
    "width",
    [
        LayerWidth(layer="features.0.9", num_inputs=3, num_outputs=8),
        LayerWidth(layer="features", num_inputs=3, num_outputs=8),
        LayerWidth(layer="features.0.0", num_inputs=3, num_outputs=0),
        LayerWidth(layer="features.0.0", num_inputs=3, num_outputs=8, groups=2),
    ],
)
def test_widths_that_make_no_layer_are_refused(width: LayerWidth) -> None:
    with pytest.raises(CheckpointError, match="cannot be given its width"):
        resize_layers(build_model(options("mobilenet_v1")), [width])
