"""Channel pruning of every architecture in the catalogue: the graph and the module are cut alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from torch import nn

from catalogue import quick_names
from edgekit.core.artifact import ModelCard
from edgekit.core.errors import RecipeError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.folded import fold_batch_norms
from edgekit.models.zoo import build_model, parse_model_name
from edgekit.prune.channel_map import map_channels
from edgekit.prune.choice import ChannelPruning, plan_channels
from edgekit.prune.cutting import apply_plan
from edgekit.prune.module import cut_module
from edgekit.prune.plan import PrunePlan

SPEC = PreprocessSpec(input_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
RATIO = 0.4


def make_module(variant: str) -> nn.Module:
    """A network whose norms have statistics and scales that show when they are cut in the wrong place."""
    parsed = parse_model_name(variant)
    torch.manual_seed(0)
    module = build_model(BuildOptions(variant=parsed.variant, width=parsed.width, num_classes=10, input_size=32))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module.eval()


def run_graph(graph: Graph, pictures: npt.NDArray[np.float32], path: Path) -> npt.NDArray[np.float32]:
    write_onnx(graph, path, ModelCard(model="m", scheme="float", labels=(), preprocess=SPEC))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: pictures})[0], np.float32)


def kept_outputs(plan: PrunePlan, graph: Graph) -> dict[str, tuple[int, ...]]:
    """Output channels of every weighted layer that stay."""
    cut = {cut.layer: cut.kept_outputs for cut in plan.cuts}
    return {
        node.name: cut.get(node.name, tuple(range(len(graph.constants[node.inputs[1]]))))
        for node in graph.nodes
        if node.op in WEIGHTED_OPS
    }


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("variant", quick_names())
def test_cut_module_answers_as_the_cut_graph(variant: str, folded: bool, tmp_path: Path) -> None:
    module = make_module(variant)
    if folded:
        fold_batch_norms(module)
    graph = trace(module, (3, 32, 32), name=variant)
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=RATIO))
    pictures = torch.randn(2, 3, 32, 32)

    smaller = apply_plan(graph, plan)
    cut_module(module, plan)

    with torch.inference_mode():
        answers = module(pictures).numpy()
    expected = run_graph(smaller, pictures.numpy(), tmp_path / "m.onnx")
    np.testing.assert_allclose(answers, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert (smaller.num_params, smaller.num_macs) == (plan.num_params[1], plan.macs[1])
    assert plan.macs[1] < 0.8 * plan.macs[0]


@pytest.mark.parametrize("variant", quick_names())
def test_ratio_zero_is_no_change(variant: str) -> None:
    module = make_module(variant)
    graph = trace(module, (3, 32, 32), name=variant)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.0))

    assert plan.cuts == ()
    assert plan.macs[0] == plan.macs[1]
    assert all(group.num_kept == group.num_channels for group in plan.groups)
    assert cut_module(module, plan) == ()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    same = apply_plan(graph, plan)
    assert (same.nodes, same.shapes) == (graph.nodes, graph.shapes)
    for ratio in (1.0, -0.3):
        with pytest.raises(RecipeError, match="pruning ratio"):
            plan_channels(graph, ChannelPruning(pruning_ratio=ratio))


@pytest.mark.parametrize("variant", quick_names())
def test_groups_count_channels_and_keep_multiples_of_eight(variant: str) -> None:
    graph = trace(make_module(variant), (3, 32, 32), name=variant)
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=RATIO))
    kept = kept_outputs(plan, graph)
    channels: dict[str, int] = {}
    remaining: dict[str, int] = {}
    for group in plan.groups:
        assert group.num_kept >= (1 - RATIO) * group.num_channels - 1e-6
        assert (group.num_kept == group.num_channels) == (group.reason is not None)
        if not variant.startswith("shufflenet_v1"):  # whose channels go by steps that keep its groups equal
            assert group.num_kept % 8 == 0 or group.reason is not None or group.num_channels < 8
        channels[group.layers[0]] = channels.get(group.layers[0], 0) + group.num_channels
        remaining[group.layers[0]] = remaining.get(group.layers[0], 0) + group.num_kept
    for layer, count in remaining.items():
        if all(layer == group.layers[0] for group in plan.groups if layer in group.layers):
            assert count == len(kept[layer])
            assert channels[layer] == len(graph.constants[f"{layer}.weight"])


@pytest.mark.parametrize("groups", [2, 3, 4, 8])
def test_parts_of_grouped_convolutions_stay_equally_wide(groups: int) -> None:
    graph = trace(make_module(f"shufflenet_v1_x1_0_g{groups}"), (3, 32, 32), name="m")
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5))
    grouped = [node for node in graph.nodes if node.op == "Conv" and node.int("group") == groups]
    cuts = {cut.layer: cut for cut in plan.cuts}
    units = map_channels(graph)
    assert grouped
    for node in grouped:
        if node.name in cuts:
            for places, whole in (
                (cuts[node.name].kept_inputs, len(units.inputs[node.name])),
                (cuts[node.name].kept_outputs, len(units.outputs[node.name])),
            ):
                parts = np.bincount(np.array(places) // (whole // groups), minlength=groups)
                assert len(set(parts.tolist())) == 1


@pytest.mark.parametrize("variant", ["squeezenet1_0", "squeezenet1_1"])
def test_readers_of_a_fire_module_lose_the_channels_of_both_sides(variant: str) -> None:
    graph = trace(make_module(variant), (3, 32, 32), name="m")
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5))
    cuts = {cut.layer: cut for cut in plan.cuts}
    sides = [layer.removesuffix("expand1x1.0") for layer in cuts if layer.endswith("expand1x1.0")]
    assert len(sides) == 8
    narrowed = [
        (cuts[f"{fire}expand1x1.0"], cuts[f"{fire}expand3x3.0"], graph.constants[f"{fire}expand1x1.0.weight"].shape[0])
        for fire in sides
    ]
    readers = [cut for layer, cut in cuts.items() if layer.endswith("squeeze.0")][1:]
    for (left, right, width), reader in zip(narrowed, readers, strict=False):
        both = (*left.kept_outputs, *(width + place for place in right.kept_outputs))
        assert reader.kept_inputs == both
    assert len(readers) == 7


@pytest.mark.parametrize("variant", ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0"])
def test_split_branches_are_narrowed_inside_only(variant: str) -> None:
    graph = trace(make_module(variant), (3, 32, 32), name="m")
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5))
    smaller = apply_plan(graph, plan)
    splits = [node for node in graph.nodes if node.op == "Split"]
    assert splits
    for node in splits:
        for name in (*node.outputs, *graph.data_inputs(node)):
            assert smaller.shapes[name] == graph.shapes[name]
    narrowed = [group for group in plan.groups if group.num_kept < group.num_channels]
    assert len(narrowed) >= len(splits)


@pytest.mark.parametrize(
    "variant", ["mobilenet_v2", "efficientnet_lite0", "shufflenet_v1_x1_0_g1", "shufflenet_v1_x1_0_g3"]
)
def test_both_sides_of_every_add_keep_the_same_width(variant: str) -> None:
    graph = trace(make_module(variant), (3, 32, 32), name="m")
    smaller = apply_plan(graph, plan_channels(graph, ChannelPruning(pruning_ratio=0.5)))
    adds = [node for node in graph.nodes if node.op == "Add"]
    assert adds
    narrowed = 0
    for node in adds:
        left, right = (smaller.shapes[name] for name in graph.data_inputs(node))
        assert left == right == smaller.shapes[node.output]
        narrowed += left[1] < graph.shapes[node.output][1]
    assert narrowed
