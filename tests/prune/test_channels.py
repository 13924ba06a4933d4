from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import GraphError, RecipeError
from edgekit.core.graph import WEIGHTED_OPS, Array, Graph
from edgekit.export.hub import HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.prune.channel_map import map_channels
from edgekit.prune.choice import ChannelPruning, plan_channels
from edgekit.prune.cutting import apply_plan
from edgekit.prune.plan import LayerCut, PrunePlan

VARIANTS = (
    "squeezenet1_1",
    "mobilenet_v1",
    "mobilenet_v2",
    "shufflenet_v1_x1_0_g3",
    "shufflenet_v2_x0_5",
    "efficientnet_lite0",
    "lenet_300_100",
    "lenet5",
)


def load(variant: str) -> tuple[Graph, ModelCard]:
    hub = load_hub(HubRequest(model=variant, untrained=True, input_size=32))
    return hub.graph, hub.card


def run(graph: Graph, card: ModelCard, pictures: npt.NDArray[np.float32], path: Path) -> npt.NDArray[np.float32]:
    write_onnx(graph, path, card)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: pictures})[0], np.float32)


def deafened(graph: Graph, plan: PrunePlan) -> Graph:
    """The uncut network in which nothing listens to the channels that the plan removes."""
    constants: dict[str, Array] = dict(graph.constants)
    cuts = {cut.layer: cut for cut in plan.cuts}
    for node in graph.nodes:
        if node.op in WEIGHTED_OPS and node.name in cuts and not graph.is_depthwise(node):
            weight = constants[node.inputs[1]].copy()
            groups = node.int("group") if node.op == "Conv" else 1
            rows, columns = weight.shape[0] // groups, weight.shape[1]
            gone = set(range(columns * groups)) - set(cuts[node.name].kept_inputs)
            for place in gone:
                part = place // columns
                weight[part * rows : (part + 1) * rows, place % columns] = 0
            constants[node.inputs[1]] = weight
    return graph.replace(constants=constants)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cut_network_answers_as_if_nothing_listened_to_the_removed_channels(variant: str, tmp_path: Path) -> None:
    graph, card = load(variant)
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.4, round_to=4))
    smaller = apply_plan(graph, plan)
    shape = (2, *graph.shapes[graph.input][1:])
    pictures = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    expected = run(deafened(graph, plan), card, pictures, tmp_path / "all.onnx")
    got = run(smaller, card, pictures, tmp_path / "cut.onnx")

    assert plan.macs[1] < 0.8 * plan.macs[0]
    assert (smaller.num_params, smaller.num_macs) == (plan.num_params[1], plan.macs[1])
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_kept_widths_are_multiples_of_eight_where_they_can_be(variant: str) -> None:
    graph, _ = load(variant)
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.3))
    narrowed = [group for group in plan.groups if group.num_kept < group.num_channels]
    assert narrowed
    for group in narrowed:
        assert group.num_kept >= 0.7 * group.num_channels
        assert group.num_kept % 8 == 0 or "shufflenet_v1" in variant


def test_least_important_channels_go_first() -> None:
    graph, _ = load("mobilenet_v1_w0.25")
    layer = next(
        node
        for node in graph.nodes
        if node.op == "Conv" and node.int("group") == 1 and node.name != graph.nodes[0].name
    )
    scores = {layer.name: np.arange(graph.constants[layer.inputs[1]].shape[0], 0, -1.0)}
    rest = {
        node.name: np.ones(graph.constants[node.inputs[1]].shape[0])
        for node in graph.nodes
        if node.op in WEIGHTED_OPS and not graph.is_depthwise(node) and node.name != layer.name
    }
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5, round_to=1), scores | rest)
    kept = {cut.layer: cut.kept_outputs for cut in plan.cuts}[layer.name]
    assert kept == tuple(range(len(scores[layer.name]) // 2))


def test_residual_adds_lose_the_same_channels_on_both_sides() -> None:
    graph, _ = load("mobilenet_v2")
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5))
    cuts = {cut.layer: cut for cut in plan.cuts}
    shared = [group for group in plan.groups if len([layer for layer in group.layers if layer in cuts]) > 2]
    assert shared
    for group in shared:
        widths = {cuts[layer].kept_outputs for layer in group.layers if layer in cuts}
        assert len(widths) == 1


def test_removed_channel_takes_its_whole_map_from_the_linear_layer_behind() -> None:
    graph, _ = load("lenet5")  # conv2 makes 50 maps of 5x5, flattened for fc1
    cuts = {cut.layer: cut for cut in plan_channels(graph, ChannelPruning(pruning_ratio=0.4)).cuts}

    kept = cuts["conv2"].kept_outputs
    assert len(kept) == 32
    assert cuts["fc1"].kept_inputs == tuple(25 * channel + place for channel in kept for place in range(25))
    assert cuts["classifier"].kept_inputs == cuts["fc1"].kept_outputs


def test_features_of_the_picture_stay_where_a_linear_layer_reads_it() -> None:
    graph, _ = load("lenet_300_100")
    cuts = {cut.layer: cut for cut in plan_channels(graph, ChannelPruning(pruning_ratio=0.5)).cuts}

    assert cuts["fc1"].kept_inputs == tuple(range(32 * 32))
    assert len(cuts["fc1"].kept_outputs) == 152


def test_split_channels_stay_and_the_plan_says_why() -> None:
    graph, _ = load("shufflenet_v2_x0_5")
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5))
    reasons = {group.reason for group in plan.groups if group.reason}
    assert any(reason.startswith(("Split at", "Slice at")) for reason in reasons)
    assert any("output" in reason for reason in reasons)


def test_ignored_layers_keep_their_channels() -> None:
    graph, _ = load("squeezenet1_1")
    layer = next(node.name for node in graph.nodes if "squeeze" in node.name and node.op == "Conv")
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5, ignored_layers=(layer,)))
    cut = {cut.layer: cut for cut in plan.cuts}.get(layer)
    assert cut is None or len(cut.kept_outputs) == len(map_channels(graph).outputs[layer])


def test_ratio_zero_changes_nothing() -> None:
    graph, _ = load("mobilenet_v1_w0.25")
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.0))
    assert plan.cuts == ()
    assert plan.macs[0] == plan.macs[1]


@pytest.mark.parametrize("ratio", [1.0, -0.1, float("nan")])
def test_ratio_that_leaves_nothing_is_refused(ratio: float) -> None:
    graph, _ = load("mobilenet_v1_w0.25")
    with pytest.raises(RecipeError, match="pruning ratio"):
        plan_channels(graph, ChannelPruning(pruning_ratio=ratio))


def test_unknown_ignored_layer_is_refused() -> None:
    graph, _ = load("mobilenet_v1_w0.25")
    with pytest.raises(RecipeError, match="nowhere"):
        plan_channels(graph, ChannelPruning(pruning_ratio=0.1, ignored_layers=("nowhere",)))


def test_every_group_keeps_something_however_high_the_ratio() -> None:
    graph, _ = load("mobilenet_v2_w0.5")
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.99, round_to=1))
    assert min(group.num_kept for group in plan.groups) >= 1


def test_plan_survives_json() -> None:
    graph, _ = load("mobilenet_v1_w0.25")
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.5))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=PrunePlan) == plan


def test_plan_of_another_model_is_refused() -> None:
    plan = plan_channels(load("mobilenet_v2")[0], ChannelPruning(pruning_ratio=0.5))
    with pytest.raises(GraphError, match="does not fit"):
        apply_plan(load("squeezenet1_1")[0], plan)


def test_plan_that_removes_the_models_outputs_is_refused() -> None:
    graph, _ = load("mobilenet_v1_w0.25")
    classifier = next(node.name for node in graph.nodes if node.op == "Gemm")
    inputs = tuple(range(graph.constants[f"{classifier}.weight"].shape[1]))
    plan = plan_channels(graph, ChannelPruning(pruning_ratio=0.0))
    odd = msgspec.structs.replace(plan, cuts=(LayerCut(layer=classifier, kept_inputs=inputs, kept_outputs=(0, 1)),))
    with pytest.raises(GraphError, match="the model's output"):
        apply_plan(graph, odd)
